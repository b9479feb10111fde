"""An artefact whose only signature is `tensors`: it holds no op of tf.text, so that programs without it load it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.export import artefact, prepare, serve
from support.paths import ROOT

import tfvl
from tfvl.cli import app as cli
from tfvl.export.loaded import LoadedModel

# As `saved_model_cli`, Triton and TensorFlow's other languages load it: nothing registers the ops of tf.text.
SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
directory, inputs, outputs = sys.argv[1:]
signature = tf.saved_model.load(directory).signatures["tensors"]
with np.load(inputs) as arrays:
    found = signature(**{name: tf.constant(array) for name, array in arrays.items()})
np.savez(outputs, **{name: value.numpy() for name, value in found.items()})
assert not [name for name in sys.modules if name.startswith(("tensorflow_text", "tfvl"))]
"""
README = ROOT / "tfvl/export/README.md"
CHOSEN = ("--tag_set", "serve", "--signature_def")
TOLERANCE = 1e-6  # the same function, traced once more


@pytest.mark.parametrize("class_name", ["ViltForMaskedLM", "LxmertForPreTraining"])
def test_it_loads_where_tf_text_is_not_registered(class_name, tmp_path):
    exported, inputs = artefact(class_name), prepare(class_name)
    directory = tmp_path / "model" / "1"
    tfvl.export.saved_model(exported.model, exported.processor, directory, signatures="tensors")
    report = tfvl.export.check(directory)
    assert report.signatures.keys() == {"tensors"}
    assert report.problems == ()
    (warmup,) = report.warmup
    assert warmup.keys() == report.signatures["tensors"]["inputs"].keys()
    np.savez(tmp_path / "in.npz", **inputs)
    command = [sys.executable, "-c", SCRIPT, directory, tmp_path / "in.npz", tmp_path / "out.npz"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = serve(class_name, "tensors", **inputs)
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def test_saved_model_cli_runs_it(tmp_path):
    class_name, directory = "VisualBertForQuestionAnswering", tmp_path / "model" / "1"
    exported, inputs = artefact(class_name), prepare(class_name)
    tfvl.export.saved_model(exported.model, exported.processor, directory, signatures="tensors")
    np.savez(tmp_path / "in.npz", **inputs)
    given = ";".join(f"{name}={tmp_path / 'in.npz'}[{name}]" for name in inputs)
    tool = ["-m", "tensorflow.python.tools.saved_model_cli"]
    run_tool(*tool, "run", "--dir", directory, *CHOSEN, "tensors", "--inputs", given, "--outdir", tmp_path)
    for name, value in serve(class_name, "tensors", **inputs).items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_documented_command_shows_both_signatures():
    code = re.search(r'^python -c "(import tensorflow_text.*)"', README.read_text(), re.MULTILINE)[1]
    shown = run_tool("-c", code, "show", "--dir", artefact("ViltForMaskedLM").directory, *CHOSEN, "serving_default")
    assert "outputs['status'] tensor_info" in shown


def run_tool(*arguments) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_default_is_both(tmp_path):
    assert tfvl.export.check(artefact("ViltForMaskedLM").directory).signatures.keys() == {"serving_default", "tensors"}


@pytest.mark.parametrize("names", ["tensor", ["tensors", "serve"], []])
def test_signatures_that_there_are_not(names, tmp_path):
    exported = artefact("ViltForMaskedLM")
    with pytest.raises(ValueError, match=r"signatures (names 'serve'|names 'tensor'|is empty), expected serving_def"):
        tfvl.export.saved_model(exported.model, exported.processor, tmp_path / "1", signatures=names)
    assert not (tmp_path / "1").exists()


def test_on_the_command_line(capsys, tmp_path):
    directory = tmp_path / "model" / "1"
    assert cli.main(["export", "shapes-lxmert", str(directory), "--signatures", "tensors"]) == 0
    assert "tfvl ask" not in capsys.readouterr().out
    assert list(tf.saved_model.load(str(directory)).signatures) == ["tensors"]
    with pytest.raises(ValueError, match="has no signature serving_default; export the model without --signatures"):
        LoadedModel(str(directory))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--signatures", "x"], "signatures names 'x', expected serving_default or tensors"),
        (["--signatures", "tensors", "--format", "tflite"], "--signatures is an option of --format savedmodel"),
        (["--signatures", "tensors", "--detector", "shapes-detector"], "--detector is part of serving_default"),
    ],
)
def test_what_the_command_line_refuses(more, sentence, capsys, tmp_path):
    assert cli.main(["export", "shapes-lxmert", str(tmp_path / "x"), *more]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
