"""VisualBERT's processor, which turns texts and region features into the model's inputs."""

import numpy as np
import tensorflow as tf

from tfvl.processors.regions import RegionProcessor
from tfvl.visual_bert.config import VisualBertConfig


class VisualBertProcessor(RegionProcessor):
    """Turns texts, and the regions that a detector found in images, into VisualBERT's inputs.

        processor = VisualBertProcessor.from_pretrained("uclanlp/visualbert-vqa")
        inputs = processor(text=["what is on the table?"], regions=["kitchen.npz"])

    A call (see `RegionProcessor.__call__`) returns `input_ids`, `token_type_ids`, `attention_mask` int32 (N, length);
    `visual_embeds` float32 (N, regions, feature_size), `visual_attention_mask` and `visual_token_type_ids` int32
    (N, regions). Boxes are not read, since VisualBERT has no input for them. It also takes

    - choices (VCR): N lists of C texts as `text_pair`, which give ids and masks of texts (N, C, length);
    - pairs of images (NLVR2): `regions` as a list of N pairs, or one array (N, 2, regions, feature_size).

    Args:
        tokenizer: the `BertTokenizer`.
        feature_size: `visual_embedding_dim` of the model's configuration; None: feature sizes are not checked.
    """

    config_class = VisualBertConfig

    def encode_texts(self, text, text_pair, options: dict) -> dict:
        if not has_choices(text_pair):
            return super().encode_texts(text, text_pair, options)
        texts, pairs, choices = flat_choices(text, text_pair)
        encoded = super().encode_texts(texts, pairs, options)
        if any(isinstance(value, tf.RaggedTensor) for value in encoded.values()):
            raise ValueError("texts with choices need padding=True or padding='max_length'")
        return {
            name: tf.reshape(value, tf.concat([[-1, choices], tf.shape(value)[1:]], axis=0))
            for name, value in encoded.items()
        }


def has_choices(text_pair) -> bool:
    """Returns whether the second texts are lists of choices."""
    if hasattr(text_pair, "shape"):
        return len(text_pair.shape) == 2
    return isinstance(text_pair, (list, tuple)) and any(isinstance(row, (list, tuple, np.ndarray)) for row in text_pair)


def flat_choices(text, text_pair):
    """Repeats N texts for C choices each; returns N·C texts, the N·C choices, and C."""
    if tf.is_tensor(text) or tf.is_tensor(text_pair):
        text_pair = tf.convert_to_tensor(text_pair)
        choices = tf.shape(text_pair)[1]
        return tf.repeat(tf.reshape(text, [-1]), choices), tf.reshape(text_pair, [-1]), choices
    texts = [text] if isinstance(text, (str, bytes)) else list(text)
    counts = [len(row) if isinstance(row, (list, tuple, np.ndarray)) else 0 for row in text_pair]
    if len(texts) != len(counts):
        raise ValueError(f"text has {len(texts)} rows and text_pair {len(counts)}; they must agree")
    if len(set(counts)) > 1 or 0 in counts:
        raise ValueError(f"text_pair has rows of {', '.join(map(str, counts))} choices; give each text as many")
    choices = counts[0]
    return [text for text in texts for _ in range(choices)], [choice for row in text_pair for choice in row], choices
