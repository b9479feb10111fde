"""The signatures of an exported model: `serving_default` answers raw requests, `tensors` runs the bare model.

`explain`, if it is asked for, returns scores that explain the answers.

The head's row in `tfvl.answers.rows` determines the inputs and the answers of `serving_default`.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfvl.answers.rows import Words
from tfvl.explanations.scores import scores_of_maps
from tfvl.export.answers import answer
from tfvl.export.inputs import Inputs, head_of_model, inputs_of
from tfvl.export.limits import size_checks, within_limits
from tfvl.export.rows import first_problem, not_empty, only
from tfvl.preprocessing.text.phrases import in_order, tokens_of

__all__ = ["inputs_of", "outputs_of", "serving_default", "signatures", "tensors"]
SIGNATURES = ("serving_default", "tensors")


def signatures(model, processor, inputs: Inputs, top_k: int, names: Sequence[str] = SIGNATURES) -> dict:
    """Traces the signatures of these names, of which `explain` may be one; returns concrete functions by name."""
    functions = {
        "serving_default": lambda: (serving_default(model, processor, inputs, top_k), inputs.raw),
        "tensors": lambda: (tensors(model, inputs), inputs.tensors),
        "explain": lambda: (explain(model, processor, inputs), inputs.raw),
    }
    chosen = {name: functions[name]() for name in names}
    return {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs) in chosen.items()
    }


def checked_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Returns names of signatures in the order of `SIGNATURES`. Raises ValueError for an unknown one, or for none."""
    given = {names} if isinstance(names, str) else set(names)
    unknown = sorted(given - set(SIGNATURES))
    if unknown or not given:
        raise ValueError(
            f"signatures names {unknown[0]!r}, expected {' or '.join(SIGNATURES)}"
            if unknown
            else f"signatures is empty, expected {' or '.join(SIGNATURES)}"
        )
    return tuple(name for name in SIGNATURES if name in given)


def serving_default(model, processor, inputs: Inputs, top_k: int):
    """Returns a function from raw inputs of N rows to the answers of the model's head and `status` (N,) string.

    The status of a row is "", or says what was wrong with it; then its answers are "" and its numbers 0. No row
    changes another's answer, and N may be 0.
    """
    head, words = head_of_model(model), _words(model.config, processor.tokenizer, top_k)

    def respond(encoded: dict, asked: dict) -> dict[str, tf.Tensor]:
        of_model = {name: encoded[name] for name in inputs.axes}
        return answer(head, outputs_of(model, of_model), encoded | asked, words)

    return served(inputs, respond)


def explain(model, processor, inputs: Inputs):
    """Returns a function from raw inputs to scores that explain the best answer by relevance, and `status` (N,).

    The function returns `tokens` and `token_scores` (N, L), padded with "" and 0. For ViLT it also returns
    `patch_scores` (N, [images,] rows, columns) and `grid` (N, [images,] 2), the rows and columns that are an image's
    own; for the others `region_scores` (N, R). Scores are those of `tfvl.explain`, the status that of
    `serving_default`. Raises ValueError for a model that gives no answers.
    """
    head, words = head_of_model(model), _words(model.config, processor.tokenizer, 1)
    if head.kind == "pooled":
        raise ValueError(f"{type(model).__name__} has no head that answers, so that there is nothing to explain")

    def respond(encoded: dict, asked: dict) -> dict[str, tf.Tensor]:
        chosen, scores, outputs = scores_of_maps(model, head, encoded | asked, words)
        said = answer(head, flattened(outputs), encoded | asked, words)
        ids, mask = (of_choice(encoded[name], chosen.answer) for name in ("input_ids", "attention_mask"))
        tokens = only(mask > 0, tf.gather(tf.constant(in_order(words.tokens)), ids))
        status = first_problem(said.get("status", tf.zeros(tf.shape(ids)[:1], tf.string)), _overflows(said))
        wanted = ("token_scores", "patch_scores", "grid", "region_scores")
        results = {name: scores[name] for name in wanted if name in scores}
        return {"tokens": tokens, **results, "status": status}

    return served(inputs, respond)


def of_choice(values: tf.Tensor, answer: tf.Tensor) -> tf.Tensor:
    """Takes the rows of the explained choices, (N, L), from values (N, choices, L)."""
    return tf.gather(values, answer, axis=1, batch_dims=1) if values.shape.rank == 3 else values


def served(inputs: Inputs, respond):
    """Returns a function that makes model inputs from raw inputs, and calls `respond` with them and the raw strings."""

    def serve(**raw):
        rows = tf.shape(raw["text"])[0]
        checks = [
            tf.debugging.assert_equal(tf.shape(value)[0], rows, f"{name} and text need as many rows")
            for name, value in raw.items()
        ]
        with tf.control_dependencies(checks):
            raw = {name: not_empty(value, value.shape.rank if _is_text(value) else 1) for name, value in raw.items()}
        raw, beyond = within_limits(raw)
        encoded, status = inputs.encode(raw)
        status = first_problem(beyond, status)
        asked = {name: only(status == "", value) for name, value in raw.items() if _is_text(value)}
        results = respond(encoded, asked)
        status = first_problem(status, results.pop("status", tf.zeros_like(status)), _overflows(results))
        results = {name: only(status == "", value) for name, value in results.items()}
        return {name: value[:rows] for name, value in (results | {"status": status}).items()}

    return serve


def tensors(model, inputs: Inputs):
    """Returns a function from the model's inputs, which the processor makes, to its outputs by name, in float32.

    Nested outputs, such as LXMERT's `visual_prediction_scores`, are named `outer_inner`.
    """

    limits = {"patch": getattr(model.config, "patch_size", 1), "tokens": model.config.max_position_embeddings}

    def serve(**values):
        rows = tf.shape(values["input_ids"])[0]
        with tf.control_dependencies(size_checks(values, inputs.axes, **limits)):
            values = {name: not_empty(value, 1) for name, value in values.items()}
        outputs = outputs_of(model, values)
        return {name: value[:rows] for name, value in outputs.items()}

    return serve


def _words(config, tokenizer, top_k: int) -> Words:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected at least 1 answer per row")
    words = Words(config.answer_names, tokens_of(tokenizer), tokenizer.mask_token, tokenizer.mask_token_id, top_k)
    if words.vocabulary_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer's ids reach {words.vocabulary_size - 1} but the model has {config.vocab_size} word "
            "embeddings; give the processor that belongs to the model"
        )
    return words


def _is_text(value: tf.Tensor) -> bool:
    return value.dtype == tf.string


def _overflows(results: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the status (N,), which is set for rows whose numbers overflow the model's dtype."""
    numbers = [value for value in results.values() if value.dtype.is_floating]
    finite = [tf.reduce_all(tf.math.is_finite(value), axis=range(1, value.shape.rank)) for value in numbers]
    return tf.where(tf.reduce_all(finite, axis=0), "", "the model's numbers overflow; are the inputs too large?")


def outputs_of(model, inputs: dict) -> dict[str, tf.Tensor]:
    """Returns the model's outputs in float32; nested ones (`visual_prediction_scores`) are named `outer_inner`."""
    return flattened(model(inputs, output_attentions=False, output_hidden_states=False, training=False))


def flattened(outputs: dict) -> dict[str, tf.Tensor]:
    """Flattens a model's outputs as `outputs_of` returns them, without attentions and hidden states."""
    flat = {}
    for name, value in outputs.items():
        if isinstance(value, (tuple, list)):
            continue
        flat |= {f"{name}_{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {name: value}
    return {name: tf.cast(value, tf.float32) for name, value in flat.items()}  # clients need not know bfloat16
