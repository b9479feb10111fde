"""Measures how far a `.tflite` file differs from the model it was made from: `tfvl check FILE.tflite --against SRC`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl import auto, shapes
from tfvl.answers.arrays import Row
from tfvl.export.signatures import outputs_of
from tfvl.export.tflite.calibration import requests
from tfvl.files.extras import require
from tfvl.files.whole import written_files
from tfvl.lite.preparer import Preparer
from tfvl.lite.runner import Runner

EXAMPLES = 500
# Fields of the configuration; if one of them differs, the file was made of another model.
SIZES = ("model_type", "hidden_size", "vocab_size", "num_attention_heads", "intermediate_size", "id2label")
SMALLEST = 1e-12  # the smallest 1 - cosine that is drawn; smaller ones are rounding errors
STYLES = (("#37a", -0.14), ("#e93", 0.14))  # color, and place within a row
ANSWERS = ("logits", "question_answering_score")  # outputs that are scores of answers


@dataclass(frozen=True)
class Drift:
    """The difference between an output of the file and the model's.

    Attributes:
        output: the name of the output.
        cosine, mean_cosine: the smallest cosine of all rows (of an output for each word: of all words that are not
            padding), and their mean.
        difference, largest: the largest difference, and the largest value of the model's.
        top_1, top_5: the share of rows whose best entry is the same, and whose five best are the same ones.
    """

    output: str
    cosine: float
    mean_cosine: float
    difference: float
    largest: float
    top_1: float
    top_5: float


@dataclass(frozen=True)
class DriftReport:
    """The comparison of the file `path` with the model `against` on a number of examples, with a `Drift` per output.
    `accuracy` on drawn scenes is that of the model and of the file, None if they do not answer their questions."""

    path: Path
    against: str
    examples: int
    outputs: tuple[Drift, ...]
    accuracy: tuple[float, float] | None


def drift(path: Path, src: str, count: int = EXAMPLES, **load_options) -> DriftReport:
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
        raise ValueError(
            f"{path} was made of another model than {src}: {name} is {mine[name]!r:.60}, not {theirs[name]!r:.60}"
        )
    run = tf.function(lambda inputs: outputs_of(model, inputs), autograph=False, reduce_retracing=True)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    truths, examples = [], 0
    for asked, truth in requests(runner, count):
        (row,), inputs = runner.prepare(**asked)
        (outputs,), _ = runner.outputs(inputs)
        expected = run(model_inputs(runner, row, inputs))
        kept = slice(row.start, row.start + len(row.ids))
        for name, value in expected.items():
            pair = outputs[name][0], value.numpy()[0]
            if pair[0].ndim == 2:  # of words and maybe regions; padding is not compared
                pair = tuple(each[kept] for each in pair)
            found.setdefault(name, []).append(pair)
        truths.append(truth)
        examples += 1
    outputs = tuple(compare(name, pairs) for name, pairs in found.items())
    return DriftReport(path, src, examples, outputs, accuracy(found, truths, runner.file.labels))


def model_inputs(preparer: Preparer, row: Row, prepared: dict[str, list[np.ndarray]]) -> dict[str, tf.Tensor]:
    """Returns the model's inputs for one row; if the file takes raw text, with ids of the exact tokenizer, padded."""
    inputs = {name: values[0][None] for name, values in prepared.items() if name != "text"}
    if "text" in prepared:
        ids = np.full([1, max(preparer.ids_shape[-1], len(row.ids))], preparer.tokenizer.pad_id, np.int32)
        mask, text = np.zeros_like(ids), slice(row.start, row.start + len(row.ids))
        ids[0, text], mask[0, text] = row.ids, 1
        inputs |= {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
    return {name: tf.constant(value) for name, value in inputs.items()}


def compare(name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Drift:
    """Compares pairs of the file's and the model's values, one pair for each example."""
    mine, theirs = (np.concatenate([np.atleast_2d(pair[side]) for pair in pairs]) for side in (0, 1))
    norms = np.sqrt(dots(mine, mine) * dots(theirs, theirs))
    cosines = dots(mine, theirs) / np.maximum(norms, np.finfo(np.float32).tiny)
    best = [np.argsort(-values, axis=1, kind="stable")[:, :5] for values in (mine, theirs)]
    same = [np.mean([set(a[:k]) == set(b[:k]) for a, b in zip(*best, strict=True)]) for k in (1, 5)]
    difference, largest = float(np.abs(mine - theirs).max()), float(np.abs(theirs).max())
    smallest, mean = float(cosines.min()), float(cosines.mean())
    return Drift(name, smallest, mean, difference, largest, float(same[0]), float(same[1]))


def dots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Computes dot products of rows in float64, since in float32 the cosine of equal rows is not exactly 1."""
    return np.einsum("ij,ij->i", left, right, dtype=np.float64)


def accuracy(found: dict, truths: list[str], labels: tuple[str, ...]) -> tuple[float, float] | None:
    """Returns the share of right answers of the model and of the file."""
    name = next((name for name in ANSWERS if name in found), None)
    if name is None or not set(shapes.answers()) <= set(labels):
        return None
    right = [
        np.mean([labels[int(pair[side].argmax())] == truth for pair, truth in zip(found[name], truths, strict=True)])
        for side in (1, 0)
    ]
    return float(right[0]), float(right[1])


def plot(reports: Sequence[DriftReport], picture: Path) -> None:
    """Draws reports as a PNG, a row for each output. Raises MissingExtraError if matplotlib is missing."""
    require("matplotlib", extra="plots", purpose="a picture is drawn with it")
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = [(report, output) for report in reports for output in report.outputs]
    names = [report.path.stem if len(reports) > 1 else output.output for report, output in rows]
    panels = [
        (
            "1 - cosine",
            {
                "mean": [max(1 - output.mean_cosine, SMALLEST) for _, output in rows],
                "worst row": [max(1 - output.cosine, SMALLEST) for _, output in rows],
            },
        ),
        (
            "rows that agree, %",
            {
                "same best": [100 * output.top_1 for _, output in rows],
                "same best five": [100 * output.top_5 for _, output in rows],
            },
        ),
    ]
    if all(report.accuracy for report in reports):
        sides = {side: [100 * report.accuracy[i] for report, _ in rows] for i, side in enumerate(("model", "file"))}
        panels.append(("right answers, %", sides))
    figure = Figure(figsize=(11, 2.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (title, series) in zip(axes, panels, strict=True):
        for (label, values), (color, height) in zip(series.items(), STYLES, strict=True):
            axis.plot(values, np.arange(len(rows)) + height, "o", color=color, label=label)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", color="#ddd")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        for row in range(1, len(rows)):
            axis.axhline(row - 0.5, color="#eee", linewidth=0.8)
        below = (0.5, -0.2 / len(rows) ** 0.5)
        axis.legend(loc="upper center", bbox_to_anchor=below, ncols=2, fontsize=8, frameon=False)
        values = np.array(list(series.values()))
        if title.endswith("%"):
            axis.set_xlim(values.min() - 1, min(values.max() + 1, 100.5))
            axis.locator_params(axis="x", nbins=5)
        else:
            axis.set_xscale("log")
            axis.set_xlim(10 ** np.floor(np.log10(values.min())) / 2, 10 ** np.ceil(np.log10(values.max())) * 2)
            axis.xaxis.set_minor_formatter(NullFormatter())  # the powers of ten are enough
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    examples = f"{reports[0].examples} questions about drawn scenes"
    figure.suptitle(
        examples if len(reports) > 1 else f"{reports[0].path.name} against {reports[0].against}, {examples}"
    )
    with written_files(picture) as (new,):
        figure.savefig(new, format="png", dpi=110)
