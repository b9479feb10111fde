"""Every checkpoint format is read exactly, lazily, and only as what it is."""

import json
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from support.paths import GOLDEN
from support.porting import storage, tensor, write_header, write_legacy, write_zip

from tfvl.errors import CheckpointError
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.safetensors_file import write_safetensors
from tfvl.porting.tensors import STORED

CHECKPOINTS = GOLDEN / "checkpoints"
ARRAYS = {
    "b.weight": np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4),
    "a": np.arange(5, dtype=np.float16),
    "scalar": np.array(1.5),
    "empty": np.zeros((0, 3), np.float32),
    "ids": np.arange(6, dtype=np.int64).reshape(1, 6),
    "odd": np.arange(3, dtype=np.uint8),
    "flags": np.array([True, False]),
}


def assert_same(checkpoint, arrays) -> None:
    assert checkpoint.keys() == arrays.keys()
    for name, array in arrays.items():
        read = checkpoint[name].read()
        assert checkpoint[name].shape == array.shape
        assert read.dtype == array.dtype, name
        np.testing.assert_array_equal(read, array, err_msg=name)


@pytest.mark.parametrize("file", ["zip.bin", "legacy.bin"])
def test_torch_files_of_both_formats(file):
    with np.load(CHECKPOINTS / "expected.npz") as expected:
        arrays = dict(expected)
    checkpoint = open_checkpoint(CHECKPOINTS / file)
    assert_same(checkpoint, arrays)
    assert checkpoint["bfloat16"].dtype == "bfloat16"
    assert checkpoint["bfloat16"].nbytes == 24
    assert checkpoint["whole"].offset + 8 * 4 == checkpoint["window"].offset  # one storage, stored once
    assert checkpoint["window"].strides == (6, 1)
    assert checkpoint["whole"].strides is None


def test_a_state_dict_with_metadata():
    assert_same(
        open_checkpoint(CHECKPOINTS / "ordered_dict.bin"),
        {"weight": np.ones((3, 2), np.float32), "bias": np.zeros(3, np.float32)},
    )


def test_a_legacy_view_of_a_storage(tmp_path):
    view = tensor(numel=6, shape=(2,), strides=(2,), view=(("1", 3, 3),))
    checkpoint = open_checkpoint(write_legacy(tmp_path / "old.bin", {"view": view, "whole": tensor()}))
    assert checkpoint["view"].read().tolist() == [3, 5]


def test_safetensors_written_by_the_reference(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors", {"format": "pt"})
    assert_same(open_checkpoint(tmp_path), ARRAYS)


def test_safetensors_read_by_the_reference(tmp_path):
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {name: lambda a=array: a for name, array in ARRAYS.items()})
    read = safetensors.numpy.load_file(file)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with safetensors.safe_open(file, "np") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert_same(open_checkpoint(file), ARRAYS)


def test_bfloat16_survives(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, 1e30], ml_dtypes.bfloat16)
    write_safetensors(tmp_path / "model.safetensors", {"x": lambda: values})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint["x"].dtype == "bfloat16"
    np.testing.assert_array_equal(checkpoint["x"].read(), values.astype(np.float32))


def write_h5(path: Path, layers: dict[str, dict[str, np.ndarray]], **options) -> Path:
    """Writes a weight file as Keras does."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group.create_dataset(name, data=array, **options)
    return path


H5 = {
    "lxmert": {"tf_model/lxmert/word/weight:0": ARRAYS["b.weight"], "tf_model/lxmert/norm/gamma:0": ARRAYS["a"]},
    "head": {"tf_model/head/bias:0": np.arange(3, dtype=np.float32)},
    "dropout": {},
}


def test_keras_h5(tmp_path):
    write_h5(tmp_path / "tf_model.h5", H5)
    assert_same(open_checkpoint(tmp_path), {name: array for weights in H5.values() for name, array in weights.items()})


def test_keras_h5_with_a_name_twice(tmp_path):
    write_h5(tmp_path / "tf_model.h5", {"a": {"x:0": np.zeros(3)}, "b": {"x:0": np.ones(3)}})
    with pytest.raises(CheckpointError, match="1 tensors have the name of another"):
        open_checkpoint(tmp_path)


def test_keras_h5_with_a_layer_that_two_others_share(tmp_path):
    """The word embeddings of transformers' TFLxmertForPreTraining are those of its decoder, too."""
    write_h5(tmp_path / "tf_model.h5", {"a": {"x:0": np.arange(3.0)}, "b": {"x:0": np.arange(3.0)}})
    assert_same(open_checkpoint(tmp_path), {"x:0": np.arange(3.0)})


def test_keras_h5_with_names_in_several_attributes(tmp_path):
    """As Keras writes lists too long for one attribute."""
    write_h5(tmp_path / "tf_model.h5", H5)
    with h5py.File(tmp_path / "tf_model.h5", "a") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"lxmert"], [b"head"]
    assert len(open_checkpoint(tmp_path)) == 3


def test_keras_h5_that_holds_itself(tmp_path):
    write_h5(tmp_path / "tf_model.h5", H5)
    with h5py.File(tmp_path / "tf_model.h5", "a") as file:
        file["head"]["again"] = file["head"]
    with pytest.raises(CheckpointError, match="is no dataset and no group of its own"):
        open_checkpoint(tmp_path)


def test_keras_h5_that_points_elsewhere(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(400))
    for link in (h5py.ExternalLink(str(tmp_path / "other.h5"), "/x"), h5py.SoftLink("/lxmert")):
        write_h5(tmp_path / "tf_model.h5", {"a": {}})
        with h5py.File(tmp_path / "tf_model.h5", "a") as file:
            file["a"]["x:0"] = link
            file["a"].attrs["weight_names"] = [b"x:0"]
        with pytest.raises(CheckpointError, match="link to somewhere else; refused"):
            open_checkpoint(tmp_path)
    write_h5(tmp_path / "tf_model.h5", {"a": {}})
    with h5py.File(tmp_path / "tf_model.h5", "a") as file:
        file["a"].create_dataset("x:0", (100,), "<f4", external=[(str(tmp_path / "secret"), 0, 400)])
        file["a"].attrs["weight_names"] = [b"x:0"]
    with pytest.raises(CheckpointError, match="not one plain block in this file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": True}])
def test_keras_h5_in_pieces_is_refused(tmp_path, options):
    write_h5(tmp_path / "tf_model.h5", {"a": {"zeros:0": np.zeros((1000, 100), np.float32)}}, **options)
    with pytest.raises(CheckpointError, match=r"'zeros:0' \(float32\) is not one plain block"):
        open_checkpoint(tmp_path)


def test_h5_that_keras_did_not_write(tmp_path):
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="not written by Keras: it has no layer_names"):
        open_checkpoint(tmp_path)


def write_shards(directory: Path, suffix: str = "safetensors") -> Path:
    name, shards = {"safetensors": ("model", "safetensors"), "bin": ("pytorch_model", "bin")}[suffix]
    files = [f"{name}-0000{n}-of-00002.{shards}" for n in (1, 2)]
    if suffix == "bin":
        write_zip(directory / files[0], {"a": tensor()})
        write_zip(directory / files[1], {"b": tensor(shape=(6,), strides=(1,))})
    else:
        safetensors.numpy.save_file({"a": np.zeros((2, 3), np.float32)}, directory / files[0])
        safetensors.numpy.save_file({"b": np.ones(6, np.float32)}, directory / files[1])
    index = directory / f"{name}.{shards}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": {"a": files[0], "b": files[1]}}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(tmp_path, suffix):
    index = write_shards(tmp_path, suffix)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.path == index
    assert {name: t.shape for name, t in checkpoint.items()} == {"a": (2, 3), "b": (6,)}
    assert checkpoint["a"].path != checkpoint["b"].path


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../model-00001-of-00002.safetensors"}, "no plain file name beside it"),
        ({"a": "/etc/passwd"}, "no plain file name beside it"),
        ({"a": "..\\x"}, "no plain file name beside it"),
        ({"a": ".."}, "no plain file name beside it"),
        ({"a": 3}, "no plain file name beside it"),
        ({"a": "model-00003-of-00002.safetensors"}, "its part model-00003-of-00002.safetensors is missing"),
        (
            {"a": "model-00002-of-00002.safetensors"},
            "a is listed for .*, which has it not; b is in .*, for which it is not",
        ),
        (["a"], "not an index of tensors"),
        (None, "not an index of tensors"),
    ],
)
def test_a_wrong_index(tmp_path, weight_map, message):
    index = write_shards(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path)
    assert str(index) in str(caught.value)


def test_an_index_that_is_no_json(tmp_path):
    for text in ("", "[" * 100_000, "{", "[]"):
        write_shards(tmp_path).write_text(text)
        with pytest.raises(CheckpointError, match="not an index of tensors"):
            open_checkpoint(tmp_path)


def test_safetensors_come_first_and_an_empty_directory_says_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights; expected one of model.safetensors, .*tf_model.h5"):
        open_checkpoint(tmp_path)
    write_zip(tmp_path / "pytorch_model.bin", {"old": tensor()})
    assert "old" in open_checkpoint(tmp_path)
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
    assert "old" not in open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"nothing.bin: no such file"):
        open_checkpoint(tmp_path / "nothing.bin")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n", "git lfs pull"),
        ("model.safetensors", b"<!DOCTYPE html><html>404</html>", "a web page or XML"),
        ("pytorch_model.bin", b"\n  <html>", "a web page or XML"),
        ("model.safetensors", b'{"error": "not found"}', "JSON text"),
        ("model.safetensors", b"", "empty"),
        ("model.safetensors", bytes(1000), "an interrupted download"),
        ("model.safetensors", b"\x1f\x8b\x08", "gzip-compressed"),
        ("pytorch_model.bin", b"cos\nsystem\n(S'true'\ntR.", "in no format known here"),
        ("model.safetensors", b"hello", "in no format known here"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: this file is .*{message}"):
        open_checkpoint(tmp_path)


def test_mislabelled_files(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(write_header(tmp_path / "x", {}).read_bytes())
    with pytest.raises(
        CheckpointError, match=r"named like a torch pickle file, .*content is safetensors: rename it \*.saf"
    ):
        open_checkpoint(tmp_path / "pytorch_model.bin")
    for source in (CHECKPOINTS / "zip.bin", CHECKPOINTS / "legacy.bin"):
        (tmp_path / "model.safetensors").write_bytes(source.read_bytes())
        with pytest.raises(CheckpointError, match=r"named like a safetensors file, but its content is torch pickle"):
            open_checkpoint(tmp_path / "model.safetensors")
    write_h5(tmp_path / "tf_model.bin", H5)
    with pytest.raises(CheckpointError, match=r"content is Keras HDF5: rename it \*.h5"):
        open_checkpoint(tmp_path / "tf_model.bin")
    write_h5(tmp_path / "any_name_without_a_suffix", H5)
    assert len(open_checkpoint(tmp_path / "any_name_without_a_suffix")) == 3


def test_a_header_length_that_looks_like_a_pickle(tmp_path):
    """The first byte of a safetensors file is its header's length, and may be 0x80."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode().ljust(0x80)
    assert "a" in open_checkpoint(write_header(tmp_path / "model.safetensors", header, b"x"))


def test_every_element_type_of_a_storage(tmp_path):
    kinds = {
        "Double": "float64",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Bool": "bool",
        "Char": "int8",
    }
    for kind, dtype in kinds.items():
        data = {"0": bytes(6 * np.dtype(STORED[dtype]).itemsize)}
        path = write_zip(tmp_path / "x.bin", {"a": tensor(kind=f"{kind}Storage")}, data)
        assert open_checkpoint(path)["a"].dtype == dtype
    assert storage().reference[1].name == "FloatStorage"


def test_a_file_cut_after_it_was_opened(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(100, np.float32)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.truncate(200)
    with pytest.raises(CheckpointError, match="the file ends at byte 200, inside tensor 'a'"):
        checkpoint["a"].read()
