"""Computes each kind of answer in a graph: from a model's outputs to strings and scores, for all rows at once.

All functions work on tensors of unknown size, with core ops only. `tfvl.answers.arrays` gives the same in NumPy.
"""

import tensorflow as tf

from tfvl.answers.rows import ANSWER_SCORES, ATTRIBUTE_SCORES, KINDS, OBJECT_SCORES, REGION_BOXES, Head, Words
from tfvl.export.rows import only
from tfvl.export.texts import PHRASES, is_blank
from tfvl.layers.attention import MASKED
from tfvl.preprocessing.text.phrases import in_order

ACTIVATIONS = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}


def answer(head: Head, outputs: dict, inputs: dict, words: Words) -> dict[str, tf.Tensor]:
    """Computes the answers of a head, under the names in `KINDS[head.kind]`.

    Args:
        inputs: the model's input dict, and the raw strings of the request ("" in rows with a status).

    Returns:
        Tensors with a row per request, by name; maybe `status`, which says what is wrong with rows without an answer.
    """
    return ANSWERS[head.kind](head, outputs, inputs, words)


def pooled(head, outputs, inputs, words):
    """Returns the pooled hidden state (N, hidden) of a model without a head, under the model's own name for it."""
    results = {name: outputs[name] for name in KINDS["pooled"] if name in outputs}
    if not results:
        raise ValueError(
            "this model was made with add_pooling_layer=False and has nothing to answer; make it with a pooler"
        )
    return results


def labels(head, outputs, inputs, words):
    """Returns `answers` and `scores` (N, k): the labels with the highest scores, best first.

    Scores are a softmax; or independent sigmoids, if the head was trained with binary cross-entropy.
    """
    answers, scores = best_labels(ACTIVATIONS[head.activation](outputs[head.logits]), words)
    return {"answers": answers, "scores": scores}


def best_labels(scores, words):
    """Returns the labels with the highest of the scores (N, labels), and these scores, both (N, k)."""
    scores, ids = tf.math.top_k(scores, min(words.top_k, len(words.labels)))
    return tf.gather(tf.constant(words.labels), ids), scores


def fill_masks(logits, inputs, words):
    """Predicts the words of all [MASK]s of each text in one pass, and returns which rows have a [MASK].

    `filled` (N): the original text, every [MASK] replaced by its best token (one beyond the model's length stays).
    `candidates` and `candidate_scores` (N, M, k): the best tokens of each [MASK] and their softmax over the vocabulary;
    M is the largest number of masks in a row, and rows with fewer are padded with "" and 0. `answers` and `scores`
    (N, k): those of the first [MASK].

    Args:
        logits: (N, L or more, vocab), of each token of `input_ids`.
    """
    size = words.vocabulary_size
    masked = inputs["input_ids"] == words.mask_id  # (N, L)
    counts = tf.reduce_sum(tf.cast(masked, tf.int32), axis=1)  # (N,)
    # Only the masked positions go through the softmax. The model may have more ids than the vocabulary has tokens.
    scores = tf.nn.softmax(tf.gather_nd(logits, tf.where(masked)))[:, :size]  # (masks, vocabulary)
    scores, ids = tf.math.top_k(scores, min(words.top_k, size))
    tokens = tf.gather(tf.constant(in_order(words.tokens)), ids)  # (masks, k)

    def by_row(values, blank, width):
        return tf.RaggedTensor.from_row_lengths(values, counts).to_tensor(
            blank, shape=tf.stack([-1, width, *values.shape[1:]])
        )

    most = tf.maximum(tf.reduce_max(counts), 1)
    candidates, candidate_scores = by_row(tokens, "", most), by_row(scores, 0.0, most)  # (N, M, k)

    pieces = tf.strings.split(inputs["text"], words.mask_token)  # the text between the masks
    places, pieces = pieces.row_lengths() - 1, pieces.to_tensor("")  # (N,), (N, P)
    width = tf.shape(pieces)[1]
    best = by_row(tokens[:, 0], words.mask_token, width)
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


def masks(head, outputs, inputs, words):
    """Returns what `fill_masks` returns; a text without a [MASK] gets a status."""
    results, has_mask = fill_masks(outputs[head.logits], inputs, words)
    return results | {"status": tf.where(has_mask, "", f"text: no {words.mask_token} within the model's length")}


def pretraining(head, outputs, inputs, words):
    """Returns what `fill_masks` returns, `match` (N), and the other predictions. A text needs no [MASK].

    `match`: the probability that the text belongs to the image. `question_answers` and `question_scores` (N, k), if the
    model answers questions: as `labels` (`answers` and `scores` are those of the first [MASK]). `object_ids` and
    `object_scores`, `attribute_ids` and `attribute_scores` (N, R), if it classifies regions: the best class of each
    region, from 0, and its softmax; 0 for padding.
    """
    results, _ = fill_masks(outputs[head.logits], inputs, words)
    output, place = head.match
    results["match"] = tf.nn.softmax(outputs[output])[:, place]
    if ANSWER_SCORES in outputs:
        results["question_answers"], results["question_scores"] = best_labels(
            tf.nn.softmax(outputs[ANSWER_SCORES]), words
        )
    for name, output in (("object", OBJECT_SCORES), ("attribute", ATTRIBUTE_SCORES)):
        if output in outputs:
            scores = tf.nn.softmax(outputs[output])  # (N, R, classes)
            best = {"ids": tf.argmax(scores, axis=2, output_type=tf.int32), "scores": tf.reduce_max(scores, axis=2)}
            real = inputs["visual_attention_mask"] > 0
            results |= {f"{name}_{what}": only(real, value) for what, value in best.items()}
    return results


def match(head, outputs, inputs, words):
    """Returns `scores` (N, 1), the unbounded logit by which pairs are ranked, and `answers` (N, 1), the text itself."""
    return {"answers": inputs["text"][:, None], "scores": outputs[head.logits]}


def tokens(head, outputs, inputs, words):
    """Returns `tokens`, `answers` and `scores` (N, L): each token of the text, its best label and the label's softmax.

    [CLS] and [SEP] are tokens too. Rows shorter than L end in "" and 0.
    """
    scores = tf.nn.softmax(outputs[head.logits])  # (N, L, labels)
    results = {
        "tokens": tf.gather(tf.constant(in_order(words.tokens)), inputs["input_ids"]),
        "answers": tf.gather(tf.constant(words.labels), tf.argmax(scores, axis=-1)),
        "scores": tf.reduce_max(scores, axis=-1),
    }
    padding = inputs["attention_mask"] == 0
    text_first = tf.argsort(tf.cast(padding, tf.int32), axis=1, stable=True)  # on whichever side the padding is
    return {name: tf.gather(only(~padding, value), text_first, batch_dims=1) for name, value in results.items()}


def choices(head, outputs, inputs, words):
    """Returns `answers` and `scores` (N, k): the choices of a row, best first, and their softmax.

    Rows with fewer choices are padded with "" and 0.
    """
    given = ~is_blank(inputs["choices"])
    logits = tf.where(given, outputs[head.logits], MASKED)  # (N, C)
    _, ids = tf.math.top_k(logits, tf.minimum(words.top_k, tf.shape(logits)[1]))
    results = {"answers": only(given, inputs["choices"]), "scores": tf.nn.softmax(logits)}
    return {name: tf.gather(value, ids, batch_dims=1) for name, value in results.items()}


def phrases(head, outputs, inputs, words):
    """Returns `region_ids` (N, P), the best region of each phrase, and `scores` (N, P, R), a softmax over the regions.

    If a detector has found the regions, it also returns `boxes` (N, P, 4): the corners x1, y1, x2, y2 in 0 … 1 of the
    best regions. All are 0 for an empty phrase, and so are the scores of padded regions.
    """
    scores = tf.nn.softmax(outputs[head.logits])  # the model has masked padded regions
    results = {"region_ids": tf.argmax(scores, axis=2, output_type=tf.int32), "scores": scores}
    if REGION_BOXES in inputs:
        results["boxes"] = tf.gather(inputs[REGION_BOXES], results["region_ids"], batch_dims=1)
    asked = inputs[PHRASES] >= 0
    return {name: only(asked, value) for name, value in results.items()}


# The functions by the kind of the answer, the name of a function and of its row in `KINDS`.
ANSWERS = {each.__name__: each for each in (pooled, labels, masks, pretraining, match, tokens, choices, phrases)}
