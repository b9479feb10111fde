"""`tfvl.lite.attach`: a model that another program rewrote gets tfvl's archive again, or is refused."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from support.export_regions import regions_of
from support.lite_files import bundled_file, head_file
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

import tfvl
from tfvl import shapes
from tfvl.lite import Runner, file

pytestmark = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])")


def rewritten(source, path, change=lambda model: None):
    """Writes a file's model as another program does: from the flatbuffer's objects, without the archive behind it."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(source.read_bytes()))
    change(model)
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return path


def halve_the_largest_weight(model) -> None:
    largest = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda buffer: len(buffer.data))
    values = np.frombuffer(bytes(largest.data), np.float32) / 2
    largest.data = np.frombuffer(values.tobytes(), np.uint8)


def add_an_operator(model) -> None:
    code = schema.OperatorCodeT()
    code.customCode, code.builtinCode = b"FlexSelu", schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes.append(code)


def test_the_archive_behind_a_rewritten_model(tmp_path):
    original = bundled_file("shapes-vilt")
    path = rewritten(original, tmp_path / "x.tflite")
    with pytest.raises(ValueError, match="has no description of tfvl behind its model"):
        Runner(path)
    assert tfvl.lite.attach(path, like=original) == path
    asked = {"images": shapes.draw_scene(23).image(), "text": "what color is the triangle?"}
    (found,), (expected,) = Runner(path)(**asked), Runner(original)(**asked)
    assert found["answers"] == expected["answers"]
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=1e-6)
    said, before = file.read(path).description, file.read(original).description
    assert said["quantize"] == "as another program left them"
    assert {name for name in before if said[name] != before[name]} <= {"quantize", "model_bytes"}


def test_the_weights_are_those_of_the_rewritten_model(tmp_path):
    """And a file is written anew, whole, beside which nothing stays."""
    original = head_file("VisualBertForQuestionAnswering")
    path = rewritten(original, tmp_path / "x.tflite", halve_the_largest_weight)
    tfvl.lite.attach(str(path), like=str(original))
    assert [each.name for each in tmp_path.iterdir()] == ["x.tflite"]
    asked = {"regions": regions_of()[0], "text": "what color is the circle?"}
    (found,), (expected,) = Runner(path)(**asked), Runner(original)(**asked)
    assert np.abs(found["scores"] - expected["scores"]).max() > 1e-3


def test_what_does_not_belong_together_is_refused(tmp_path):
    original, other = bundled_file("shapes-vilt"), head_file("VisualBertForQuestionAnswering")
    bare = rewritten(original, tmp_path / "bare.tflite")
    cases = {
        "has an archive behind its model already": (shutil.copy(original, tmp_path), original),
        "has no description of tfvl behind its model": (bare, bare),
        r"was not made of .*: input \w+ is .*, not ": (bare, other),
        "holds FlexSelu, which is no builtin operator": (
            rewritten(original, tmp_path / "flex.tflite", add_an_operator),
            original,
        ),
    }
    (tmp_path / "text.tflite").write_text("no model at all")
    cases["is no .tflite file; give what another program made"] = (tmp_path / "text.tflite", original)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(bare.read_bytes()[: bare.stat().st_size // 2])
    cases["the model cannot be loaded"] = (damaged, original)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for sentence, (path, like) in cases.items():
        with pytest.raises(ValueError, match=sentence) as refusal:
            tfvl.lite.attach(path, like=like)
        assert "\n" not in str(refusal.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_other_runtimes_cannot_run_is_said_where_the_options_are():
    """And refused where `Runner` would hand the file to that runtime, see test_runtime.py."""
    for option in ("flavour", "resizable"):
        said = tfvl.export.lite.__doc__.partition(f"        {option}: ")[2].partition("\n        " + "quantize: ")[0]
        assert "CompiledModel" in said
        assert "@litertjs/core" in said
