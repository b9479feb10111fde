"""The two signatures of an exported model: `serving_default` answers raw requests, `tensors` runs the bare model.

What a model takes and what it answers is in the table `HEADS` of its family, `tfvl/<model_type>/export.py`; here the
two meet, the same way for all.
"""

from importlib import import_module
from importlib.util import find_spec

import tensorflow as tf

from tfvl.export.heads import Head, Texts
from tfvl.export.inputs import Inputs, tokens_by_id
from tfvl.export.rows import first_problem, not_empty, only


def inputs_of(model, processor) -> Inputs:
    """What the signatures of `model` take. Raises ValueError for a model that cannot be exported."""
    return head_of(model).inputs(model, processor)


def head_of(model) -> Head:
    """The row of the nearest base class in its family's table. Raises ValueError where there is none."""
    family = f"tfvl.{model.config.model_type}"
    heads = import_module(f"{family}.export").HEADS if find_spec(family) and find_spec(f"{family}.export") else {}
    for base in type(model).__mro__:
        if base.__name__ in heads:
            return heads[base.__name__]
    raise ValueError(
        f"{type(model).__name__} cannot be exported; of its family these can: {', '.join(heads) or 'none'}"
    )


def signatures(model, processor, inputs: Inputs, top_k: int) -> dict:
    """Both signatures as concrete functions, by name."""
    functions = {
        "serving_default": (serving_default(model, processor, inputs, top_k), inputs.raw),
        "tensors": (tensors(model), inputs.tensors),
    }
    return {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs) in functions.items()
    }


def serving_default(model, processor, inputs: Inputs, top_k: int):
    """A function from raw inputs, N rows each, to what the model's head answers and `status` (N,) string.

    The status of a row is "", or says what was wrong with it; then its answers are "" and its numbers 0. No row
    changes another's answer, and N may be 0.
    """
    answer = head_of(model).answer
    texts = _texts(model.config, processor.tokenizer, top_k)

    def serve(**raw):
        rows = tf.shape(raw["text"])[0]
        checks = [
            tf.debugging.assert_equal(tf.shape(value)[0], rows, f"{name} and text need as many rows")
            for name, value in raw.items()
        ]
        with tf.control_dependencies(checks):
            raw = {name: not_empty(value, value.shape.rank if _is_text(value) else 1) for name, value in raw.items()}
        encoded, status = inputs.encode(raw)
        asked = {name: only(status == "", value) for name, value in raw.items() if _is_text(value)}
        results = answer(_outputs(model, encoded), encoded | asked, texts)
        status = first_problem(status, results.pop("status", tf.zeros_like(status)), _overflows(results))
        results = {name: only(status == "", value) for name, value in results.items()}
        return {name: value[:rows] for name, value in (results | {"status": status}).items()}

    return serve


def tensors(model):
    """A function from the model's inputs, as the processor makes them, to its outputs, float32, by their own names.

    Outputs within another, as LXMERT's `visual_prediction_scores`, are named `outer_inner`.
    """

    def serve(**inputs):
        rows = tf.shape(inputs["input_ids"])[0]
        outputs = _outputs(model, {name: not_empty(value, 1) for name, value in inputs.items()})
        return {name: value[:rows] for name, value in outputs.items()}

    return serve


def _texts(config, tokenizer, top_k: int) -> Texts:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected at least 1 answer per row")
    tokens = tokens_by_id(tokenizer)
    if len(tokens) > config.vocab_size:
        raise ValueError(
            f"the tokenizer's ids reach {len(tokens) - 1} but the model has {config.vocab_size} word embeddings; "
            "give the processor that belongs to the model"
        )
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    answers = getattr(config, "num_qa_labels", len(labels))  # LXMERT counts its answers apart from its labels
    if answers != len(labels):
        labels = tuple(f"LABEL_{index}" for index in range(answers))
    return Texts(labels, tokens, tokenizer.mask_token, tokenizer.mask_token_id, top_k)


def _is_text(value: tf.Tensor) -> bool:
    return value.dtype == tf.string


def _overflows(results: dict[str, tf.Tensor]) -> tf.Tensor:
    """The status (N,) of rows whose numbers exceed the model's arithmetic."""
    numbers = [value for value in results.values() if value.dtype.is_floating]
    finite = [tf.reduce_all(tf.math.is_finite(value), axis=range(1, value.shape.rank)) for value in numbers]
    return tf.where(tf.reduce_all(finite, axis=0), "", "the model's numbers overflow; are the inputs too large?")


def _outputs(model, inputs: dict) -> dict[str, tf.Tensor]:
    outputs = model(inputs, output_attentions=False, output_hidden_states=False, training=False)
    flat = {}
    for name, value in outputs.items():
        flat |= {f"{name}_{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {name: value}
    return {name: tf.cast(value, tf.float32) for name, value in flat.items()}  # clients need not know bfloat16
