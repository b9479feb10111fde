"""Limits what an exported model reads of a request, so that a small request cannot take all time and memory.

The numbers are those of `tfvl.preprocessing.requests`, which hold for the runner of a `.tflite` file as well.
"""

import tensorflow as tf

from tfvl.export.parts import ModelInput
from tfvl.export.rows import first_problem, only
from tfvl.export.texts import is_blank
from tfvl.preprocessing.requests import MAX_CHARACTERS, MAX_CHOSEN_REGIONS, MAX_ITEMS, TEXTS

MAX_PATCHES = 4096  # of an image; ViLT's processor makes at most about a thousand
_WORDS = {"text_length": "tokens of a text"}  # in sentences, for axes whose name is not what they count
ITEM_AXES = {"regions": -2, "boxes": 1, "choices": 1, "phrases": 1}  # the axis of the items of each raw input


def within_limits(raw: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Cuts raw inputs, none of them empty, to what may be read; returns them and the status (N,) of the rows."""
    raw = dict(raw)
    rows = tf.shape(raw["text"])
    counts = {name: tf.shape(raw[name])[axis] for name, axis in ITEM_AXES.items() if name in raw and name in MAX_ITEMS}
    problem = _too_many(counts)
    most = tf.where(problem == "", tf.int32.max, 1)
    for name in ITEM_AXES.keys() & raw.keys():
        value = raw[name]
        raw[name] = value[:, :, :most] if value.shape.rank + ITEM_AXES[name] == 2 else value[:, :most]
    long = _too_long(raw)
    for name in {"text", *TEXTS} & raw.keys():
        raw[name] = only(long == "", raw[name])
    return raw, first_problem(tf.fill(rows, problem), long)


def _too_many(counts: dict[str, tf.Tensor]) -> tf.Tensor:
    """Computes the sentence of `beyond_limits` for a request's rows, which all have these counts; a scalar."""
    problems = [tf.constant("")]
    for name, count in counts.items():
        words = [f"{name}: there are ", tf.strings.as_string(count), f" of them, at most {MAX_ITEMS[name]} are read"]
        problems.append(tf.where(count > MAX_ITEMS[name], tf.strings.join(words), ""))
    if counts.keys() >= {"choices", "regions"}:
        choices, regions = tf.strings.as_string(counts["choices"]), tf.strings.as_string(counts["regions"])
        end = f" regions, at most {MAX_CHOSEN_REGIONS} regions in all are read"
        product = tf.cast(counts["choices"], tf.int64) * tf.cast(counts["regions"], tf.int64)
        words = ["choices: there are ", choices, " of them with ", regions, end]
        problems.append(tf.where(product > MAX_CHOSEN_REGIONS, tf.strings.join(words), ""))
    return first_problem(*problems)


def _too_long(raw: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the status (N,) of rows whose texts are too long, by the number that `count_characters` gives."""
    count = _length(raw["text"])  # (N,)
    for name in raw.keys() & set(TEXTS):
        given = tf.cast(~is_blank(raw[name]), tf.int64)  # (N, items)
        more = tf.reduce_sum(given * _length(raw[name]), axis=1)
        count += _length(raw["text"]) * tf.reduce_sum(given, axis=1) + more
    words = ["text: there are ", tf.strings.as_string(count), f" characters to read, at most {MAX_CHARACTERS} are"]
    return tf.where(count > MAX_CHARACTERS, tf.strings.join(words), "")


def _length(text: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(text, unit="UTF8_CHAR"), tf.int64)


def size_checks(
    inputs: dict[str, tf.Tensor], axes: dict[str, ModelInput], *, patch: int, tokens: int
) -> list[tf.Operation]:
    """Returns operations that fail if the model's own inputs are larger than the limits.

    Args:
        inputs: the model's inputs by name. Without rows they are checked too, since the model gets a row all the same.
        axes: the names of their axes.
        patch: the side of a patch of an image, in pixels.
        tokens: the most tokens of a text, for which the model has positions.
    """
    counts = {}
    for name, each in axes.items():
        sizes = tf.unstack(tf.shape(inputs[name], tf.int64))[1:]
        for axis, size in zip(each.axes, sizes, strict=True):
            if isinstance(axis, str):  # inputs that should agree may not, and the largest makes the most work
                counts[axis] = tf.maximum(counts.get(axis, size), size)
    most_items = MAX_ITEMS | {"text_length": tokens}
    limits = {_WORDS.get(name, name): (counts[name], most) for name, most in most_items.items() if name in counts}
    if counts.keys() >= {"choices", "regions"}:
        limits["choices times regions"] = counts["choices"] * counts["regions"], MAX_CHOSEN_REGIONS
    if "height" in counts:
        limits["patches"] = (counts["height"] // patch) * (counts["width"] // patch), MAX_PATCHES
    return [
        tf.debugging.assert_less_equal(count, tf.cast(most, tf.int64), f"there may be at most {most} {name}")
        for name, (count, most) in limits.items()
    ]
