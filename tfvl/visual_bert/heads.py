"""The heads of VisualBERT, with their outputs, labels and losses."""

import math
from typing import ClassVar

import keras
from keras import ops

from tfvl.layers.attention import MASKED, Dense, normal, take_positions
from tfvl.layers.embeddings import table_of, text_length
from tfvl.layers.heads import MaskedLMHead
from tfvl.layers.normalization import at_least_float32
from tfvl.modeling.base import HeadModel
from tfvl.modeling.checks import check_given, check_range
from tfvl.modeling.losses import IGNORED, cross_entropy, kl_divergence
from tfvl.modeling.metrics import AlignmentAccuracy, HeadAccuracy, VqaScore
from tfvl.modeling.recipes import Recipe
from tfvl.visual_bert.model import VisualBertModel, VisualBertPreTrainedModel


class VisualBertHeadModel(HeadModel, VisualBertPreTrainedModel):
    """The base of all heads: a `VisualBertModel`, its attribute `visual_bert`, with a head on top."""

    base_model_class = VisualBertModel

    def add_pretraining_heads(self, config, policy):
        self.predictions = MaskedLMHead(**config.masked_lm_options, dtype=policy, name="predictions")
        self.seq_relationship = Dense(
            2, kernel_initializer=normal(config.initializer_range), dtype=policy, name="seq_relationship"
        )


@keras.saving.register_keras_serializable("tfvl")
class VisualBertForPreTraining(VisualBertHeadModel):
    """Masked language modelling and sentence-image prediction, the two objectives of the paper's section 3.3.

    Returns `prediction_logits` (batch, length + regions, vocab) and `seq_relationship_logits` (batch, 2), whose class 0
    means that the text belongs to the image. Labels: `labels` int (batch, length + regions), -100 ignored, and
    `sentence_image_labels` int (batch,). The loss is the sum of the losses of the labels that are given; upstream
    requires `labels`.
    """

    label_names = ("labels", "sentence_image_labels")
    recipe = Recipe(5e-5, clip_norm=1.0)
    targets: ClassVar = {"labels": "prediction_logits", "sentence_image_labels": "seq_relationship_logits"}

    def add_head(self, config, policy):
        self.add_pretraining_heads(config, policy)

    def build_layers(self):
        self.predictions.build()
        self.seq_relationship.build((None, self.config.hidden_size))

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        rows, positions = sequence_shape(inputs)
        check_given(inputs, "labels", rows, positions)
        check_range(inputs, "labels", 0, self.config.vocab_size - 1, "words of the vocabulary", also=IGNORED)
        check_range(inputs, "sentence_image_labels", 0, 1, "0 where the text belongs to the image", also=IGNORED)

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        hidden_states, pooled, more = self.encode(inputs, None, output_attentions, output_hidden_states, training)
        words = table_of(self.visual_bert.embeddings.word_embeddings)
        outputs = {
            "prediction_logits": self.predictions(hidden_states, words),
            "seq_relationship_logits": self.seq_relationship(pooled),
        }
        return self.with_loss(outputs | more, inputs)

    def loss_terms(self, labels, outputs):
        if not isinstance(labels, dict) or not labels.keys() & self.targets.keys():
            raise ValueError(
                "VisualBertForPreTraining takes its labels as a dict with labels, sentence_image_labels, or both."
            )
        given = {name: output for name, output in self.targets.items() if name in labels}
        return {name: cross_entropy(labels[name], outputs[output]) for name, output in given.items()}

    def default_metrics(self):
        return [
            HeadAccuracy("prediction_logits", "labels", name="masked_lm_accuracy"),
            HeadAccuracy("seq_relationship_logits", "sentence_image_labels", name="sentence_image_accuracy"),
        ]


class VisualBertClassifier(VisualBertHeadModel):
    """The base of heads that apply dropout and one dense layer, `cls`, to hidden states of the encoder."""

    def add_head(self, config, policy):
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob, dtype=policy, name="dropout")
        self.cls = Dense(self.num_scores, kernel_initializer=normal(config.initializer_range), dtype=policy, name="cls")

    @property
    def num_scores(self) -> int:
        return self.config.num_labels

    def build_layers(self):
        self.cls.build((None, self.config.hidden_size))

    def classify(self, state, training):
        return self.cls(self.dropout(state, training=training))


@keras.saving.register_keras_serializable("tfvl")
class VisualBertForQuestionAnswering(VisualBertClassifier):
    """Question answering over classes (VQAv2); returns `logits` (batch, labels).

    Labels: float (batch, labels), soft targets between 0 and 1. The classifier reads the last word of the question,
    which is the second to last real token, since [SEP] comes after it. The loss is the Kullback-Leibler divergence from
    the targets. (With labels, upstream returns the logarithm of the softmax as `logits`; here they are the same with
    and without labels.)
    """

    reads_pooler = False
    soft_labels = True

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        if "labels" in inputs:
            check_targets(inputs["labels"], self.config.num_labels)
        check_range(inputs, "labels", 0, math.inf, "a soft target per answer")

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        last_word, _, more = self.encode(
            inputs, self.last_word(inputs), output_attentions, output_hidden_states, training
        )  # (batch, 1, hidden)
        return self.with_loss({"logits": self.classify(last_word[:, 0], training), **more}, inputs)

    @staticmethod
    def last_word(inputs):
        """Returns the index of the second to last real token, int (batch, 1)."""
        words, mask = inputs.get("input_ids", inputs.get("inputs_embeds")), inputs.get("attention_mask")
        mask = ops.ones(ops.shape(words)[:2], "int32") if mask is None else ops.cast(mask, "int32")
        return ops.clip(ops.sum(mask, axis=1, keepdims=True) - 2, 0, text_length(inputs) - 1)

    def loss_terms(self, labels, outputs):
        check_targets(labels, self.config.num_labels)
        return {"vqa": kl_divergence(labels, outputs["logits"])}

    def default_metrics(self):
        return [VqaScore()]


def check_targets(labels, num_labels: int) -> None:
    """Raises ValueError unless labels are (batch, labels), or (batch, 1, labels), which upstream allows, too."""
    shape = tuple(labels.shape)
    if len(shape) not in (2, 3) or shape[-1] != num_labels or shape[1:-1] not in ((), (1,)):
        raise ValueError(f"Labels have shape {shape}, expected (batch, {num_labels}): a soft target per answer.")


@keras.saving.register_keras_serializable("tfvl")
class VisualBertForMultipleChoice(VisualBertClassifier):
    """Chooses one of several texts about an image (VCR); returns `logits` (batch, choices). Labels: int (batch,).

    Texts are (batch, choices, length), regions (batch, choices, regions, visual_embedding_dim), and all other inputs
    have the axis of choices, too; an input without it is used for each choice. `hidden_states` and `attentions` have
    batch · choices rows.
    """

    loss_name = "multiple_choice"
    num_scores = 1
    exported_inputs: ClassVar = {
        name: (None, *sizes) for name, sizes in VisualBertClassifier.exported_inputs.items()
    }  # these inputs must have an axis of choices
    ranks: ClassVar = {  # these may have one; their ranks without it
        "input_ids": 2,
        "attention_mask": 2,
        "token_type_ids": 2,
        "position_ids": 2,
        "inputs_embeds": 3,
        "visual_embeds": 3,
        "visual_attention_mask": 2,
        "visual_token_type_ids": 2,
        "image_text_alignment": 3,
    }

    def check_inputs(self, inputs):
        check_given(inputs, "input_ids", "batch", "choices", "length")
        check_given(inputs, "inputs_embeds", "batch", "choices", "length", self.config.hidden_size)
        texts = inputs.get("input_ids", inputs.get("inputs_embeds"))
        if texts is not None:
            rows, choices = texts.shape[:2]
            check_given(inputs, "labels", rows)
            check_range(inputs, "labels", 0, choices and choices - 1, "the place of the right choice")
            inputs = self.flattened(inputs)
        super().check_inputs(inputs)

    def flattened(self, inputs) -> dict:
        """Returns the inputs with one row for each choice."""
        flat = dict(inputs)
        choices = text_length(inputs)  # the axis after the batch
        for name in self.ranks.keys() & inputs.keys():
            value = inputs[name]
            if len(value.shape) == self.ranks[name]:
                flat[name] = ops.repeat(value, choices, axis=0)
            else:
                flat[name] = ops.reshape(value, (-1, *ops.shape(value)[2:]))
        return flat

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        flat = self.flattened(inputs)
        _, pooled, more = self.encode(flat, 1, output_attentions, output_hidden_states, training)
        logits = ops.reshape(self.classify(pooled, training), (-1, text_length(inputs)))  # (batch, choices)
        return self.with_loss({"logits": logits, **more}, inputs)


@keras.saving.register_keras_serializable("tfvl")
class VisualBertForVisualReasoning(VisualBertClassifier):
    """Tells whether a sentence is true of a pair of images (NLVR2); returns `logits` (batch, labels).

    The regions of the second image come after those of the first; `visual_token_type_ids` tell them apart. Labels: int
    (batch,).
    """

    loss_name = "reasoning"

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        check_range(inputs, "labels", 0, self.config.num_labels - 1, "classes of id2label", also=IGNORED)

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        _, pooled, more = self.encode(inputs, 1, output_attentions, output_hidden_states, training)
        return self.with_loss({"logits": self.classify(pooled, training), **more}, inputs)


@keras.saving.register_keras_serializable("tfvl")
class VisualBertForRegionToPhraseAlignment(VisualBertHeadModel):
    """Finds the region that a phrase names (Flickr30k Entities); returns `logits` (batch, phrases, regions).

    `region_to_phrase_position`, int (batch, phrases), is each phrase's index in the sequence of words and regions; -1
    is padding, for which the first position is read, as upstream. Labels: float (batch, phrases, regions), the target
    share of each region, zeros for padding.
    """

    reads_pooler = False
    soft_labels = True
    input_names: ClassVar[tuple[str, ...]] = (*VisualBertPreTrainedModel.input_names, "region_to_phrase_position")
    exported_inputs: ClassVar = VisualBertPreTrainedModel.exported_inputs | {"region_to_phrase_position": (None,)}

    def add_head(self, config, policy):
        self.add_pretraining_heads(config, policy)
        self.attention = RegionToPhraseAttention(
            config.hidden_size,
            config.hidden_size // config.num_attention_heads,
            config.initializer_range,
            dtype=policy,
            name="attention",
        )
        self.never_train(self.predictions, self.seq_relationship, self.attention.value)  # upstream has them, unused

    def build_layers(self):
        self.predictions.build()
        self.seq_relationship.build((None, self.config.hidden_size))
        self.attention.build()

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        for name in ("visual_embeds", "region_to_phrase_position"):
            if name not in inputs:
                raise ValueError(f"VisualBertForRegionToPhraseAlignment needs {name}; it scores regions for phrases.")
        rows, positions = sequence_shape(inputs)
        check_given(inputs, "region_to_phrase_position", rows, "phrases")
        check_range(
            inputs,
            "region_to_phrase_position",
            -1,
            positions and positions - 1,
            "places in the sequence of words and regions, or -1 for padding",
        )
        phrases, regions = inputs["region_to_phrase_position"].shape[1], inputs["visual_embeds"].shape[1]
        check_given(inputs, "labels", rows, phrases, regions)
        check_range(inputs, "labels", 0, math.inf, "the share of each region")

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        hidden_states, _, more = self.encode(inputs, None, output_attentions, output_hidden_states, training)
        phrases = take_positions(hidden_states, inputs["region_to_phrase_position"])  # (batch, phrases, hidden)
        regions = hidden_states[:, text_length(inputs) :]  # (batch, regions, hidden)
        logits = self.attention(phrases, regions, inputs.get("visual_attention_mask"))
        return self.with_loss({"logits": logits, **more}, inputs)

    def loss_terms(self, labels, outputs):
        return {"alignment": kl_divergence(labels, outputs["logits"])}

    def default_metrics(self):
        return [AlignmentAccuracy()]


@keras.saving.register_keras_serializable("tfvl")
class RegionToPhraseAttention(keras.layers.Layer):
    """Scores regions for phrases by one attention head (upstream: `VisualBertRegionToPhraseAttention`).

    Args:
        hidden_size: width of phrases and regions.
        head_size: width of query and key. `value` has that width, too, and is not read, as upstream.
        initializer_range: standard deviation of the initial kernels.
    """

    def __init__(self, hidden_size, head_size, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.hidden_size, self.head_size = hidden_size, head_size
        self.query, self.key, self.value = (
            Dense(head_size, kernel_initializer=normal(initializer_range), dtype=self.dtype_policy, name=name)
            for name in ("query", "key", "value")
        )

    def build(self, phrases_shape=None, regions_shape=None):
        for layer in (self.query, self.key, self.value):
            layer.build((None, None, self.hidden_size))

    def call(self, phrases, regions, mask=None):
        """Returns the logits before the softmax, (batch, phrases, regions), in float32 or wider.

        Args:
            phrases: (batch, phrases, hidden).
            regions: (batch, regions, hidden).
            mask: (batch, regions), 1 for a region and 0 for padding, or None.
        """
        keys = ops.transpose(self.key(regions), (0, 2, 1))  # (batch, size, regions)
        scores = ops.matmul(self.query(phrases) * (1.0 / math.sqrt(self.head_size)), keys)
        scores = at_least_float32(scores)  # `MASKED` is no float16
        return scores if mask is None else ops.where(ops.cast(mask, "bool")[:, None], scores, MASKED)


def sequence_shape(inputs) -> tuple[int | None, int | None]:
    """Returns the batch size, and the number of words and regions together; None if a graph does not know it."""
    batch, length = inputs.get("input_ids", inputs.get("inputs_embeds")).shape[:2]
    regions = inputs["visual_embeds"].shape[1] if "visual_embeds" in inputs else 0
    return batch, None if None in (length, regions) else length + regions
