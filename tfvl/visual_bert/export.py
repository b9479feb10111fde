"""What exported VisualBERT models take and answer (see `tfvl.export`)."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfvl.export.heads import Head, classification, fill_masks, pooled
from tfvl.export.inputs import (
    Inputs,
    checked_text,
    example_text,
    is_blank,
    max_length,
    spec,
    text_specs,
    tokenize,
    tokens_by_id,
    utf8,
)
from tfvl.export.regions import region_inputs
from tfvl.export.rows import first_of_items, first_problem, only
from tfvl.layers.attention import MASKED


def text_and_regions(model, processor) -> Inputs:
    """`text` (N,) UTF-8; with a detector `image` (N,) encoded files, else `regions` (N, R, size) features.

    A region whose features are all 0 is padding, for rows with fewer than R.
    """
    config = model.config
    visual = region_inputs(processor, config.visual_embedding_dim)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        features, mask, _, status = visual.encode(raw)
        text, text_status = checked_text(raw["text"])
        regions = visual_inputs(features, mask, tf.ones_like(mask))
        return tokenize(processor, config, text) | regions, first_problem(status, text_status)

    return Inputs(
        raw={"text": spec(tf.string, "text"), **visual.raw},
        tensors=text_specs()
        | visual_inputs(
            spec(tf.float32, "visual_embeds", None, config.visual_embedding_dim),
            spec(tf.int32, "visual_attention_mask", None),
            spec(tf.int32, "visual_token_type_ids", None),
        ),
        encode=encode,
        example={"text": example_text(processor), **visual.example},
    )


def visual_inputs(features, mask, types) -> dict:
    return {"visual_embeds": features, "visual_attention_mask": mask, "visual_token_type_ids": types}


def text_and_pairs(model, processor) -> Inputs:
    """As `text_and_regions`, but `image` (N, 2) or `regions` (N, 2, R, size) are of two images.

    The model sees the regions of both one after the other, of token type 0 and 1, as in the authors' code.
    """
    config = model.config
    visual = region_inputs(processor, config.visual_embedding_dim, 2)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        features, mask, _, status = visual.encode(raw)  # (N, 2, R, size), (N, 2, R)
        rows, images, regions = tf.unstack(tf.shape(mask))
        types = tf.range(images)[:, None] * tf.ones_like(mask)
        features = tf.reshape(features, [rows, images * regions, config.visual_embedding_dim])
        mask, types = (tf.reshape(value, [rows, images * regions]) for value in (mask, types))
        text, text_status = checked_text(raw["text"])
        both = visual_inputs(features, mask, types)
        return tokenize(processor, config, text) | both, first_problem(status, text_status)

    common = text_and_regions(model, processor)
    return replace(
        common,
        raw={"text": spec(tf.string, "text"), **visual.raw},
        encode=encode,
        example={"text": example_text(processor), **visual.example},
    )


def text_regions_and_choices(model, processor) -> Inputs:
    """As `text_and_regions`, and `choices` (N, C): each goes with the text, "" pads rows with fewer."""
    common = text_and_regions(model, processor)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        encoded, status = common.encode(raw)
        text, _ = checked_text(raw["text"])
        choices, choices_status = utf8("choices", raw["choices"])
        shape = tf.shape(choices)
        texts = tf.broadcast_to(text[:, None], shape)
        pairs = tokenize(processor, model.config, tf.reshape(texts, [-1]), tf.reshape(choices, [-1]))
        encoded |= {name: tf.reshape(ids, [shape[0], shape[1], tf.shape(ids)[1]]) for name, ids in pairs.items()}
        none = tf.where(
            tf.reduce_all(is_blank(choices), axis=1), "choices: there are none, or all of them are empty", ""
        )
        return encoded, first_problem(status, first_of_items("choices", choices_status), none)

    return replace(
        common,
        raw=common.raw | {"choices": spec(tf.string, "choices", None)},
        tensors=common.tensors | text_specs(None),
        encode=encode,
        example=common.example | {"choices": np.array([["red", "green", "blue", "none of them"]], object)},
    )


def text_regions_and_phrases(model, processor) -> Inputs:
    """As `text_and_regions`, and `phrases` (N, P) of the text, "" pads rows with fewer."""
    common = text_and_regions(model, processor)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        encoded, status = common.encode(raw)
        phrases, phrases_status = utf8("phrases", raw["phrases"])
        positions = locate(phrases, encoded, processor.tokenizer, max_length(processor, model.config))
        blank = is_blank(phrases)
        missing = tf.where((positions >= 0) | blank, "", "phrases: it is not in the text, or beyond the model's length")
        none = tf.where(tf.reduce_all(blank, axis=1), "phrases: there are none, or all of them are empty", "")
        status = first_problem(
            status, first_of_items("phrases", phrases_status), first_of_items("phrases", missing), none
        )
        return encoded | {"region_to_phrase_position": positions}, status

    return replace(
        common,
        raw=common.raw | {"phrases": spec(tf.string, "phrases", None)},
        tensors=common.tensors | {"region_to_phrase_position": spec(tf.int32, "region_to_phrase_position", None)},
        encode=encode,
        example=common.example | {"phrases": np.array([["the picture"]], object)},
    )


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
    pieces = [token.startswith("##") for token in tokens_by_id(tokenizer)]
    within_word = tf.gather(tf.constant(pieces), tf.maximum(after, 0))
    found = tf.reduce_all(same, axis=3) & ~within_word & (lengths[..., None] > 0)  # (N, P, L)
    first = tf.argmax(tf.cast(found, tf.int32), axis=2, output_type=tf.int32)
    return tf.where(tf.reduce_any(found, axis=2), first + lengths - 1, -1)


def pretraining(outputs, inputs, texts):
    """As `fill_masks`, and `match` (N): the probability that the text belongs to the image. A text needs no [MASK]."""
    results, _ = fill_masks(outputs["prediction_logits"], inputs, texts)
    return results | {"match": tf.nn.softmax(outputs["seq_relationship_logits"])[:, 0]}


def multiple_choice(outputs, inputs, texts):
    """`answers` and `scores` (N, k): a row's choices, best first, and their softmax; "" and 0 past a row's last."""
    given = ~is_blank(inputs["choices"])
    logits = tf.where(given, outputs["logits"], MASKED)  # (N, C)
    _, ids = tf.math.top_k(logits, tf.minimum(texts.top_k, tf.shape(logits)[1]))
    results = {"answers": only(given, inputs["choices"]), "scores": tf.nn.softmax(logits)}
    return {name: tf.gather(value, ids, batch_dims=1) for name, value in results.items()}


def alignment(outputs, inputs, texts):
    """`region_ids` (N, P): the best region of each phrase, from 0; `scores` (N, P, R): softmax over the row's regions.

    Both are 0 for an empty phrase, the scores of padded regions too.
    """
    scores = tf.nn.softmax(outputs["logits"])  # the model has masked padded regions
    results = {"region_ids": tf.argmax(scores, axis=2, output_type=tf.int32), "scores": scores}
    asked = inputs["region_to_phrase_position"] >= 0
    return {name: only(asked, value) for name, value in results.items()}


# By class name; a subclass has the head of its nearest base.
HEADS = {
    "VisualBertModel": Head(text_and_regions, pooled),
    "VisualBertForPreTraining": Head(text_and_regions, pretraining),
    "VisualBertForQuestionAnswering": Head(text_and_regions, classification),
    "VisualBertForMultipleChoice": Head(text_regions_and_choices, multiple_choice),
    "VisualBertForVisualReasoning": Head(text_and_pairs, classification),
    "VisualBertForRegionToPhraseAlignment": Head(text_regions_and_phrases, alignment),
}
