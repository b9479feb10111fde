"""All readers of files, for `support.limited`, as functions of a path that return a digest of what was read."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

import tfvl
from tfvl.detector.config import DetectorConfig
from tfvl.export import check
from tfvl.lite import file as lite_file
from tfvl.lite.image import ImageProcessor
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.numpy_pickle import read_numpy_pickle
from tfvl.porting.tensors import Checkpoint
from tfvl.preprocessing.image import formats
from tfvl.preprocessing.image.decode import to_levels
from tfvl.preprocessing.regions.reading import open_regions, read_npz
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.preprocessing.text import vocabulary
from tfvl.training.data import prepared
from tfvl.training.run.opening import read_answers
from tfvl.training.run.settings import RunConfig


def digest(array) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype.str} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def tensors(checkpoint) -> dict:
    return {name: digest(tensor.read()) for name, tensor in checkpoint.items()}


def of_regions(found) -> list:
    return [
        [
            regions.image_id,
            regions.width,
            regions.height,
            *(
                None if getattr(regions, name) is None else digest(getattr(regions, name))
                for name in ("features", "boxes", "objects_id", "objects_conf", "attrs_id", "attrs_conf")
            ),
        ]
        for regions in found
    ]


def store(path):
    with RegionStore(path) as opened:
        return of_regions(opened[name] for name in opened)


def in_order(path):
    problems: list[str] = []
    found = of_regions(open_regions(path, on_error=problems.append))
    assert all(str(path) in sentence for sentence in problems), problems
    return found


def config(kind):
    return lambda path: kind.from_file(path).to_dict()


def tokenizer(path):
    """Reads the tokenizer of the directory that the file is in."""
    tokens = tfvl.BertTokenizer.from_pretrained(path.parent)
    return [len(tokens), tokens("a tiny cat [MASK]")["input_ids"].numpy().tolist()]


def examples(path):
    """Reads the examples of the prepared split that the file describes."""
    found = prepared.find(path.parent, "train")
    if found is None:
        raise ValueError(f"{path} is of another split")
    return list(found.read())


def saved_model(path):
    """Returns the report of `check` on the directory; raises its problems as an error, as the command line does."""
    report = check(path.parent)
    if report.problems:
        raise ValueError(f"{path} would not be served: {'; '.join(report.problems)}")
    return dataclasses.astuple(dataclasses.replace(report, directory="", graph_bytes=0))


def in_graph(path):
    """Decodes levels in a graph, and adds to its refusals the name of the file, which a graph does not know."""
    contents = path.read_bytes()
    levels, size = GRAPH(contents)
    if (size.numpy() < 1).any() or (tf.reduce_prod(size) > MAX_PIXELS).numpy():
        raise ValueError(f"{path}: {formats.problem(tf.constant(contents), size).numpy().decode()}")
    return digest(levels.numpy())


MAX_PIXELS = tfvl.ViltImageProcessor().max_pixels
GRAPH = tf.function(lambda contents: formats.read(contents, MAX_PIXELS), input_signature=[tf.TensorSpec([], tf.string)])
LITE = ImageProcessor(dataclasses.asdict(tfvl.ViltImageProcessor()), None, False)

# Imports and threads that no file is to be charged with.
tfvl.BertTokenizer.from_pretrained("shapes-vilt")("a")
GRAPH(b"")

READERS = {
    "checkpoint": lambda path: tensors(open_checkpoint(path)),
    "numpy pickle": lambda path: tensors(Checkpoint(path, read_numpy_pickle(path))),
    "vilt config": config(tfvl.ViltConfig),
    "lxmert config": config(tfvl.LxmertConfig),
    "visual_bert config": config(tfvl.VisualBertConfig),
    "detector config": DetectorConfig.from_file,
    "image processor": lambda path: tfvl.ViltImageProcessor.from_pretrained(path.parent),
    "vocabulary": vocabulary.read_vocab,
    "settings": lambda path: RunConfig.read(path, {}),
    "answers": read_answers,
    "prepared": examples,
    "saved model": saved_model,
    "tokenizer": tokenizer,
    "image": lambda path: digest(to_levels(path, MAX_PIXELS).levels),
    "graph image": in_graph,
    "lite image": lambda path: digest(LITE(path)[0]),
    "lite": lite_file.read,
    "npz": lambda path: of_regions([read_npz(path)]),
    "regions": in_order,
    "store": store,
}
