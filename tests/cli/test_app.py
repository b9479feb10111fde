"""The command line: what each command does on a tiny model, and one line on stderr for every mistake."""

import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from support.checkpoint import LABELS, save_tiny
from support.cli import fails, scores, sources_opened_once
from support.paths import ROOT

import tfvl
from tfvl import shapes
from tfvl.cli import app as cli
from tfvl.cli.ask import looks_drawn

opened_once = pytest.fixture(scope="module", autouse=True)(sources_opened_once)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "vqa")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "vqa" / "1"
    assert cli.main(["export", str(checkpoint), str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    Image.new("RGB", (50, 40), "red").save(path)
    return path


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(capsys, arguments):
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert all(command in output for command in ("demo", "ask", "port", "export", "check", "regions"))


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from tfvl.cli.app import main; code = main(['export', '--help']);"
        "print([m for m in ('tensorflow', 'keras', 'numpy', 'huggingface_hub') if m in sys.modules]); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert result.stderr == ""


def test_ask_prints_a_score_for_each_answer(capsys, checkpoint, picture):
    assert cli.main(["ask", str(picture), "what color is the circle?", "--model", str(checkpoint)]) == 0
    answers = scores(capsys.readouterr().out)
    assert set(answers) == set(LABELS.values())
    assert list(answers.values()) == sorted(answers.values(), reverse=True)


def test_ask_takes_top_k(capsys, checkpoint, picture):
    assert cli.main(["ask", str(picture), "what?", "--model", str(checkpoint), "--top-k", "1"]) == 0
    assert len(scores(capsys.readouterr().out)) == 1


def test_ask_gives_the_same_from_the_exported_model(capsys, checkpoint, exported, picture):
    outputs = []
    for model in (checkpoint, exported):
        assert cli.main(["ask", str(picture), "how many red circles?", "--model", str(model)]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_ask_reads_webp(capsys, checkpoint, picture, tmp_path):
    Image.open(picture).save(tmp_path / "red.webp", lossless=True)
    outputs = []
    for path in (picture, tmp_path / "red.webp"):
        assert cli.main(["ask", str(path), "what?", "--model", str(checkpoint)]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_ask_fills_masks(capsys, picture, tmp_path):
    save_tiny(tmp_path, "ViltForMaskedLM")
    assert cli.main(["ask", str(picture), "the [MASK] is red", "--model", str(tmp_path), "--top-k", "3"]) == 0
    filled, question, *_ = (output := capsys.readouterr().out).splitlines()
    assert filled == f"the {next(iter(scores(output))).removeprefix('##')} is red"
    assert question == "the [MASK] is red"


def test_ask_compares_two_images(capsys, picture, tmp_path):
    save_tiny(tmp_path, "ViltForImagesAndTextClassification", num_images=2, modality_type_vocab_size=3)
    arguments = ["ask", picture, "the left is red", "--model", tmp_path]
    assert cli.main([*map(str, arguments), "--image", str(picture)]) == 0
    assert sum(scores(capsys.readouterr().out).values()) == pytest.approx(1, abs=2e-4)  # four decimals each
    assert fails(capsys, *arguments).endswith("takes 2 images with a text, got 1")


def test_ask_the_bare_model_is_a_mistake(capsys, picture, tmp_path):
    save_tiny(tmp_path, "ViltModel")
    assert "has no head that answers" in fails(capsys, "ask", picture, "what?", "--model", tmp_path)


def test_port_writes_the_hub_layout(capsys, checkpoint, tmp_path):
    assert cli.main(["port", str(checkpoint), str(tmp_path / "ported")]) == 0
    assert "ViltForQuestionAnswering" in capsys.readouterr().out
    for name in ("model.safetensors", "vocab.txt", "preprocessor_config.json"):
        assert (tmp_path / "ported" / name).read_bytes() == (checkpoint / name).read_bytes()
    config = json.loads((tmp_path / "ported" / "config.json").read_text())
    assert config["architectures"] == ["ViltForQuestionAnswering"]


def test_port_converts_the_dtype(checkpoint, tmp_path):
    from safetensors.numpy import load_file

    assert cli.main(["port", str(checkpoint), str(tmp_path / "half"), "--dtype", "float16"]) == 0
    assert {str(array.dtype) for array in load_file(tmp_path / "half" / "model.safetensors").values()} == {"float16"}


def test_port_without_tokenizer_says_so(capsys, checkpoint, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((checkpoint / name).read_bytes())
    assert cli.main(["port", str(bare), str(tmp_path / "ported")]) == 0
    assert "not written" in capsys.readouterr().out
    assert (tmp_path / "ported" / "model.safetensors").is_file()


def test_port_knows_the_old_name_of_the_class(capsys, checkpoint, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for path in checkpoint.iterdir():
        (old / path.name).write_bytes(path.read_bytes())
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(config | {"architectures": ["ViltForVisualQuestionAnswering"]}))
    assert cli.main(["port", str(old), str(tmp_path / "ported")]) == 0
    assert "ViltForQuestionAnswering" in (tmp_path / "ported" / "config.json").read_text()


def test_port_check_without_torch_is_one_line(capsys, monkeypatch, checkpoint, tmp_path):
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    line = fails(capsys, "port", checkpoint, tmp_path / "ported", "--check")
    assert "torch and transformers" in line
    assert "pip install torch transformers (the extra 'parity' of tfvl brings them)" in line
    assert not (tmp_path / "ported").exists()


def test_check_lists_the_signatures(capsys, exported):
    assert cli.main(["check", str(exported)]) == 0
    output = capsys.readouterr().out
    assert all(word in output for word in ("serving_default", "tensors", "answers", "pixel_values", "0 problems"))


def test_export_does_not_overwrite_unless_asked(capsys, checkpoint, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").touch()
    assert "--overwrite" in fails(capsys, "export", checkpoint, tmp_path / "1")
    assert "--overwrite" in fails(capsys, "port", checkpoint, tmp_path / "1")
    arguments = ["export", str(checkpoint), str(tmp_path / "1"), "--signatures", "tensors"]
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert not (tmp_path / "1" / "precious").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "No such option"),
        (["export", "x"], "DST"),
        (["demo", "--seed", "three"], "--seed"),
        (["ask", "no-such.png", "what?"], "no-such.png"),
        (["export", "./no-such-directory", "out"], "no-such-directory"),
        (["export", "not a hub id!", "out"], "not a hub id!"),
        (["port", "./no-such-directory", "out"], "no-such-directory"),
        (["check", "no-such-directory"], "no-such-directory"),
    ],
)
def test_mistakes_are_one_line_and_code_2(capsys, monkeypatch, tmp_path, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert complaint in fails(capsys, *arguments)


def test_file_that_is_no_image(capsys, checkpoint):
    line = fails(capsys, "ask", checkpoint / "vocab.txt", "what?", "--model", checkpoint)
    assert "vocab.txt" in line


def test_empty_question_is_a_mistake(capsys, checkpoint, picture):
    assert "empty" in fails(capsys, "ask", picture, " ", "--model", checkpoint)


def test_checkpoint_of_another_class(capsys, checkpoint, tmp_path):
    line = fails(capsys, "port", checkpoint, tmp_path / "out", "--class", "ViltForEverything")
    assert "'ViltForEverything'" in line
    assert "ViltForMaskedLM" in line  # it says which there are


def test_warnings_are_one_line(capsys, checkpoint, tmp_path):
    """A head that the checkpoint lacks is initialised; the user reads that in one line."""
    assert cli.main(["port", str(checkpoint), str(tmp_path / "out"), "--class", "ViltForTokenClassification"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tfvl: warning: ")]
    assert len(lines) == 1
    assert "classifier" in lines[0]


def raising(error):
    def command(*_, **__):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("two\nlines"), 2),
        (FileNotFoundError(2, "No such file or directory", "gone"), 2),
        (PermissionError(13, "Permission denied", "locked"), 2),
        (KeyError("surprise"), 1),
    ],
)
def test_errors_inside_a_command(capsys, monkeypatch, tmp_path, error, code):
    monkeypatch.delenv("TFVL_TRACEBACK", raising=False)
    monkeypatch.setattr("tfvl.export.check", raising(error))
    line = fails(capsys, "check", tmp_path, code=code)
    assert ("TFVL_TRACEBACK=1" in line) == (code == 1)


def test_traceback_on_request(monkeypatch, tmp_path):
    monkeypatch.setenv("TFVL_TRACEBACK", "1")
    monkeypatch.setattr("tfvl.export.check", raising(KeyError("surprise")))
    with pytest.raises(KeyError, match="surprise"):
        cli.main(["check", str(tmp_path)])


def test_interrupt_is_130(monkeypatch, tmp_path):
    monkeypatch.setattr("tfvl.export.check", raising(KeyboardInterrupt()))
    assert cli.main(["check", str(tmp_path)]) == 130


def test_tensorflow_is_silent_in_a_process_of_its_own(tmp_path):
    """Not even the lines that TensorFlow writes to the file descriptor while it loads."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "tfvl.cli.app", "check", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "saved_model.pb is missing" in line


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfvl {tfvl.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_wrong_option_points_to_the_help_of_its_command(capsys, command):
    assert fails(capsys, command, "--no-such-option").endswith(f"(see `tfvl {command} --help`)")


def test_names_of_extras_are_shown(capsys):
    assert cli.main(["port", "--help"]) == 0
    assert "tfvl[parity]" in capsys.readouterr().out


def test_the_shell_completes_commands():
    environment = os.environ | {"_TFVL_COMPLETE": "complete_bash", "COMP_WORDS": "tfvl dem", "COMP_CWORD": "1"}
    code = "import sys; from tfvl.cli.app import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["demo"]


def test_ask_takes_several_questions(capsys, checkpoint, picture, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("what?\n\nhow many?\n"))
    assert cli.main(["ask", str(picture), "which?", "-", "--model", str(checkpoint), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [result["question"] for result in document["results"]] == ["which?", "what?", "how many?"]
    assert {answer["answer"] for answer in document["results"][0]["answers"]} == set(LABELS.values())
    assert document["images"] == [str(picture)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "no questions on stdin" in fails(capsys, "ask", picture, "-", "--model", checkpoint)


def test_the_bundled_model_says_that_it_knows_no_photographs():
    def encoded(image, kind):
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    drawn = (shapes.draw_scene(seed).image() for seed in range(20))
    assert all(looks_drawn(encoded(image, kind)) for image in drawn for kind in ("PNG", "JPEG"))
    data = ROOT / "tests" / "data"
    assert not any(looks_drawn((data / name).read_bytes()) for name in ("astronaut.png", "rocket.jpg", "cat_444.jpg"))


def test_an_export_without_a_version_number_says_so(capsys, checkpoint, tmp_path):
    assert cli.main(["export", str(checkpoint), str(tmp_path / "vqa"), "--signatures", "tensors"]) == 0
    captured = capsys.readouterr()
    assert f"export to {tmp_path / 'vqa' / '1'}" in captured.err
    assert "tensorflow_model_server" not in captured.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--task", "shapes", "--model", "shapes-vilt", "--out", "out"),
        ("eval", "--task", "shapes", "--model", "shapes-vilt"),
        ("demo", "--out", "out"),
        ("export", "shapes-vilt", "out/1"),
        ("serve", "."),
        ("regions", ".", "--out", "out.h5", "--detector", "shapes-detector"),
    ],
)
def test_what_needs_tensorflow_says_so_at_once(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.chdir(tmp_path)
    assert "runs on TensorFlow, but the Keras backend is 'jax'; set KERAS_BACKEND" in fails(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_check_as_json(capsys, exported):
    assert cli.main(["check", str(exported), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] == []
    assert document["signatures"]["serving_default"]["outputs"].keys() >= {"answers", "scores", "status"}
    assert "2.20" in document["served_by"]
