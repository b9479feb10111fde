"""The signature's inputs of texts: the question, choices to go with it, and phrases in it."""

import numpy as np
import tensorflow as tf

from tfvl.export.parts import ModelInput, Part, spec
from tfvl.export.rows import first_of_items, first_problem
from tfvl.preprocessing.text.phrases import locate

TEXT = ("input_ids", "token_type_ids", "attention_mask")
PHRASES = "region_to_phrase_position"


def text(head, config, processor) -> Part:
    """Describes the input `text`: strings (N,) in UTF-8."""

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
    """Describes the input `choices` (N, C), texts that each go with `text`; rows with fewer are padded with ""."""

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
    """Describes the input `phrases` (N, P), parts of `text`; rows with fewer are padded with ""."""

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
    """Returns the texts (N,), with "" for one that is not UTF-8, and their status (N,)."""
    text, status = utf8("text", text)
    return text, first_problem(status, tf.where(is_blank(text), "text: it is empty", ""))


def tokenize(processor, config, *texts: tf.Tensor) -> dict:
    """Tokenizes texts (N,), or pairs of them, and truncates them to the model's number of positions."""
    asked = {"padding": True, "truncation": True, "max_length": max_length(processor, config)}
    encoded = processor.tokenizer(*texts, **asked, return_token_type_ids=True, return_attention_mask=True)
    return {name: encoded[name] for name in TEXT}


def max_length(processor, config) -> int:
    return min(processor.tokenizer.model_max_length, config.max_position_embeddings)


def utf8(name: str, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces strings that are not UTF-8 by ""; returns the strings and the status of each."""
    valid = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace") == text
    return tf.where(valid, text, ""), tf.where(valid, "", f"{name}: it is not valid UTF-8")


def is_blank(text: tf.Tensor) -> tf.Tensor:
    """Returns which strings are empty or consist of white space."""
    return tf.strings.strip(text) == ""
