"""Aligns words with patches by optimal transport: words move to patches at the least cost (ViLT, section 4.1)."""

import tensorflow as tf

BETA, ITERATIONS = 0.5, 50  # the paper's


def transport(cost: tf.Tensor, beta: float = BETA, iterations: int = ITERATIONS) -> tf.Tensor:
    """Computes the transport plan (words, patches), which sums to 1; all words, and all patches, have the same mass.

    It makes inexact proximal point iterations (Xie et al. 2018, algorithm 1), with one inner step each.

    Args:
        cost: (words, patches), the cost of moving each word to each patch.
        beta: weight of the proximal term.
        iterations: number of iterations.
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
    """Scores words (words,) and patches (patches,) from their last hidden states.

    The score of a patch is the mass that it receives from the words in `asked`. The score of a word is its cosine
    similarity to the patches that it is moved to. If `asked` is empty, the score of a patch is its similarity to all
    words that are moved to it.

    Args:
        words, patches: (words, hidden), (patches, hidden), without [CLS], [SEP] and the image's class token.
        asked: indices of words.
    """
    words, patches = (tf.cast(states, tf.float32) for states in (words, patches))  # whatever the model computes in
    alike = tf.matmul(tf.math.l2_normalize(words, -1), tf.math.l2_normalize(patches, -1), transpose_b=True)
    plan = transport(1 - alike)
    count = tf.cast(tf.shape(words)[0], tf.float32)
    of_words = count * tf.reduce_sum(plan * alike, axis=1)
    of_patches = tf.reduce_sum(tf.gather(plan, asked), axis=0) * count if asked else tf.reduce_sum(plan * alike, axis=0)
    return of_words, of_patches
