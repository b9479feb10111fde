"""What a `.tflite` file says otherwise than the model it was made from: `tfvl check FILE.tflite --against SRC`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl import auto, shapes
from tfvl.export.lite_calibration import requests
from tfvl.export.tflite import flat
from tfvl.lite.runner import Runner

EXAMPLES = 500
# Where one of these differs, file and model have nothing to do with each other.
SIZES = ("model_type", "hidden_size", "vocab_size", "num_attention_heads", "intermediate_size", "id2label")
ANSWERS = ("logits", "question_answering_score")  # outputs that are scores of answers


@dataclass(frozen=True)
class Drift:
    """How far one output of the file is from the model's.

    Attributes:
        output: its name.
        cosine: the smallest of all rows (of words: of all that are no padding).
        difference, largest: the largest difference, and the largest value of the model's.
        top_1, top_5: the share of rows whose best entry is the same, and whose five best are the same ones.
    """

    output: str
    cosine: float
    difference: float
    largest: float
    top_1: float
    top_5: float


@dataclass(frozen=True)
class Report:
    """Attributes: path: the file; against: the model; examples: how many were compared; outputs: one for each;
    accuracy: on drawn scenes, of the model and of the file, where it answers their questions, else None."""

    path: Path
    against: str
    examples: int
    outputs: tuple[Drift, ...]
    accuracy: tuple[float, float] | None


def drift(path: Path, src: str, count: int = EXAMPLES, **load_options) -> Report:
    """Asks the file and the model the same questions about drawn scenes.

    Raises:
        ValueError: the file is no `.tflite` file of tfvl, or was made of another kind of model.
    """
    runner = Runner(path, warm=False)
    model, _ = auto.load(src, architecture=runner.file.description["class"], **load_options)
    mine, theirs = ({**config, "architectures": None} for config in (runner.file.config, model.config.to_dict()))
    differing = [name for name in theirs if name in mine and mine[name] != theirs[name] and name in SIZES]
    if differing:
        name = differing[0]
        raise ValueError(f"{path} was made of another model than {src}: {name} is {mine[name]}, not {theirs[name]}")
    run = tf.function(lambda inputs: flat(model(inputs, training=False)), autograph=False, reduce_retracing=True)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    truths, examples = [], 0
    for asked, truth in requests(runner.inputs, runner.several, count):
        prepared = runner.prepare(**asked)
        (outputs,), _ = runner.outputs(prepared)
        expected = run({name: tf.constant(values[0][None]) for name, values in prepared.inputs.items()})
        kept = len(prepared.rows[0].ids)
        for name, value in expected.items():
            pair = outputs[name][0], value.numpy()[0]
            if pair[0].ndim == 2:  # of words and maybe regions; what is padding is nobody's business
                pair = tuple(each[:kept] for each in pair)
            found.setdefault(name, []).append(pair)
        truths.append(truth)
        examples += 1
    outputs = tuple(compare(name, pairs) for name, pairs in found.items())
    return Report(path, src, examples, outputs, accuracy(found, truths, runner.file.labels))


def compare(name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Drift:
    """Pairs of the file's and the model's values, one of each example."""
    mine, theirs = (np.concatenate([np.atleast_2d(pair[side]) for pair in pairs]) for side in (0, 1))
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (mine * theirs).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    best = [np.argsort(-values, axis=1, kind="stable")[:, :5] for values in (mine, theirs)]
    same = [np.mean([set(a[:k]) == set(b[:k]) for a, b in zip(*best, strict=True)]) for k in (1, 5)]
    difference, largest = float(np.abs(mine - theirs).max()), float(np.abs(theirs).max())
    return Drift(name, float(cosines.min()), difference, largest, float(same[0]), float(same[1]))


def accuracy(found: dict, truths: list[str], labels: tuple[str, ...]) -> tuple[float, float] | None:
    """The share of right answers of the model and of the file."""
    name = next((name for name in ANSWERS if name in found), None)
    if name is None or not set(shapes.answers()) <= set(labels):
        return None
    right = [
        np.mean([labels[int(pair[side].argmax())] == truth for pair, truth in zip(found[name], truths, strict=True)])
        for side in (1, 0)
    ]
    return float(right[0]), float(right[1])


def plot(report: Report, picture: Path) -> None:
    """Draws the report as a PNG. Raises ValueError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("a picture needs matplotlib; `pip install matplotlib`") from None
    figure = Figure(figsize=(9, 1.2 + 0.9 * len(report.outputs)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [each.output for each in report.outputs]
    left.barh(names, [max(1 - each.cosine, 1e-9) for each in report.outputs], color="#c45")
    left.set_xscale("log")
    left.set_xlabel("1 - smallest cosine")
    places = np.arange(len(names))
    right.barh(places - 0.2, [each.top_1 for each in report.outputs], 0.35, label="same best", color="#37a")
    right.barh(places + 0.2, [each.top_5 for each in report.outputs], 0.35, label="same best five", color="#9bd")
    right.set_xlim(0, 1)
    right.legend(loc="lower left", fontsize=8)
    figure.suptitle(f"{report.path.name} against {report.against}, {report.examples} examples" + accuracy_text(report))
    figure.savefig(picture, format="png", dpi=120)


def accuracy_text(report: Report) -> str:
    if report.accuracy is None:
        return ""
    before, after = report.accuracy
    return f"; accuracy {before:.1%} before, {after:.1%} after"
