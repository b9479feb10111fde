"""Which patches each word is carried to, where words are carried to patches at the least cost (ViLT, section 4.1)."""

import tensorflow as tf

BETA, ITERATIONS = 0.5, 50  # of the paper


def transport(cost: tf.Tensor, beta: float = BETA, iterations: int = ITERATIONS) -> tf.Tensor:
    """The plan (words, patches), which sums to 1, with the same mass for all words and for all patches.

    Inexact proximal point iterations (Xie et al. 2018, algorithm 1), one inner step each.

    Args:
        cost: (words, patches).
    """
    words, patches = tf.unstack(tf.cast(tf.shape(cost), tf.float32))
    kernel = tf.exp(-cost / beta)
    plan, right = tf.ones_like(cost), tf.fill(tf.shape(cost)[1:], 1 / patches)
    for _ in range(iterations):
        weights = kernel * plan
        left = tf.math.divide_no_nan(1 / words, tf.linalg.matvec(weights, right))
        right = tf.math.divide_no_nan(1 / patches, tf.linalg.matvec(weights, left, transpose_a=True))
        plan = left[:, None] * weights * right[None]
    return plan


def alignment(words: tf.Tensor, patches: tf.Tensor, asked: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores of words (words,) and of patches (patches,) from their last hidden states.

    A patch scores what is carried to it from the words that are asked about, a word how alike it is, by the cosine, to
    what it is carried to. Where no word is asked about, a patch scores that likeness of all words.

    Args:
        words, patches: (words, hidden), (patches, hidden), without [CLS], [SEP] and the image's class token.
        asked: which words.
    """
    alike = tf.matmul(tf.math.l2_normalize(words, -1), tf.math.l2_normalize(patches, -1), transpose_b=True)
    plan = transport(1 - alike)
    count = tf.cast(tf.shape(words)[0], tf.float32)
    of_words = count * tf.reduce_sum(plan * alike, axis=1)
    of_patches = tf.reduce_sum(tf.gather(plan, asked), axis=0) * count if asked else tf.reduce_sum(plan * alike, axis=0)
    return of_words, of_patches
