"""The client's side of a `.tflite` file: its tokenizer and image processor are the graph's; and what it refuses."""

import dataclasses
import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import helpers_images
import helpers_text
import numpy as np
import pytest
from PIL import Image

import tfvl
from tfvl import cli, shapes
from tfvl.lite import Runner, file, tokenizer
from tfvl.lite.image import ImageProcessor
from tfvl.preprocessing import vocabulary

needs_runtime = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])")
DEFAULTS = {
    **{"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "never_split": None},
    **vocabulary.SPECIAL_TOKENS,
    "additional_special_tokens": [],
}
EVERY_ID = 10**9
EXAMPLE = Path(__file__).parents[1] / "examples/lite/tokenizer.mjs"


def client_tokenizer(vocab: dict, **options) -> tokenizer.Tokenizer:
    options = DEFAULTS | options
    vocab = vocabulary.with_added(vocab, options["additional_special_tokens"])
    return tokenizer.Tokenizer(vocab, options, tokenizer.pack(options))


@pytest.fixture(scope="module")
def vocab():
    return vocabulary.read_vocab(helpers_text.VOCAB)


@pytest.mark.parametrize("name", helpers_text.VARIANTS)
def test_ids_are_upstreams(vocab, name):
    golden = np.load(helpers_text.TEXT, allow_pickle=False)[f"ids_{name}"]
    encode = client_tokenizer(vocab, **helpers_text.VARIANTS[name]).encode
    texts = helpers_text.variant_corpus(name)
    digests = helpers_text.digests(encode(text, length=EVERY_ID)[0] for text in texts)
    assert [text for text, wrong in zip(texts, digests != golden, strict=True) if wrong][:5] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("name", ["chinese_joined", "cased_stripped", "odd_special_tokens"])
def test_ids_of_the_example_in_javascript_are_upstreams(vocab, tmp_path, name):
    options = DEFAULTS | helpers_text.VARIANTS[name] | {"model_max_length": 40}
    described = {"head": "ViltModel", "config": {}, "tokenizer": options, "inputs": {}, "outputs": [], "top_k": 1}
    path = tmp_path / "x.tflite"
    file.write(file.LiteFile(path, described, vocab, ("a",), tokenizer.pack(options)), b"\0\0\0\0TFL3")
    texts = helpers_text.variant_corpus(name)
    done = subprocess.run(
        ["node", EXAMPLE, path, "-"],
        input="\n".join(map(json.dumps, texts)),
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [vocab[options[token]] for token in ("cls_token", "sep_token")]
    rows = [[ends[0], *json.loads(line), ends[1]] for line in done.stdout.splitlines()]
    golden = np.load(helpers_text.TEXT, allow_pickle=False)[f"ids_{name}"]
    np.testing.assert_array_equal(helpers_text.digests(rows), golden)


def test_pairs_truncation_bytes_and_words_that_are_never_split(vocab):
    options = {"never_split": ["what's", "U.S.A."], "additional_special_tokens": ["[DET]"]}
    graph, client = tfvl.BertTokenizer(vocab, **options), client_tokenizer(vocab, **options)
    texts = ["what's that?", "the U.S.A. [DET] unaffable", "a b c d e f g h i", "", "x\udc80y[MASK]"]
    for text in texts:
        for pair in (None, *texts):
            for length in (3 if pair is None else 4, 9, 40):
                clean = [each and each.encode("utf-8", "replace").decode() for each in (text, pair)]
                row = graph(*clean, max_length=length)
                ids, types = client.encode(*clean, length=length)
                assert ids == row["input_ids"][0].numpy().tolist()
                assert types == row["token_type_ids"][0].numpy().tolist()
    assert client(b"\xffred") == client("red")


@pytest.mark.parametrize("options", [{}, {"resample": 2, "image_std": (0.2, 0.3, 0.4)}, {"do_resize": False}])
def test_pixels_are_the_processors(options):
    processor = tfvl.ViltImageProcessor(**options)
    described = {**processor.to_dict(), "max_pixels": processor.max_pixels}
    client = ImageProcessor(described, None, padded=False)
    for name, image in helpers_images.cases().items():
        expected = processor([image])
        pixels, mask = client(image)
        np.testing.assert_array_equal(pixels, expected["pixel_values"][0], err_msg=name)
        assert mask.all()
        assert mask.shape == expected["pixel_mask"].shape[1:]


def test_images_in_a_fixed_size_are_padded_or_shrunk_to_fit():
    processor = tfvl.ViltImageProcessor()
    described = {**processor.to_dict(), "max_pixels": processor.max_pixels}
    client = ImageProcessor(described, (384, 384), padded=True)
    photo = helpers_images.photo(640, 480)
    pixels, mask = client(photo)
    expected = processor([photo], size=288)["pixel_values"][0]  # the largest size of which 4:3 fits
    assert mask.sum() == 288 * 384
    np.testing.assert_array_equal(pixels[:288], expected)
    assert not pixels[288:].any()
    with pytest.raises(ValueError, match=r"384 x 512 pixels after resizing, but the file takes 384 x 384; .*384x512"):
        ImageProcessor(described, (384, 384), padded=False)(photo)


# ── a file ──


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The bundled model as 8-bit weights, by the command line."""
    path = tmp_path_factory.mktemp("files") / "shapes.tflite"
    assert cli.main(["export", "shapes-vilt", str(path), "--format", "tflite", "--quantize", "dynamic"]) == 0
    return path


def test_the_file_holds_all_that_it_takes(exported):
    described = file.read(exported)
    model, processor = tfvl.auto.load("shapes-vilt")
    assert described.labels == tuple(model.config.id2label.values())
    assert described.vocabulary == processor.tokenizer.get_vocab()
    assert tfvl.ViltConfig.from_dict(described.config) == model.config
    assert described.description["head"] == "ViltForQuestionAnswering"
    assert described.description["inputs"]["pixel_values"] == {"shape": [1, 64, 64, 3], "dtype": "float32"}


@needs_runtime
@pytest.mark.parametrize("runtime", ["litert", "tensorflow"])
def test_rows_answer_as_if_alone(exported, runtime):
    runner = Runner(exported, runtime=runtime, threads=1)
    asked = list(shapes.held_out_questions(5))
    images, texts = [scene.image() for scene, _ in asked], [question.text for _, question in asked]
    rows = runner(images=images, text=texts)
    assert [row["answers"][0] for row in rows] == [question.answer for _, question in asked]
    for image, text, row in zip(images, texts, rows, strict=True):
        (alone,) = runner(images=image, text=text)
        np.testing.assert_array_equal(alone["scores"], row["scores"])
    assert len(runner(images=images[0], text=texts)) == 5


@needs_runtime
def test_ask_and_check_take_the_file(capsys, exported, tmp_path):
    picture = tmp_path / "scene.png"
    shapes.draw_scene(23).image().save(picture)
    assert cli.main(["ask", str(picture), "what color is the triangle?", "--model", str(exported)]) == 0
    assert "red" in capsys.readouterr().out
    assert cli.main(["check", str(exported)]) == 0
    assert "builtin operators" in capsys.readouterr().out


def truncated(path, contents):
    path.write_bytes(contents[: len(contents) // 2])


def without_metadata(path, contents):
    path.write_bytes(contents[: contents.index(b"PK\x03\x04")])


def not_a_model(path, contents):
    path.write_bytes(b"<html>" + contents[6:])


def other_head(path, contents):
    path.write_bytes(contents)
    described = file.read(path)
    file.write(
        dataclasses.replace(described, description=described.description | {"head": "BertModel"}),
        contents[: described.description["model_bytes"]],
    )


def damaged_archive(path, contents):
    path.write_bytes(contents.replace(b"PK\x03\x04", b"PK\x03\x05", 1))


@needs_runtime
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncated, "cut short"),
        (without_metadata, "no description of tfvl"),
        (not_a_model, "no .tflite file"),
        (other_head, "holds a BertModel"),
        (damaged_archive, "Bad magic number"),
    ],
)
def test_files_that_are_refused(capsys, exported, tmp_path, damage, complaint):
    path, picture = tmp_path / "bad.tflite", tmp_path / "scene.png"
    damage(path, exported.read_bytes())
    with pytest.raises(ValueError, match=complaint):
        Runner(path)
    shapes.draw_scene(1).image().save(picture)
    capsys.readouterr()
    assert cli.main(["ask", str(picture), "what?", "--model", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfvl: ")


@needs_runtime
def test_wrong_inputs_name_the_expected_ones(exported):
    runner = Runner(exported)
    inputs = {name: np.zeros(shape, runner.dtype(name)) for name, shape in runner.inputs.items()}
    with pytest.raises(ValueError, match=r"input_ids is int32 \(1, 7\), but the file takes int32 \(1, 40\)"):
        runner.run(inputs | {"input_ids": np.zeros((1, 7), np.int32)})
    with pytest.raises(ValueError, match=r"takes attention_mask, input_ids, .*got input_ids"):
        runner.run({"input_ids": inputs["input_ids"]})
    image = shapes.draw_scene(1).image()
    for asked, complaint in (
        ({"images": [image], "text": ""}, "expected a text that is not empty"),
        ({"images": [image] * 2, "text": ["a"] * 3}, "3 texts and 2 images"),
        ({"text": "a"}, "images is missing"),
        ({"regions": [np.zeros((2, 3))], "text": "a"}, "takes images and text, not regions"),
        ({"images": [b"no image"], "text": "a"}, r"images\[0\]: "),
    ):
        with pytest.raises(ValueError, match=complaint):
            runner(**asked)
    with pytest.raises(ValueError, match="threads is 0"):
        Runner(exported, threads=0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"quantize": "int4"}, "quantize is 'int4'"),
        ({"image_size": 70}, "multiples of the patch"),
        ({"text_length": 400}, "text_length is 400, expected 3 to 40"),
        ({"batch": 0}, "batch is 0"),
        ({"calibration": []}, "calibration is for"),
    ],
)
def test_exports_that_are_refused(tmp_path, options, complaint):
    model, processor = tfvl.auto.load("shapes-vilt")
    with pytest.raises(ValueError, match=complaint):
        tfvl.export.lite(model, processor, tmp_path / "x.tflite", **options)
    assert not list(tmp_path.iterdir())


def test_an_operation_that_tflite_lacks_is_named_before_the_conversion(tmp_path, monkeypatch):
    from importlib import import_module

    module = import_module("tfvl.export.tflite")
    monkeypatch.setattr(module, "convert", lambda *_: pytest.fail("converted"))
    model, processor = tfvl.auto.load("shapes-vilt")
    model = tfvl.ViltForQuestionAnswering(model.config.replace(hidden_act="selu"))
    with pytest.raises(ValueError, match="4 × Selu in its graph: TFLite has no SELU"):
        module.lite(model, processor, tmp_path / "x.tflite")


def test_export_does_not_overwrite_unless_asked(exported):
    before = exported.read_bytes()
    arguments = ["export", "shapes-vilt", str(exported), "--format", "tflite"]
    assert cli.main(arguments) == 2
    assert exported.read_bytes() == before


def test_options_of_tflite_alone_are_a_mistake(capsys, tmp_path):
    assert cli.main(["export", "shapes-vilt", str(tmp_path / "1"), "--quantize", "dynamic"]) == 2
    assert "--quantize is an option of --format tflite" in capsys.readouterr().err


# ── how far the bundled models drift ──

# The issue's: dynamic agrees on the best answer in 99 % of the questions and loses at most half a point.
AGREEMENT, LOSS = 0.99, 0.005


@needs_runtime
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        ("shapes-vilt", "dynamic"),
        ("shapes-visual-bert", "dynamic"),
        ("shapes-lxmert", "dynamic"),
        ("shapes-vilt", "int8"),
    ],
)
def test_bundled_models_keep_their_answers(tmp_path, name, quantize):
    from tfvl.export.lite_drift import drift, plot

    model, processor = tfvl.auto.load(name)
    path = tfvl.export.lite(model, processor, tmp_path / "x.tflite", quantize=quantize)
    report = drift(path, name, 300)
    before, after = report.accuracy
    assert after >= before - LOSS
    assert before > 0.9
    assert all(each.top_1 >= AGREEMENT for each in report.outputs)
    if quantize == "int8":
        assert len(file.read(path).description["sensitivity"]) > 10
    if find_spec("matplotlib"):
        plot([report], tmp_path / "drift.png")
        assert Image.open(tmp_path / "drift.png").size[0] > 500
