"""What a head is for the export, and what several heads answer: from a model's outputs to strings and scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfvl.export.rows import only


@dataclass(frozen=True)
class Texts:
    """The strings that go into the graph as constants."""

    labels: tuple[str, ...]  # by label id
    tokens: tuple[str, ...]  # the vocabulary, by token id
    mask_token: str
    mask_token_id: int
    top_k: int


class Head(NamedTuple):
    """A row of a family's table `HEADS`, which is in its `export.py`.

    Attributes:
        inputs: `(model, processor) -> Inputs`, what the signatures take.
        answer: `(outputs, inputs, texts) -> results`, what `serving_default` answers. `outputs` is the model's output
            dict, `inputs` its input dict plus the raw strings of the request ("" in rows with a status), `texts` a
            `Texts`; `results` maps output names to tensors with a row per request, and may hold a `status` for rows
            that the head cannot answer. All work on tensors of unknown size, in a graph, with core ops only.
    """

    inputs: Callable
    answer: Callable


def pooled(outputs, inputs, texts):
    """A headless model: `pooler_output` (N, hidden), under the name that the model has for it."""
    results = {name: outputs[name] for name in ("pooler_output", "pooled_output") if name in outputs}
    if not results:
        raise ValueError(
            "this model was made with add_pooling_layer=False and has nothing to answer; make it with a pooler"
        )
    return results


def classification(outputs, inputs, texts):
    """The `top_k` labels, best first; scores are a softmax."""
    return best_labels(tf.nn.softmax(outputs["logits"]), texts)


def best_labels(scores, texts):
    """`answers` and `scores` (N, k): the labels with the highest scores (N, labels)."""
    scores, ids = tf.math.top_k(scores, min(texts.top_k, len(texts.labels)))
    return {"answers": tf.gather(tf.constant(texts.labels), ids), "scores": scores}


def fill_masks(logits, inputs, texts):
    """What the [MASK]s of each text stand for, all of them predicted in one pass; and which rows have a [MASK].

    `filled` (N): the text as it came, every [MASK] replaced by its best token (one beyond the model's length stays).
    `candidates` and `candidate_scores` (N, M, k): the best tokens of each [MASK] and their softmax over the vocabulary;
    M is the most masks of a row, past a row's own stand "" and 0. `answers` and `scores` (N, k): those of the first
    [MASK].

    Args:
        logits: (N, L or more, vocab), of each token of `input_ids`.
    """
    masked = inputs["input_ids"] == texts.mask_token_id  # (N, L)
    counts = tf.reduce_sum(tf.cast(masked, tf.int32), axis=1)  # (N,)
    # Only the masked positions go through the softmax. The model may have more ids than the vocabulary has tokens.
    scores = tf.nn.softmax(tf.gather_nd(logits, tf.where(masked)))[:, : len(texts.tokens)]  # (masks, vocabulary)
    scores, ids = tf.math.top_k(scores, min(texts.top_k, len(texts.tokens)))
    tokens = tf.gather(tf.constant(texts.tokens), ids)  # (masks, k)

    def by_row(values, blank, width):
        return tf.RaggedTensor.from_row_lengths(values, counts).to_tensor(
            blank, shape=tf.stack([-1, width, *values.shape[1:]])
        )

    most = tf.maximum(tf.reduce_max(counts), 1)
    candidates, candidate_scores = by_row(tokens, "", most), by_row(scores, 0.0, most)  # (N, M, k)

    pieces = tf.strings.split(inputs["text"], texts.mask_token)  # the text between the masks
    places, pieces = pieces.row_lengths() - 1, pieces.to_tensor("")  # (N,), (N, P)
    width = tf.shape(pieces)[1]
    best = by_row(tokens[:, 0], texts.mask_token, width)
    best = only(tf.range(width, dtype=tf.int64) < places[:, None], best)  # nothing follows the last piece
    continues = tf.strings.regex_full_match(best, "##.+")  # a piece of the word before it
    pieces = tf.where(continues, tf.strings.regex_replace(pieces, r"\s+$", ""), pieces)
    best = tf.strings.regex_replace(best, "^##(.+)", r"\1")
    results = {
        "answers": candidates[:, 0],
        "scores": candidate_scores[:, 0],
        "filled": tf.strings.reduce_join(tf.strings.join([pieces, best]), axis=1),
        "candidates": candidates,
        "candidate_scores": candidate_scores,
    }
    return results, counts > 0
