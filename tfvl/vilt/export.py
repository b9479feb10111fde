"""What exported ViLT models take and answer (see `tfvl.export`)."""

import tensorflow as tf

from tfvl.export.heads import Head, best_labels, classification, fill_masks, pooled
from tfvl.export.inputs import (
    Inputs,
    checked_text,
    example_images,
    example_text,
    numbered,
    spec,
    text_specs,
    tokenize,
)
from tfvl.export.rows import first_problem, once_each, only


def image_and_text(model, processor, *images: int) -> Inputs:
    """`image` (N, [images]) encoded files and `text` (N,) UTF-8."""

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        decode = processor.image_processor.decode_and_preprocess_rows
        pixel_values, pixel_mask, status = once_each(decode, raw["image"])
        text, text_status = checked_text(raw["text"])
        encoded = tokenize(processor, model.config, text)
        encoded |= {"pixel_values": pixel_values, "pixel_mask": pixel_mask}
        return encoded, first_problem(numbered(status) if images else status, text_status)

    return Inputs(
        raw={"image": spec(tf.string, "image", *images), "text": spec(tf.string, "text")},
        tensors={
            **text_specs(),
            "pixel_values": spec(tf.float32, "pixel_values", *images, None, None, model.config.num_channels),
            "pixel_mask": spec(tf.int32, "pixel_mask", *images, None, None),
        },
        encode=encode,
        example={"image": example_images(*images), "text": example_text(processor)},
    )


def images_and_text(model, processor) -> Inputs:
    """`image` (N, num_images): NLVR2's head takes several for a text."""
    return image_and_text(model, processor, model.config.num_images)


def question_answering(outputs, inputs, texts):
    """The `top_k` labels; scores are sigmoids, each for itself: VQA trains every answer with binary cross-entropy."""
    return best_labels(tf.sigmoid(outputs["logits"]), texts)


def retrieval(outputs, inputs, texts):
    """`scores` (N, 1): the logit by which pairs are ranked, unbounded; `answers` (N, 1): the text that was scored."""
    return {"answers": inputs["text"][:, None], "scores": outputs["logits"]}


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
    """As `fill_masks`; a text without [MASK] gets a status."""
    results, has_mask = fill_masks(outputs["logits"], inputs, texts)
    return results | {"status": tf.where(has_mask, "", f"text: no {texts.mask_token} within the model's length")}


def pretraining(outputs, inputs, texts):
    """As `fill_masks`, and `match` (N): the probability that the text describes the image. A text needs no [MASK]."""
    results, _ = fill_masks(outputs["prediction_logits"], inputs, texts)
    return results | {"match": tf.nn.softmax(outputs["cross_relationship_score"])[:, 1]}


# By class name; a subclass has the head of its nearest base.
HEADS = {
    "ViltModel": Head(image_and_text, pooled),
    "ViltForMaskedLM": Head(image_and_text, masked_lm),
    "ViltForPreTraining": Head(image_and_text, pretraining),
    "ViltForQuestionAnswering": Head(image_and_text, question_answering),
    "ViltForImagesAndTextClassification": Head(images_and_text, classification),
    "ViltForImageAndTextRetrieval": Head(image_and_text, retrieval),
    "ViltForTokenClassification": Head(image_and_text, token_classification),
}
