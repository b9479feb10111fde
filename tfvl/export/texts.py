"""The texts of a request: the one that is asked, the choices that go with it, and the phrases of it."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfvl.export.parts import ModelInput, Part, spec
from tfvl.export.rows import first_of_items, first_problem

TEXT = ("input_ids", "token_type_ids", "attention_mask")
PHRASES = "region_to_phrase_position"


def text(head, config, processor) -> Part:
    """`text` (N,) UTF-8."""

    def encode(raw: dict, encoded: dict) -> tuple[dict, tf.Tensor]:
        texts, status = checked_text(raw["text"])
        return tokenize(processor, config, texts), status

    example = np.array([f"what is the {processor.tokenizer.mask_token} in the picture?"], object)
    return Part(
        raw={"text": spec(tf.string, "text")},
        tensors=dict.fromkeys(TEXT, ModelInput(tf.int32, ("text_length",))),
        encode=encode,
        example={"text": example},
    )


def choices(head, config, processor) -> Part:
    """`choices` (N, C): each goes with the text, "" pads rows with fewer."""

    def encode(raw: dict, encoded: dict) -> tuple[dict, tf.Tensor, tf.Tensor]:
        texts, _ = checked_text(raw["text"])
        given, status = utf8("choices", raw["choices"])
        shape = tf.shape(given)
        texts = tf.broadcast_to(texts[:, None], shape)
        pairs = tokenize(processor, config, tf.reshape(texts, [-1]), tf.reshape(given, [-1]))
        pairs = {name: tf.reshape(ids, [shape[0], shape[1], tf.shape(ids)[1]]) for name, ids in pairs.items()}
        none = tf.where(tf.reduce_all(is_blank(given), axis=1), "choices: there are none, or all of them are empty", "")
        return pairs, first_of_items("choices", status), none

    return Part(
        raw={"choices": spec(tf.string, "choices", None)},
        tensors=dict.fromkeys(TEXT, ModelInput(tf.int32, ("choices", "text_length"))),
        encode=encode,
        example={"choices": np.array([["red", "green", "blue", "none of them"]], object)},
    )


def phrases(head, config, processor) -> Part:
    """`phrases` (N, P) of the text, "" pads rows with fewer."""

    def encode(raw: dict, encoded: dict) -> tuple[dict, tf.Tensor, tf.Tensor, tf.Tensor]:
        given, status = utf8("phrases", raw["phrases"])
        positions = locate(given, encoded, processor.tokenizer, max_length(processor, config))
        blank = is_blank(given)
        missing = tf.where((positions >= 0) | blank, "", "phrases: it is not in the text, or beyond the model's length")
        none = tf.where(tf.reduce_all(blank, axis=1), "phrases: there are none, or all of them are empty", "")
        return {PHRASES: positions}, first_of_items("phrases", status), first_of_items("phrases", missing), none

    return Part(
        raw={"phrases": spec(tf.string, "phrases", None)},
        tensors={PHRASES: ModelInput(tf.int32, ("phrases",))},
        encode=encode,
        example={"phrases": np.array([["the picture"]], object)},
    )


def checked_text(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The texts (N,) and their status; "" for one that is not UTF-8."""
    text, status = utf8("text", text)
    return text, first_problem(status, tf.where(is_blank(text), "text: it is empty", ""))


def tokenize(processor, config, *texts: tf.Tensor) -> dict:
    """The tokenizer's dict for texts (N,), or for pairs of them, cut at the model's number of positions."""
    asked = {"padding": True, "truncation": True, "max_length": max_length(processor, config)}
    encoded = processor.tokenizer(*texts, **asked, return_token_type_ids=True, return_attention_mask=True)
    return {name: encoded[name] for name in TEXT}


def max_length(processor, config) -> int:
    return min(processor.tokenizer.model_max_length, config.max_position_embeddings)


def in_order(tokens: Mapping[int, str]) -> tuple[str, ...]:
    """The tokens of a vocabulary; "" for an id that no token has."""
    return tuple(tokens.get(index, "") for index in range(max(tokens) + 1))


def utf8(name: str, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Strings of any shape, with "" for those that are not UTF-8, and the status of each."""
    valid = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace") == text
    return tf.where(valid, text, ""), tf.where(valid, "", f"{name}: it is not valid UTF-8")


def is_blank(text: tf.Tensor) -> tf.Tensor:
    """Which strings are empty or white space only."""
    return tf.strings.strip(text) == ""


def locate(phrases: tf.Tensor, encoded: dict, tokenizer, longest: int) -> tf.Tensor:
    """Where phrases (N, P) stand in their row's tokenised text: int32 (N, P), or -1.

    A phrase stands where its tokens do, first, as whole words; its place is that of its last token, as in the authors'
    code. Words that the vocabulary lacks are all alike.
    """
    tokens = tokenizer(tf.reshape(phrases, [-1]), add_special_tokens=False, truncation=True, max_length=longest)
    rows, count = tf.unstack(tf.shape(phrases))
    ids = tf.reshape(tokens["input_ids"], [rows, count, tf.shape(tokens["input_ids"])[1]])  # (N, P, T)
    lengths = tf.reshape(tf.reduce_sum(tokens["attention_mask"], axis=1), [rows, count])  # (N, P)
    place, offset = tf.range(tf.shape(encoded["input_ids"])[1]), tf.range(tf.shape(ids)[2])  # (L,), (T,)

    end = tf.reduce_sum(encoded["attention_mask"], axis=1, keepdims=True) - 1  # (N, 1): where [SEP] is
    text = tf.where((place > 0) & (place < end), encoded["input_ids"], -1)  # (N, L)
    text = tf.pad(text, [[0, 0], [0, tf.size(offset) + 1]], constant_values=-1)
    runs = tf.gather(text, place[:, None] + offset, axis=1)  # (N, L, T)
    same = (runs[:, None] == ids[:, :, None]) | (offset >= lengths[..., None, None])  # (N, P, L, T)
    after = tf.gather(text, place + lengths[..., None], batch_dims=1)  # (N, P, L): the token behind the run
    pieces = [token.startswith("##") for token in in_order(tokens_of(tokenizer))]
    within_word = tf.gather(tf.constant(pieces), tf.maximum(after, 0))
    found = tf.reduce_all(same, axis=3) & ~within_word & (lengths[..., None] > 0)  # (N, P, L)
    first = tf.argmax(tf.cast(found, tf.int32), axis=2, output_type=tf.int32)
    return tf.where(tf.reduce_any(found, axis=2), first + lengths - 1, -1)


def tokens_of(tokenizer) -> dict[int, str]:
    """The vocabulary, by id."""
    return tokenizer.all_shown()
