"""The flavour `text` of a `.tflite` file: raw questions in, the exact tokenizer's ids inside, the same answers out."""

import dataclasses
import sys
from importlib import import_module

import numpy as np
import pytest
import tensorflow_text as tf_text
from support import added_tokens, bert_texts
from support.checkpoint import tiny_processor
from support.export import random_model
from support.export_regions import region_processor
from support.lite_text import case_client, client_tokenizer, text_flavour

import tfvl
from tfvl import shapes
from tfvl.cli import app as cli
from tfvl.export.tflite import ops as lite_ops
from tfvl.export.tflite import text as lite_text
from tfvl.export.tflite.drift import drift
from tfvl.lite import Runner, file
from tfvl.preprocessing.text import vocabulary

TOLERANCE = 1e-5  # the same graph behind the same ids, though XNNPACK may cut it into other parts
LENGTH = 48
READ = 16 * LENGTH  # characters of a text
SIZES = {"image_size": 64, "regions": 5, "batch": 2}
TEXTS = [
    "How many [MASK] are there?",
    "naïve Straße \u0301\x00 [mask] [MASK][MASK] 中国 İ",
    "what " * 60 + "[MASK]",
    "[MASK] \udc80 \U000f0000 red, " + "x" * 101,
]


@pytest.fixture(scope="module")
def vocab():
    return vocabulary.read_vocab(bert_texts.VOCAB)


def runners(directory, model, processor, **options) -> tuple[Runner, Runner]:
    """Returns the runners of the flavours `tensors` and `text`."""
    paths = [
        tfvl.export.lite(model, processor, directory / f"{flavour}.tflite", flavour=flavour, **options)
        for flavour in ("tensors", "text")
    ]
    return tuple(Runner(path, runtime="tensorflow", threads=1) for path in paths)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    model = random_model("ViltForMaskedLM")
    return runners(tmp_path_factory.mktemp("masked"), model, tiny_processor(), **SIZES)


def test_both_flavours_give_the_same_answers(masked):
    tensors, text = masked
    assert text.inputs["text"] == (2,)
    assert file.read(text.file.path).description["signature"] == "text"
    images = [shapes.draw_scene(seed).image() for seed in range(len(TEXTS) - 1)]
    asked = {"images": [*images, images[0]], "text": [*TEXTS[:2], TEXTS[3], TEXTS[0]]}
    for expected, row in zip(tensors(**asked), text(**asked), strict=True):
        assert {**row, "scores": 0, "candidate_scores": 0} == {**expected, "scores": 0, "candidate_scores": 0}
        np.testing.assert_allclose(row["candidate_scores"], expected["candidate_scores"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("runtime", [None, "litert"])
def test_outputs_are_those_of_the_exact_ids(masked, runtime):
    tensors, text = masked[0], Runner(masked[1].file.path, runtime=runtime)
    assert text.runtime == (runtime or "tensorflow")
    image = shapes.draw_scene(5).image()
    ids, raw = (runner.prepare(images=image, text=TEXTS)[1] for runner in (tensors, text))
    assert (ids["attention_mask"][2] == 1).all()  # cut
    for expected, actual in zip(tensors.outputs(ids)[0], text.outputs(raw)[0], strict=True):
        np.testing.assert_allclose(actual["logits"], expected["logits"], rtol=0, atol=TOLERANCE)


def test_a_text_beside_the_regions_of_two_images(tmp_path):
    head = "VisualBertForVisualReasoning"
    tensors, text = runners(tmp_path, random_model(head), region_processor(head), **SIZES | {"batch": 1})
    rng, size = np.random.default_rng(0), tensors.inputs["visual_embeds"][2]
    asked = {"regions": [[rng.normal(size=(3, size)), rng.normal(size=(5, size))]], "text": "are both red?"}
    (expected,), (row,) = tensors(**asked), text(**asked)
    assert row["answers"] == expected["answers"]
    np.testing.assert_allclose(row["scores"], expected["scores"], rtol=0, atol=TOLERANCE)


def test_sides_on_which_texts_are_cut_and_padded(tmp_path):
    processor = tiny_processor()
    processor.tokenizer.padding_side = processor.tokenizer.truncation_side = "left"
    tensors, text = runners(tmp_path, random_model("ViltForQuestionAnswering"), processor, **SIZES)
    asked = {
        "images": shapes.draw_scene(5).image(),
        "text": ["how many red?", "what color is the circle left of a? " * 4],
    }
    ids, raw = tensors.prepare(**asked)[1], text.prepare(**asked)[1]
    length = tensors.inputs["input_ids"][1]
    expected = processor.tokenizer(asked["text"], padding="max_length", max_length=length)
    assert ids["attention_mask"][0].tolist()[:2] == [0, 0]
    for name, value in expected.items():
        np.testing.assert_array_equal(np.stack(ids[name]), value, err_msg=name)
    for exact, found in zip(tensors.outputs(ids)[0], text.outputs(raw)[0], strict=True):
        np.testing.assert_allclose(found["logits"], exact["logits"], rtol=0, atol=TOLERANCE)


def test_eight_bits_on_the_command_line(capsys, tmp_path):
    path, picture = tmp_path / "x.tflite", tmp_path / "scene.png"
    arguments = ["export", "shapes-vilt", str(path), "--format", "tflite", "--quantize", "dynamic"]
    assert cli.main([*arguments, "--flavour", "text"]) == 0
    shapes.draw_scene(23).image().save(picture)
    capsys.readouterr()
    assert cli.main(["ask", str(picture), "what color is the triangle?", "--model", str(path)]) == 0
    assert "red" in capsys.readouterr().out
    report = drift(path, "shapes-vilt", 40)
    assert report.accuracy[1] > 0.9
    assert path.stat().st_size < 900_000  # 1,080,145 bytes as `tensors` in 32-bit floats
    with pytest.raises(ValueError, match=r"holds FastWordpieceTokenizeWithOffsets, which is no builtin operator"):
        lite_ops.operators(path.read_bytes(), "tensors")


def test_any_length_and_size(tmp_path):
    model, processor = tfvl.auto.load("shapes-vilt")
    path = tfvl.export.lite(model, processor, tmp_path / "x.tflite", flavour="text", resizable=True)
    scene, question = next(iter(shapes.held_out_questions(1)))
    (row,) = Runner(path)(images=scene.image(), text=question.text)
    assert row["answers"][0] == question.answer


# ── ids ──


def encoded(tokenizer, texts: list[str]) -> np.ndarray:
    """Encodes texts to (texts, LENGTH) by the exact tokenizer of the client's side."""
    ids = np.full([len(texts), LENGTH], tokenizer.pad_id, np.int32)
    for row, text in zip(ids, texts, strict=True):
        found, _ = tokenizer.encode(text, length=LENGTH)
        row[: len(found)] = found
    return ids


@pytest.fixture(scope="module")
def ids_of(vocab):
    return text_flavour(client_tokenizer(vocab), LENGTH)


@pytest.mark.parametrize("name", ["cased", "accents_kept_chinese_joined"])
def test_ids_are_the_exact_tokenizers(vocab, name):
    tokenizer = client_tokenizer(vocab, additional_special_tokens=["[DET]", "[DET]s"], **bert_texts.VARIANTS[name])
    texts = [*bert_texts.corpus()[::30], "[DET]s[DET][DET", *TEXTS]
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    np.testing.assert_array_equal(text_flavour(tokenizer, LENGTH)(raw), encoded(tokenizer, texts))


SLOW = {"long"}  # each place of a text is compared with each token in its whole length


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in added_tokens.CASES]
)
def test_added_tokens_are_upstreams(name):
    client, golden = case_client(added_tokens.CASES[name]), added_tokens.golden()[name]["ids"]
    rows = text_flavour(client, LENGTH, len(added_tokens.TEXTS))([text.encode() for text in added_tokens.TEXTS])
    expected = [[client.cls_id, *ids[: LENGTH - 2], client.sep_id] for ids in golden]
    assert [row[: len(ids)].tolist() for row, ids in zip(rows, expected, strict=True)] == expected
    np.testing.assert_array_equal(rows, encoded(client, added_tokens.TEXTS))


def test_ids_of_a_vocabulary_with_thousands_of_characters(vocab):
    more = [prefix + chr(c) for c in (*range(0x1100, 0x1200), *range(0x4E00, 0x5800)) for prefix in ("", "##")]
    larger = {token: i for i, token in enumerate(dict.fromkeys([*vocab, *more]))}
    tokenizer = client_tokenizer(larger)
    texts = [text for text in bert_texts.corpus()[::20] if len(text) <= READ]
    texts += ["\u1100" * length for length in (99, 100, 101)]
    np.testing.assert_array_equal(
        text_flavour(tokenizer, LENGTH)([text.encode() for text in texts]), encoded(tokenizer, texts)
    )


def test_ids_of_the_hard_strings(vocab, ids_of):
    texts = [text for text in bert_texts.corpus()[::5] if len(text) <= READ]
    np.testing.assert_array_equal(ids_of([text.encode() for text in texts]), encoded(client_tokenizer(vocab), texts))


def test_bytes_that_are_not_utf8_are_left_out(vocab, ids_of):
    rng = np.random.default_rng(0)
    texts = [b"\xffred", b"a\xe4\xbd", b"\xe4\xbda b\xf0\x9f", *(rng.bytes(12) for _ in range(500))]
    exact = tfvl.BertTokenizer(vocab)(texts, padding="max_length", max_length=LENGTH)["input_ids"]
    np.testing.assert_array_equal(ids_of(texts), exact)


def test_what_is_beyond_sixteen_characters_a_token_is_not_read(vocab, ids_of):
    red, blue = (client_tokenizer(vocab)(text) for text in ("red", "blue"))
    for spaces, read in ((READ - 7, [*red, *blue]), (READ, red)):
        (row,) = ids_of([f"red{' ' * spaces}blue".encode()])
        assert row[row != 0].tolist()[1:-1] == read


# What makes tf.text's own normaliser no choice; tools/check/lite_text.py counts such texts.
DIFFERING = ("[MASK]", "straße", "x\x85y", "\U000f0000", "\u03d3", "\u24d4")
SAME = ("What color is the man's shirt?", "naïve café", "don't walk", "東京", "한국어", "e\u0301", "x" * 100, "[mask]")


def test_where_tf_texts_normaliser_differs(vocab, ids_of):
    theirs = tf_text.FastBertTokenizer(list(vocab), lower_case_nfd_strip_accents=True)
    for text in (*DIFFERING, *SAME):
        (row,) = ids_of([text.encode()])
        found = theirs.tokenize([text])[0].numpy().tolist()
        assert (found[: LENGTH - 2] == row[row != 0].tolist()[1:-1]) == (text in SAME), text


# ── refused ──


@pytest.mark.parametrize(
    ("head", "options", "complaint"),
    [
        ("VisualBertForMultipleChoice", {}, "takes several texts a row"),
        ("VisualBertForRegionToPhraseAlignment", {}, "takes the places of phrases"),
        ("VisualBertForQuestionAnswering", {"quantize": "int8"}, "runs no operation of tf.text"),
        ("VisualBertForQuestionAnswering", {"flavour": "ids"}, "flavour is 'ids', expected one of 'tensors', 'text'"),
    ],
)
def test_exports_that_are_refused(tmp_path, monkeypatch, head, options, complaint):
    monkeypatch.setattr(import_module("tfvl.export.tflite.convert"), "convert", lambda *_: pytest.fail("converted"))
    with pytest.raises(ValueError, match=complaint):
        tfvl.export.lite(
            random_model(head), region_processor(head), tmp_path / "x.tflite", **{"flavour": "text"} | options
        )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"never_split": ["U.S.A."]}, r"no never_split \('U.S.A.'\)"),
        ({"additional_special_tokens": list(map(chr, range(0x10000, 0x1A000)))}, "more than tf.text's operations"),
    ],
)
def test_tokenizers_that_are_refused(vocab, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        lite_text.tables_of(client_tokenizer(vocab, **options))


def test_without_tf_text_the_runner_says_what_to_install(masked, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text.core.pybinds.tflite_registrar", None)
    with pytest.raises(ValueError, match="with the operations of tensorflow-text; install"):
        Runner(masked[1].file.path)


def test_the_bare_model_takes_bytes_alone(masked):
    inputs = {name: np.zeros(shape, masked[1].dtype(name)) for name, shape in masked[1].inputs.items()}
    expected, found = (
        masked[1].run(inputs | {"text": np.array([b"a", b"red [MASK]"], kind)}) for kind in ("S", object)
    )
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    with pytest.raises(ValueError, match=r"text is int64 \(2,\), but the file takes \|S0 \(2\)"):
        masked[1].run(inputs | {"text": np.zeros(2, np.int64)})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"signature": ["text"]}, "expected tensors or text"),
        ({"signature": "tensors"}, "cannot be loaded"),
        ({"inputs": {"text": {"shape": [2, 3], "dtype": "string"}}}, "inputs are not those of a ViltForMaskedLM"),
        ({"inputs": {"texts": {"shape": [2], "dtype": "string"}}}, "lacks .* the input of texts"),
    ],
)
def test_files_that_are_not_what_they_say(masked, tmp_path, change, complaint):
    assert_refused(masked[1].file, tmp_path / "bad.tflite", change, complaint)


def test_a_file_of_another_batch_than_it_says(masked, tmp_path):
    specs = masked[1].file.description["inputs"]
    larger = {name: spec | {"shape": [3, *spec["shape"][1:]]} for name, spec in specs.items()}
    assert_refused(masked[1].file, tmp_path / "bad.tflite", {"inputs": larger}, "others than its description says")


def assert_refused(described, path, change: dict, complaint: str) -> None:
    """Asserts that a file with this change of its description is refused."""
    model = described.path.read_bytes()[: described.description["model_bytes"]]
    file.write(dataclasses.replace(described, path=path, description=described.description | change), model)
    with pytest.raises(ValueError, match=complaint):
        Runner(path)


def test_flavour_is_an_option_of_tflite(capsys, tmp_path):
    assert cli.main(["export", "shapes-vilt", str(tmp_path / "1"), "--flavour", "text"]) == 2
    assert "--flavour is an option of --format tflite" in capsys.readouterr().err
