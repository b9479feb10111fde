"""The Java client of a `.tflite` file (`examples/lite`), compiled and run by a JDK, against the client in Python.

The model itself is run by Python: `tests/java` has a class in place of LiteRT's `Interpreter`, which hands the inputs
over and takes the logits back.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import added_tokens, bert_texts
from support.lite_files import bundled_file
from support.lite_text import DEFAULTS, case_file, tokenizer_file, with_added
from support.paths import DATA, TESTS

from tfvl import shapes
from tfvl.lite import Runner, file, tokenizer
from tfvl.preprocessing.text import vocabulary

pytestmark = pytest.mark.skipif(shutil.which("javac") is None, reason="needs a JDK (javac)")
EXAMPLES = TESTS.parent / "examples/lite"
SOURCES = (EXAMPLES, TESTS / "java")
LANGUAGE = "8"  # the Java that Android's tools have long taken
QUESTION = "what color is the triangle?"
# Java's exponential is a double's, NumPy's a float's: they differ in the last bit, and scores are below 1.
SCORE_TOLERANCE = 1e-6
DEFAULTS = DEFAULTS | {"model_max_length": 40}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Compiles all of `examples/lite` and `tests/java`; returns the directory of the classes."""
    directory = tmp_path_factory.mktemp("classes")
    sources = [source for root in SOURCES for source in sorted(root.rglob("*.java"))]
    command = ["javac", "--release", LANGUAGE, "-d", directory, *sources]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory


def java(classes: Path, *arguments, **options) -> subprocess.CompletedProcess:
    command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return Path(shutil.copy(bundled_file(), tmp_path_factory.mktemp("files") / "shapes.tflite"))


def ids_in_java(classes: Path, path: Path, texts: Sequence[str]) -> list[list[int]]:
    done = java(classes, "Tokenizer", path, "-", input="\n".join(map(json.dumps, texts)))
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", bert_texts.VARIANTS)
def test_ids_are_upstreams(classes, tmp_path, name):
    vocab, options = vocabulary.read_vocab(bert_texts.VOCAB), DEFAULTS | bert_texts.VARIANTS[name]
    texts, path = bert_texts.variant_corpus(name), tokenizer_file(tmp_path / "x.tflite", vocab, options)
    first, last = (vocab[options[token]] for token in ("cls_token", "sep_token"))
    rows = [[first, *ids, last] for ids in ids_in_java(classes, path, texts)]
    golden = np.load(bert_texts.TEXT, allow_pickle=False)[f"ids_{name}"]
    wrong = bert_texts.digests(rows) != golden
    assert [text for text, differs in zip(texts, wrong, strict=True) if differs][:5] == []


def test_ids_of_lone_surrogates_and_of_words_that_are_never_split_are_pythons(classes, tmp_path):
    options = DEFAULTS | {
        "never_split": ["what's", "U.S.A.", "[SEP]"],
        "additional_special_tokens": ["[DET]", "[DET]s"],
    }
    vocab = with_added(vocabulary.read_vocab(bert_texts.VOCAB), options["additional_special_tokens"])
    texts = ["What's what's", "the U.S.A. [DET]s [DET]", "x\udc80y[MASK]\ud800", "", "\U000f0003 $1 \\[MASK]", "a\0b"]
    encode = tokenizer.Tokenizer(vocab, options, tokenizer.pack(options))
    path = tokenizer_file(tmp_path / "x.tflite", vocab, options)
    assert ids_in_java(classes, path, texts) == [encode(text) for text in texts]


@pytest.mark.parametrize("name", added_tokens.CASES)
def test_added_tokens_are_upstreams(classes, tmp_path, name):
    path = case_file(tmp_path / "x.tflite", added_tokens.CASES[name])
    assert ids_in_java(classes, path, added_tokens.TEXTS) == added_tokens.golden()[name]["ids"]


def pictures() -> dict[str, Image.Image]:
    photo = Image.open(DATA / "astronaut.png").convert("RGB")
    transparent = photo.resize((80, 60)).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize((80, 60)))
    return {
        "photograph": photo,
        "landscape": photo.crop((0, 100, 512, 341)),
        "portrait": photo.crop((91, 3, 260, 500)),
        "very wide": photo.crop((0, 0, 512, 150)),
        "enlarged": photo.crop((200, 100, 231, 123)),
        "transparent": transparent,  # laid on white
        "scene": shapes.draw_scene(23).image(),
    }


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])")
@pytest.mark.parametrize("name", pictures())
def test_inputs_and_answers_are_the_runners(classes, exported, tmp_path, name):
    picture, runner = pictures()[name], Runner(exported, threads=1)
    picture.save(tmp_path / "picture.png")
    command = [
        "java",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        classes,
        "AskOnJdk",
        exported,
        tmp_path / "picture.png",
        QUESTION,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        inputs = {}
        for each in sorted(runner.inputs):
            dtype = runner.dtype(each).newbyteorder(">")
            content = process.stdout.read(int(np.prod(runner.inputs[each])) * dtype.itemsize)
            inputs[each] = np.frombuffer(content, dtype).reshape(runner.inputs[each]).astype(runner.dtype(each))
        logits = runner.run(inputs)["logits"]
        printed, _ = process.communicate(logits.astype(">f4").tobytes())
    assert process.returncode == 0
    _, expected = runner.prepare(images=picture, text=QUESTION)
    assert inputs.keys() == expected.keys()
    for each, (value,) in expected.items():
        np.testing.assert_array_equal(inputs[each][0], value, err_msg=each)
    (row,) = runner(picture, QUESTION)
    scores, answers = zip(*(line.split("\t") for line in printed.decode().splitlines()), strict=True)
    assert list(answers) == row["answers"]
    np.testing.assert_allclose(np.array(scores, np.float32), row["scores"], rtol=0, atol=SCORE_TOLERANCE)


def rewritten(path: Path, exported: Path, **changes) -> Path:
    """Writes the file with a changed description; a change is a value of `tfvl.json`, or a function of the old one."""
    described = file.read(exported)
    changed = {
        name: change(described.description[name]) if callable(change) else change for name, change in changes.items()
    }
    described = file.LiteFile(
        path, described.description | changed, described.vocabulary, described.labels, described.characters
    )
    file.write(described, exported.read_bytes()[: described.description["model_bytes"]])
    return path


def test_files_that_are_refused(classes, exported, tmp_path):
    sound = exported.read_bytes()
    archive, end = sound.index(b"PK\x03\x04"), sound.index(b"PK\x05\x06")
    entry = sound.index(b"PK\x01\x02")
    contents = {
        "there is no description of tfvl behind the model, or the file is cut short": sound[: len(sound) // 2],
        "there is no description of tfvl behind the model": sound[:archive],
        "this is no .tflite file": b"<html>" + sound[6:],
        "the archive behind the model is damaged": sound[: end + 16] + b"\xff" * 4 + sound[end + 20 :],
        "tfvl.json claims 4294967295 bytes": sound[: entry + 24] + b"\xff" * 4 + sound[entry + 28 :],
        "tfvl.json is damaged": sound[: archive + 100] + bytes(9) + sound[archive + 109 :],
        "taken": sound,
    }
    described = {
        "head is LxmertModel, expected ViltForQuestionAnswering": {"head": "LxmertModel"},
        "signature is text, expected tensors": {"signature": "text"},
        "format is 2.0, expected a whole number from 1 to 1": {"format": 2},
        "size 0 of input_ids is -1.0": {"inputs": lambda value: value | {"input_ids": {"shape": [-1, 40]}}},
        "the shape of pixel_values is [1.0, 8.0], expected 4 sizes": {
            "inputs": lambda value: value | {"pixel_values": {"shape": [1, 8]}}
        },
        "size 2 of pixel_values is 1.0E9": {
            "inputs": lambda value: value | {"pixel_values": {"shape": [1, 64, 10**9, 3]}}
        },
        "size_divisor is 0.0, expected": {"image_processor": lambda value: value | {"size_divisor": 0}},
        "resample is 2.0, expected": {"image_processor": lambda value: value | {"resample": 2}},
        "image_std is 0.0, expected a number other than 0": {"image_processor": lambda value: value | {"image_std": 0}},
        "a special token is [DET], expected a word of the vocabulary": {
            "tokenizer": lambda value: value | {"additional_special_tokens": ["[DET]"]}
        },
        "characters.bin is damaged, or not for": {"tokenizer": lambda value: value | {"never_split": ["a"]}},
        "nested more than 64 deep": {"versions": json.loads("[" * 99 + "]" * 99)},
        "top_k is many": {"top_k": "many"},
    }
    for number, content in enumerate(contents.values()):
        (tmp_path / f"{number:02}.tflite").write_bytes(content)
    for number, changes in enumerate(described.values(), len(contents)):
        rewritten(tmp_path / f"{number:02}.tflite", exported, **changes)
    done = java(classes, "AskOnJdk", *sorted(tmp_path.glob("*.tflite")))
    for complaint, line in zip([*contents, *described], done.stdout.splitlines(), strict=True):
        assert complaint in line


def test_damage_of_any_kind_is_taken_or_refused_with_one_sentence(classes, exported):
    behind_the_model = exported.stat().st_size - file.read(exported).description["model_bytes"]
    taken = int(java(classes, "AskOnJdk", "--fuzz", exported, behind_the_model).stdout)
    assert 0 < taken < 100  # the undamaged ones, and damage to what nobody reads, as the members' dates
