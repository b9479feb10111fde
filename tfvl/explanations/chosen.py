"""Selects the answer that is explained: its logit, its score, and the position that the head reads for it.

There is a function for each kind of answer (`tfvl.answers.rows.KINDS`). They take tensors and also work in a graph.
"""

from typing import NamedTuple

import tensorflow as tf

from tfvl.answers.rows import ANSWER_SCORES, Head, Words
from tfvl.layers.attention import MASKED

PHRASES = "region_to_phrase_position"


class Chosen(NamedTuple):
    """The explained answer of each of N requests.

    Attributes:
        logit: (N,) float32, the raw logit, whose gradient is taken.
        score: (N,) float32, the score that `serving_default` gives.
        answer: (N,) int32, the index of the label, word, choice or region.
        position: (N,) int32, the position that the head reads.
        row: (N,) int32, the row in the encoder's batch; with choices, it has a row for each choice of a request.
    """

    logit: tf.Tensor
    score: tf.Tensor
    answer: tf.Tensor
    position: tf.Tensor
    row: tf.Tensor


def choose(model, head: Head, outputs: dict, inputs: dict, words: Words, target, place) -> Chosen:
    """Selects the answer that is explained.

    Args:
        model: the model.
        head: its row of `tfvl.answers.rows`.
        outputs: the model's outputs.
        inputs: the model's inputs, maybe with `choices`, strings (N, C), in which "" is padding.
        words: the vocabulary.
        target: int32 (N,), the index of the answer; -1: the best.
        place: int32 (N,), the index of the token, mask or phrase that the answer is for; -1: the first.
    """
    return CHOOSE[head.kind](model, head, outputs, inputs, words, target, place)


def pick(logits, scores, target) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns logit, score and index of the answer `target`, or of the best one, from (N, answers)."""
    logits = tf.cast(logits, tf.float32)
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)
    answer = tf.where(target < 0, best, tf.minimum(target, tf.shape(logits)[-1] - 1))
    return *(tf.gather(values, answer, axis=1, batch_dims=1) for values in (logits, scores)), answer


def rows_of(target) -> tf.Tensor:
    return tf.range(tf.shape(target)[0])


def labels(model, head, outputs, inputs, words, target, place, output=None) -> Chosen:
    logits = tf.cast(outputs[output or head.logits], tf.float32)
    activation = tf.nn.softmax if output else getattr(tf.nn, head.activation)
    position = tf.zeros_like(target)
    if hasattr(model, "last_word"):  # only VisualBERT's question answering has it
        position = tf.cast(model.last_word(inputs)[:, 0], tf.int32)
    return Chosen(*pick(logits, activation(logits), target), position, rows_of(target))


def masks(model, head, outputs, inputs, words, target, place) -> Chosen:
    masked = tf.cast(inputs["input_ids"] == words.mask_id, tf.int32)
    position = tf.where(place < 0, tf.argmax(masked, axis=1, output_type=tf.int32), place)
    logits = tf.cast(tf.gather(outputs[head.logits], position, axis=1, batch_dims=1), tf.float32)  # (N, vocabulary)
    size = words.vocabulary_size  # the model's vocabulary may be larger
    return Chosen(*pick(logits[:, :size], tf.nn.softmax(logits)[:, :size], target), position, rows_of(target))


def match(model, head, outputs, inputs, words, target, place) -> Chosen:
    logit, none = tf.cast(outputs[head.logits][:, 0], tf.float32), tf.zeros_like(target)
    return Chosen(logit, logit, none, none, rows_of(target))


def pretraining(model, head, outputs, inputs, words, target, place) -> Chosen:
    """Selects a mask's word; for a text without a mask, its answer as a question if the model has one, or the match."""
    output, matching = head.match
    if ANSWER_SCORES in outputs:
        other = labels(model, head, outputs, inputs, words, target, place, output=ANSWER_SCORES)
    else:
        other = labels(model, head, outputs, inputs, words, tf.fill(tf.shape(target), matching), place, output=output)
    of_mask = masks(model, head, outputs, inputs, words, target, place)
    has_mask = tf.reduce_any(inputs["input_ids"] == words.mask_id, axis=1)
    return Chosen(*(tf.where(has_mask, *pair) for pair in zip(of_mask, other, strict=True)))


def tokens(model, head, outputs, inputs, words, target, place) -> Chosen:
    position = tf.where(place < 0, tf.minimum(1, tf.shape(inputs["input_ids"])[1] - 1), place)
    logits = tf.cast(tf.gather(outputs[head.logits], position, axis=1, batch_dims=1), tf.float32)
    return Chosen(*pick(logits, tf.nn.softmax(logits), target), position, rows_of(target))


def choices(model, head, outputs, inputs, words, target, place) -> Chosen:
    logits = tf.cast(outputs[head.logits], tf.float32)  # (N, C)
    if "choices" in inputs:
        logits = tf.where(tf.strings.strip(inputs["choices"]) == "", MASKED, logits)
    logit, score, answer = pick(logits, tf.nn.softmax(logits), target)
    row = rows_of(target) * tf.shape(logits)[1] + answer
    return Chosen(logit, score, answer, tf.zeros_like(target), row)


def phrases(model, head, outputs, inputs, words, target, place) -> Chosen:
    which = tf.maximum(place, 0)
    logits = tf.gather(outputs[head.logits], which, axis=1, batch_dims=1)  # (N, regions)
    position = tf.gather(inputs[PHRASES], which, axis=1, batch_dims=1)
    return Chosen(*pick(logits, tf.nn.softmax(logits), target), tf.maximum(position, 0), rows_of(target))


# The functions by the kind of answer, which is their name, too. A model that only pools has no answers.
CHOOSE = {each.__name__: each for each in (labels, masks, match, pretraining, tokens, choices, phrases)}
