"""What each head answers: from a model's outputs to the strings and scores of the `serving_default` signature.

A head is a function `(outputs, inputs, texts) -> results`. `outputs` is the model's output dict, `inputs` its input
dict plus `text`, the raw strings; `results` maps output names to tensors with a row per request, and may hold a
`status` for rows that the head cannot answer. All work on tensors of unknown size, in a graph, with core ops only.
"""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Texts:
    """The strings that go into the graph as constants."""

    labels: tuple[str, ...]  # by label id
    tokens: tuple[str, ...]  # the vocabulary, by token id
    mask_token: str
    mask_token_id: int
    top_k: int


def question_answering(outputs, inputs, texts):
    """The `top_k` labels; scores are sigmoids, each for itself: VQA trains every answer with binary cross-entropy."""
    return _best_labels(tf.sigmoid(outputs["logits"]), texts)


def visual_reasoning(outputs, inputs, texts):
    """The labels of NLVR2, best first; scores are a softmax."""
    return _best_labels(tf.nn.softmax(outputs["logits"]), texts)


def retrieval(outputs, inputs, texts):
    """`scores` (N, 1): the logit by which pairs are ranked, unbounded; `answers` (N, 1): the text that was scored."""
    return {"answers": inputs["text"][:, None], "scores": outputs["logits"]}


def pooled(outputs, inputs, texts):
    """The headless model: `pooler_output` (N, hidden)."""
    if "pooler_output" not in outputs:
        raise ValueError(
            "this ViltModel was made with add_pooling_layer=False and has nothing to answer; make it with one"
        )
    return {"pooler_output": outputs["pooler_output"]}


def token_classification(outputs, inputs, texts):
    """`tokens`, `answers` and `scores` (N, L): each token of the text, its best label, and the softmax of that.

    [CLS] and [SEP] are tokens too. Rows shorter than L end in "" and 0.
    """
    scores = tf.nn.softmax(outputs["logits"])  # (N, L, labels)
    results = {
        "tokens": tf.gather(tf.constant(texts.tokens), inputs["input_ids"]),
        "answers": tf.gather(tf.constant(texts.labels), tf.argmax(scores, axis=-1)),
        "scores": tf.reduce_max(scores, axis=-1),
    }
    return {name: only(inputs["attention_mask"] > 0, value) for name, value in results.items()}


def masked_lm(outputs, inputs, texts):
    """What the [MASK]s of a text stand for, all of them predicted in one pass.

    `filled` (N): the text as it came, every [MASK] replaced by its best token (one beyond the model's length stays).
    `candidates` and `candidate_scores` (N, M, k): the best tokens of each [MASK] and their softmax over the vocabulary;
    M is the most masks of a row, past a row's own stand "" and 0. `answers` and `scores` (N, k): those of the first
    [MASK]. A text without [MASK] gets a status.
    """
    results, has_mask = _fill_masks(outputs["logits"], inputs, texts)
    return results | {"status": tf.where(has_mask, "", f"text: no {texts.mask_token} within the model's length")}


def pretraining(outputs, inputs, texts):
    """As `masked_lm`, and `match` (N): the probability that the text describes the image. A text needs no [MASK]."""
    results, _ = _fill_masks(outputs["prediction_logits"], inputs, texts)
    return results | {"match": tf.nn.softmax(outputs["cross_relationship_score"])[:, 1]}


# By class name; a subclass has the head of its nearest base.
HEADS = {
    "ViltModel": pooled,
    "ViltForMaskedLM": masked_lm,
    "ViltForPreTraining": pretraining,
    "ViltForQuestionAnswering": question_answering,
    "ViltForImagesAndTextClassification": visual_reasoning,
    "ViltForImageAndTextRetrieval": retrieval,
    "ViltForTokenClassification": token_classification,
}


def only(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`values` where `rows` is true and blanks ("" or 0) elsewhere; `rows` has the leading axes of `values`."""
    blank = "" if values.dtype == tf.string else tf.zeros([], values.dtype)
    for _ in range(values.shape.rank - rows.shape.rank):
        rows = tf.expand_dims(rows, -1)
    return tf.where(rows, values, blank)


def _best_labels(scores, texts):
    scores, ids = tf.math.top_k(scores, min(texts.top_k, len(texts.labels)))
    return {"answers": tf.gather(tf.constant(texts.labels), ids), "scores": scores}


def _fill_masks(logits, inputs, texts):
    """The results of `masked_lm` but for its status, and which rows have a [MASK]."""
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
