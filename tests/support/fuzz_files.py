"""A sound file of every kind that tfvl reads, for `support.fuzz` to change."""

import io
import json
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import yaml
from safetensors.numpy import save

from support import regions as made
from support.images import encode, photo
from support.porting import tensor as described
from support.porting import write_legacy, write_zip
from tfvl.export import warmup
from tfvl.files.tfrecord import framed
from tfvl.lite.file import LiteFile, write
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.data import prepared
from tfvl.training.data.examples import Example

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "tiny", "cat", "##s")


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        readers: names in `support.readers`; those that can read a file must all read the same.
        files: contents by name; the first file is the one that is changed.
        read: the name of the file that is read; "" for the first.
        reference: name in `support.references`, or "".
        own: whether a reader must either refuse a changed file or read what was written.
    """

    readers: tuple[str, ...]
    files: dict[str, bytes]
    read: str = ""
    reference: str = ""
    own: bool = False


def kinds() -> dict[str, Kind]:
    """Returns every kind, with its sound files, by name."""
    with tempfile.TemporaryDirectory() as name:
        made = (_checkpoints, _regions, _lite, _saved_model, _prepared)
        return {key: kind for make in made for key, kind in make(Path(name)).items()} | _texts() | _images()


def _checkpoints(scratch: Path) -> dict[str, Kind]:
    arrays = {"a.weight": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.arange(5, dtype="<i8")}
    state = {"weight": described(), "bias": described(numel=6, shape=(6,), strides=(1,))}
    with h5py.File(scratch / "keras.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer in "ab":
            file.create_group(layer).attrs["weight_names"] = [b"x:0"]
            file[layer][f"{layer}:0"] = np.arange(6.0)
    index = {"weight_map": {"a.weight": "part.safetensors", "b": "part.safetensors"}}
    checkpoint = ("checkpoint",)
    return {
        "safetensors": Kind(checkpoint, {"model.safetensors": save(arrays)}, reference="safetensors"),
        "torch": Kind(checkpoint, {"model.bin": write_zip(scratch / "a", state).read_bytes()}, reference="torch"),
        "legacy torch": Kind(
            checkpoint, {"model.bin": write_legacy(scratch / "b", state).read_bytes()}, reference="torch"
        ),
        "keras": Kind(checkpoint, {"tf_model.h5": (scratch / "keras.h5").read_bytes()}, reference="keras"),
        "numpy pickle": Kind(("numpy pickle",), {"model.pkl": pickle.dumps({"model": arrays}, 4)}),
        "index": Kind(
            checkpoint,
            {"model.safetensors.index.json": json.dumps(index).encode(), "part.safetensors": save(arrays)},
        ),
    }


def _texts() -> dict[str, Kind]:
    sizes = {"hidden_size": 24, "num_attention_heads": 4, "layer_norm_eps": 1e-12, "id2label": {"0": "no", "1": "yes"}}
    run = {
        "task": "vqa",
        "model": "a",
        "epochs": 3,
        "learning_rate": 1e-4,
        "lora": {"rank": 2},
        "freeze": {"vilt": None},
    }
    processor = {"size": {"shortest_edge": 96}, "size_divisor": 32, "image_mean": [0.5, 0.5, 0.5], "do_pad": True}
    detector = {
        "INPUT": {"MIN_SIZE_TEST": 800},
        "MODEL": {"PIXEL_MEAN": [102.9, 115.9, 122.7]},
        "RPN": {"NMS_THRESH": 0.7},
    }
    vocabulary = "".join(f"{token}\n" for token in TOKENS).encode()
    options = {"do_lower_case": True, "model_max_length": 40, "mask_token": {"content": "[MASK]", "special": True}}
    options |= {"added_tokens_decoder": {"4": {"content": "[MASK]", "special": True}}, "additional_special_tokens": []}
    backend = {"model": {"type": "WordPiece", "vocab": {token: number for number, token in enumerate(TOKENS)}}}
    backend |= {"added_tokens": [{"id": 4, "content": "[MASK]", "special": True}]}
    return {
        **{
            f"{family} config": Kind((f"{family} config",), {"config.json": json.dumps(sizes).encode()})
            for family in ("vilt", "lxmert", "visual_bert")
        },
        "detector config": Kind(("detector config",), {"config.yaml": yaml.safe_dump(detector).encode()}),
        "image processor": Kind(("image processor",), {"preprocessor_config.json": json.dumps(processor).encode()}),
        "settings": Kind(("settings",), {"run.yaml": yaml.safe_dump(run).encode()}),
        "answers": Kind(("answers",), {"answers.json": json.dumps(["yes", "no", "2"]).encode()}),
        "vocabulary": Kind(("tokenizer",), {"vocab.txt": vocabulary}),
        "tokenizer.json": Kind(("tokenizer",), {"tokenizer.json": json.dumps(backend).encode()}),
        "tokenizer config": Kind(
            ("tokenizer",), {"tokenizer_config.json": json.dumps(options).encode(), "vocab.txt": vocabulary}
        ),
    }


def _regions(scratch: Path) -> dict[str, Kind]:
    found = made.images(4)
    rows = [made.as_regions(number, number % 3 + 1) for number in range(5)]
    for suffix in ("h5", "tfrecord"):
        RegionStore.write(scratch / f"own.{suffix}", rows)
    with h5py.File(scratch / "rows.h5", "w") as file:
        for name in found[0]:
            file["image_ids" if name == "image_id" else name] = [row[name] for row in found]
    with h5py.File(scratch / "groups.h5", "w") as file:
        for row in found:
            group = file.create_group(row["image_id"])
            group["x"], group["bbox"] = row["features"], row["boxes"]
            group.attrs["image_w"], group.attrs["image_h"] = row["image_w"], row["image_h"]
    archive, shape = io.BytesIO(), {"image_w": found[0]["image_w"], "image_h": found[0]["image_h"], "num_bbox": 5}
    np.savez_compressed(archive, x=found[0]["features"], bbox=found[0]["boxes"], **shape)
    content = {path.name: path.read_bytes() for path in sorted(scratch.glob("*.h5")) + sorted(scratch.glob("own.tf*"))}
    records, index = content["own.tfrecord"], content["own.tfrecord.index"]
    return {
        "own h5": Kind(("store",), {"own.h5": content["own.h5"]}, own=True),
        "own tfrecord": Kind(("store",), {"own.tfrecord": records, "own.tfrecord.index": index}, own=True),
        "own index": Kind(
            ("store",), {"own.tfrecord.index": index, "own.tfrecord": records}, read="own.tfrecord", own=True
        ),
        "rows": Kind(("store",), {"rows.h5": content["rows.h5"]}, reference="rows"),
        "groups": Kind(("store",), {"groups.h5": content["groups.h5"]}, reference="groups"),
        "h5 in order": Kind(("regions",), {"rows.h5": content["rows.h5"]}),
        "npz": Kind(("npz",), {"a.npz": archive.getvalue()}, reference="npz"),
        "tsv": Kind(("regions",), {"a.tsv": b"".join(made.tsv_line(row) + b"\n" for row in found)}),
    }


def _images() -> dict[str, Kind]:
    everywhere, picture = ("image", "graph image"), photo(41, 33)
    contents = {
        "JPEG": encode(picture, "JPEG"),
        "progressive JPEG": encode(picture, "JPEG", progressive=True),
        "PNG": encode(picture, "PNG"),
        "palette PNG": encode(picture.quantize(16), "PNG", transparency=3),
        "GIF": encode(picture.quantize(32), "GIF"),
        "BMP": encode(picture, "BMP"),
    }
    others = {kind: encode(picture, kind) for kind in ("WEBP", "TIFF", "ICO", "PPM", "TGA", "AVIF", "JPEG2000")}
    return {
        **{name: Kind(everywhere, {"image": content}, reference="image") for name, content in contents.items()},
        **{name: Kind(("image",), {"image": content}, reference="image") for name, content in others.items()},
    }


def _lite(scratch: Path) -> dict[str, Kind]:
    description = {"head": "vqa", "class": "ViltForQuestionAnswering", "config": {}, "outputs": [], "top_k": 3}
    description |= {"tokenizer": {"model_max_length": 40}, "sensitivity": []}
    description |= {"inputs": {"input_ids": {"shape": [1, 40], "dtype": "int32"}}}
    vocabulary = {token: number for number, token in enumerate(TOKENS)}
    path = scratch / "a.tflite"
    write(LiteFile(path, description, vocabulary, ("no", "yes"), b"characters"), b"\x1c\0\0\0TFL3" + bytes(64))
    return {"lite": Kind(("lite",), {"a.tflite": path.read_bytes()}, own=True)}


def _saved_model(scratch: Path) -> dict[str, Kind]:
    import tensorflow as tf

    module = tf.Module()
    module.numbers, module.text = tf.Variable([1.0, 2.0, 3.0]), tf.Variable(["a", "bc"])
    specs = [tf.TensorSpec([None], tf.float32, name="x")]
    module.function = tf.function(lambda x: {"y": x * module.numbers[0], "text": module.text}, input_signature=specs)
    directory = scratch / "model"
    tf.saved_model.save(module, str(directory), signatures=module.function)
    warmup.write(directory, "a", "serving_default", {"x": np.ones(2, np.float32)})
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    graph, index = "saved_model.pb", "variables/variables.index"
    parts = (graph, index, "variables/variables.data-00000-of-00001", str(warmup.FILE))
    return {f"SavedModel {name}": Kind(("saved model",), {name: files[name]} | files, read=graph) for name in parts}


def _prepared(scratch: Path) -> dict[str, Kind]:
    description = {"format": 1, "task": "vqa", "split": "train", "count": 2, "examples": ["examples.tfrecord"]}
    description |= {"images": ["images.tfrecord"], "regions": []}
    examples = [Example(id=str(number), text="what?", images=("a",), answers=("yes",)) for number in range(2)]
    files = {
        "prepared.json": json.dumps(description).encode(),
        "examples.tfrecord": b"".join(framed(prepared.encode(*numbered)) for numbered in enumerate(examples)),
    }
    return {
        "prepared": Kind(("prepared",), files),
        "examples": Kind(("prepared",), dict(reversed(files.items())), read="prepared.json", own=True),
    }
