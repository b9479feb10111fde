"""The two signatures of an exported model: `serving_default` answers raw requests, `tensors` runs the bare model.

What a family takes is in `inputs.py`, what a head answers in `heads.py`; here they meet, the same way for all.
"""

import tensorflow as tf

from tfvl.export.heads import HEADS, Texts, only
from tfvl.export.inputs import INPUTS, Inputs, first_problem


def inputs_of(model, processor) -> Inputs:
    """What the signatures of `model` take. Raises ValueError for a model that cannot be exported."""
    return _choose(INPUTS, [model.config.model_type], "model_type")(model, processor)


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
    head = _choose(HEADS, [base.__name__ for base in type(model).__mro__], "class")
    texts = _texts(model.config, processor.tokenizer, top_k)

    def serve(**raw):
        rows = tf.shape(raw["text"])[0]
        for name, value in raw.items():
            tf.debugging.assert_equal(tf.shape(value)[0], rows, f"{name} and text need as many rows")
        raw = {name: _with_a_row(value) for name, value in raw.items()}
        encoded, status = inputs.encode(raw)
        results = head(_outputs(model, encoded), encoded | {"text": only(status == "", raw["text"])}, texts)
        status = first_problem(status, results.pop("status", tf.zeros_like(status)))
        results = {name: only(status == "", value) for name, value in results.items()}
        return {name: value[:rows] for name, value in (results | {"status": status}).items()}

    return serve


def tensors(model):
    """A function from the model's inputs, as the processor makes them, to its outputs, float32, by their own names."""

    def serve(**inputs):
        rows = tf.shape(inputs["input_ids"])[0]
        outputs = _outputs(model, {name: _with_a_row(value) for name, value in inputs.items()})
        return {name: value[:rows] for name, value in outputs.items()}

    return serve


def _texts(config, tokenizer, top_k: int) -> Texts:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected at least 1 answer per row")
    tokens = [""] * (max(tokenizer.get_vocab().values()) + 1)
    for token, index in tokenizer.get_vocab().items():
        tokens[index] = token
    if len(tokens) > config.vocab_size:
        raise ValueError(
            f"the tokenizer's ids reach {len(tokens) - 1} but the model has {config.vocab_size} word embeddings; "
            "give the processor that belongs to the model"
        )
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    return Texts(labels, tuple(tokens), tokenizer.mask_token, tokenizer.mask_token_id, top_k)


def _with_a_row(value: tf.Tensor) -> tf.Tensor:
    """The rows, or one blank row where there is none: an empty batch is a request too, but not for a model."""

    def blank() -> tf.Tensor:
        row = tf.concat([[1], tf.shape(value)[1:]], 0)
        return tf.fill(row, "" if value.dtype == tf.string else tf.zeros([], value.dtype))

    return tf.ensure_shape(tf.cond(tf.shape(value)[0] > 0, lambda: value, blank), value.shape)


def _outputs(model, inputs: dict) -> dict[str, tf.Tensor]:
    outputs = model(inputs, output_attentions=False, output_hidden_states=False, training=False)
    return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}  # clients need not know bfloat16


def _choose(table: dict, names: list[str], what: str):
    for name in names:
        if name in table:
            return table[name]
    raise ValueError(f"no export for a model of {what} {names[0]!r}; there is one for {', '.join(table)}")
