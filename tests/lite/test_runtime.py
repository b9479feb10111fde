"""How a `.tflite` file is run: operations that LiteRT is slow at, and XNNPACK's weight cache."""

import dataclasses
import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.lite_files import bundled_file, head_file

from tfvl.lite import Runner, file

needs_litert = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])")
IMAGE_RANK = 4


@pytest.fixture(scope="module")
def resizable() -> Path:
    return bundled_file(resizable=True)


@pytest.fixture(scope="module")
def two_images() -> Path:
    return head_file("ViltForImagesAndTextClassification")


def interpreter_of(path: Path) -> tf.lite.Interpreter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow will delete the class
        return tf.lite.Interpreter(str(path))


@pytest.mark.parametrize("file", ["resizable", "two_images"])
def test_no_image_is_copied_number_by_number(request, file):
    """`STRIDED_SLICE`, where XNNPACK does not take it over, takes LiteRT 5 ns for each number; others, 0.1."""
    interpreter = interpreter_of(request.getfixturevalue(file))
    ranks = {each["index"]: len(each["shape"]) for each in interpreter.get_tensor_details()}
    sliced = [ranks[each["inputs"][0]] for each in interpreter._get_ops_details() if each["op_name"] == "STRIDED_SLICE"]
    assert sliced
    assert max(sliced) < IMAGE_RANK


# ── the weight cache ──


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return Path(shutil.copy(bundled_file(quantize="dynamic"), tmp_path_factory.mktemp("files") / "a.tflite"))


@pytest.fixture(scope="module")
def other(exported) -> Path:
    """Writes a file of the same structure and time, with another matrix."""
    interpreter = interpreter_of(exported)
    eight_bits = [
        each for each in interpreter.get_tensor_details() if each["dtype"] == np.int8 and len(each["shape"]) == 2
    ]
    matrix = interpreter.get_tensor(max(eight_bits, key=lambda each: np.prod(each["shape"]))["index"])
    path = exported.with_name("b.tflite")
    described = file.read(exported)
    model = exported.read_bytes()[: described.description["model_bytes"]]
    changed = model.replace(matrix.tobytes(), matrix[::-1].tobytes())
    file.write(dataclasses.replace(described, path=path), changed)
    os.utime(path, ns=(exported.stat().st_atime_ns, exported.stat().st_mtime_ns))
    return path


def logits(path: Path, **options) -> np.ndarray:
    runner = Runner(path, threads=1, warm=False, **options)
    rng = np.random.default_rng(5)
    inputs = {name: rng.uniform(0, 2, shape).astype(runner.dtype(name)) for name, shape in runner.inputs.items()}
    runner.run(inputs)
    return runner.run(inputs)["logits"]


def only(directory: Path) -> Path:
    (cache,) = directory.iterdir()
    return cache


@needs_litert
def test_a_cache_changes_no_result_and_is_written_once(exported, tmp_path):
    directory = tmp_path / "new" / "caches"
    expected = logits(exported)
    np.testing.assert_array_equal(logits(exported, weight_cache=directory), expected)
    written = only(directory).stat()
    np.testing.assert_array_equal(logits(exported, weight_cache=str(directory)), expected)
    assert only(directory).stat().st_mtime_ns == written.st_mtime_ns
    assert directory.stat().st_mode & 0o077 == 0


@needs_litert
def test_a_cache_is_used_and_only_for_its_own_file(exported, other, tmp_path):
    first, second = logits(exported), logits(other)
    assert np.abs(first - second).max() > 1
    logits(exported, weight_cache=tmp_path / "a")
    np.testing.assert_array_equal(logits(other, weight_cache=tmp_path / "a"), second)
    assert len(list((tmp_path / "a").iterdir())) == 2
    # What the names keep apart: XNNPACK itself takes the cache of either for the other.
    logits(exported, weight_cache=tmp_path / "first")
    logits(other, weight_cache=tmp_path / "second")
    os.replace(only(tmp_path / "first"), only(tmp_path / "second"))
    assert np.abs(logits(other, weight_cache=tmp_path / "second") - second).max() > 1


@needs_litert
def test_a_file_that_does_not_say_its_flavour_can_have_a_cache(exported, tmp_path):
    described = file.read(exported)
    description = {name: value for name, value in described.description.items() if name != "signature"}
    old = dataclasses.replace(described, path=tmp_path / "old.tflite", description=description)
    file.write(old, exported.read_bytes()[: description["model_bytes"]])
    np.testing.assert_array_equal(logits(old.path, weight_cache=tmp_path / "caches"), logits(exported))


@needs_litert
@pytest.mark.parametrize("damage", [lambda contents: contents[:5000], lambda contents: bytes(len(contents))])
def test_a_damaged_cache_is_written_anew(exported, tmp_path, damage):
    expected = logits(exported, weight_cache=tmp_path)
    cache = only(tmp_path)
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    np.testing.assert_array_equal(logits(exported, weight_cache=tmp_path), expected)
    assert only(tmp_path).read_bytes() == whole


@needs_litert
def test_what_cannot_have_a_cache(exported, resizable, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"weight_cache is '.*file', which cannot be written \(File exists\); name a"):
        Runner(exported, weight_cache=tmp_path / "file")
    with pytest.raises(ValueError, match="TensorFlow's runtime has no weight cache; leave"):
        Runner(exported, weight_cache=tmp_path, runtime="tensorflow")
    monkeypatch.setattr("tfvl.lite.weight_cache.ROOM", 10**12)
    with pytest.raises(ValueError, match=r"MB are free, but .* MB may be needed; name another directory"):
        Runner(exported, weight_cache=tmp_path / "new")
    with pytest.raises(ValueError, match=r"is a file of any size, which LiteRT's CompiledModel cannot run, so that"):
        Runner(resizable, weight_cache=tmp_path)
