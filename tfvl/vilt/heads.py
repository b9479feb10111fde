"""The heads of ViLT, with their outputs, labels and losses."""

from dataclasses import replace
from typing import ClassVar

import keras
from keras import ops

from tfvl.layers.attention import Dense, normal
from tfvl.layers.embeddings import table_of, text_length
from tfvl.layers.heads import ClassifierHead, MaskedLMHead
from tfvl.modeling.base import HeadModel
from tfvl.modeling.checks import check_range
from tfvl.modeling.losses import IGNORED, cross_entropy, soft_binary_cross_entropy
from tfvl.modeling.metrics import HeadAccuracy, VqaScore
from tfvl.vilt.embeddings import repeated_last_row
from tfvl.vilt.model import ViltModel, ViltPreTrainedModel

IMAGES_OF_A_PAIR = 2  # NLVR2


class ViltHeadModel(HeadModel, ViltPreTrainedModel):
    """The base of all heads: a `ViltModel`, its attribute `vilt`, with a head on top."""

    base_model_class = ViltModel

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        for name, count in self.label_classes(inputs).items():
            check_range(inputs, name, 0, count and count - 1, "classes of the head", also=IGNORED)

    def label_classes(self, inputs) -> dict[str, int | None]:
        """Returns the number of classes of each labels input, by name; None if it is not known yet."""
        return {"labels": self.config.num_labels}


@keras.saving.register_keras_serializable("tfvl")
class ViltForMaskedLM(ViltHeadModel):
    """Masked language modelling; returns `logits` (batch, length, vocab). Labels: int (batch, length), -100 ignored."""

    loss_name = "masked_lm"
    reads_pooler = False
    masks_whole_words = True

    def add_head(self, config, policy):
        self.mlm_score = MaskedLMHead(**config.masked_lm_options, dtype=policy, name="mlm_score")

    def build_layers(self):
        self.mlm_score.build()

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        length = text_length(inputs)
        hidden_states, _, more = self.encode(inputs, length, output_attentions, output_hidden_states, training)
        words = table_of(self.vilt.embeddings.text_embeddings.word_embeddings)
        return self.with_loss({"logits": self.mlm_score(hidden_states[:, :length], words), **more}, inputs)

    def label_classes(self, inputs):
        return {"labels": self.config.vocab_size}


@keras.saving.register_keras_serializable("tfvl")
class ViltForPreTraining(ViltForMaskedLM):
    """Masked language modelling and image-text matching, the two objectives of the paper's section 4.1.

    Returns `prediction_logits` (batch, length, vocab) and `cross_relationship_score` (batch, 2), whose class 1 means
    that the text belongs to the image; the names are LXMERT's. Labels: `labels` int (batch, length), -100 ignored, and
    `matched_label` int (batch,). The matching head is `itm_score` of `dandelin/vilt-b32-mlm-itm`, which upstream drops.
    """

    label_names = ("labels", "matched_label")
    targets: ClassVar = {"labels": "prediction_logits", "matched_label": "cross_relationship_score"}
    reads_pooler = True
    masks_unmatched = False

    def add_head(self, config, policy):
        super().add_head(config, policy)
        self.itm_score = Dense(2, kernel_initializer=normal(config.initializer_range), dtype=policy, name="itm_score")

    def build_layers(self):
        super().build_layers()
        self.itm_score.build((None, self.config.hidden_size))

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        length = text_length(inputs)
        hidden_states, pooled, more = self.encode(inputs, length, output_attentions, output_hidden_states, training)
        words = table_of(self.vilt.embeddings.text_embeddings.word_embeddings)
        outputs = {
            "prediction_logits": self.mlm_score(hidden_states[:, :length], words),
            "cross_relationship_score": self.itm_score(pooled),
        }
        return self.with_loss(outputs | more, inputs)

    def label_classes(self, inputs):
        return {"labels": self.config.vocab_size, "matched_label": 2}

    def loss_terms(self, labels, outputs):
        if not isinstance(labels, dict) or not labels.keys() & self.targets.keys():
            raise ValueError("ViltForPreTraining takes its labels as a dict with labels, matched_label, or both.")
        given = {name: output for name, output in self.targets.items() if name in labels}
        return {name: cross_entropy(labels[name], outputs[output]) for name, output in given.items()}

    def default_metrics(self):
        return [
            HeadAccuracy("prediction_logits", "labels", name="masked_lm_accuracy"),
            HeadAccuracy("cross_relationship_score", "matched_label", name="matching_accuracy"),
        ]


@keras.saving.register_keras_serializable("tfvl")
class ViltForQuestionAnswering(ViltHeadModel):
    """Question answering over classes (VQAv2); returns `logits` (batch, labels).

    Labels: float (batch, labels), soft targets between 0 and 1.
    """

    architecture_aliases = ("ViltForVisualQuestionAnswering",)
    soft_labels = True
    # only the head has ten times the learning rate (vilt/config.py of the authors)
    recipe = replace(ViltHeadModel.recipe, rate_multipliers={"classifier": 10.0})

    def add_head(self, config, policy):
        width = config.hidden_size
        self.classifier = ClassifierHead(
            width,
            2 * width,
            config.num_labels,
            initializer_range=config.initializer_range,
            dtype=policy,
            name="classifier",
        )

    def build_layers(self):
        self.classifier.build()

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        if "labels" in inputs:
            self.check_targets(inputs["labels"])
        check_range(inputs, "labels", 0, 1, "a soft target per answer")

    def label_classes(self, inputs):
        return {}

    def check_targets(self, labels):
        """Raises ValueError unless labels are (batch, labels)."""
        count = self.config.num_labels
        if len(labels.shape) != 2 or labels.shape[1] != count:
            raise ValueError(
                f"Labels have shape {tuple(labels.shape)}, expected (batch, {count}): a soft target per answer."
            )

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        _, pooled, more = self.encode(inputs, 1, output_attentions, output_hidden_states, training)
        return self.with_loss({"logits": self.classifier(pooled), **more}, inputs)

    def loss_terms(self, labels, outputs):
        self.check_targets(labels)
        return {"vqa": soft_binary_cross_entropy(labels, outputs["logits"])}

    def default_metrics(self):
        return [VqaScore()]


@keras.saving.register_keras_serializable("tfvl")
class ViltForImagesAndTextClassification(ViltHeadModel):
    """Classifies a sentence about several images, as in NLVR2; returns `logits` (batch, labels).

    It takes `pixel_values` (batch, images, height, width, channels), `pixel_mask` (batch, images, height, width) and
    `image_embeds` (batch, images, patches, hidden); a single image may lack the axis of images. `hidden_states` and
    `attentions` are lists with one tuple for each image. Labels: int (batch,).

    Raises:
        ValueError: the inputs hold another number of images than `config.num_images`.
    """

    loss_name = "classification"
    # the modality type of the second image starts as a copy of the first's: dandelin/ViLT, vilt/modules/vilt_module.py
    refits: ClassVar = {"embeddings/token_type_embeddings/embeddings": repeated_last_row}
    per_image: ClassVar = {"pixel_values": 5, "pixel_mask": 4, "image_embeds": 4}
    ranks: ClassVar[dict[str, tuple[int, ...]]] = ViltHeadModel.ranks | {"pixel_values": (4, 5), "image_embeds": (3, 4)}
    exported_inputs: ClassVar = ViltHeadModel.exported_inputs | {
        "pixel_values": ("num_images", None, None, "num_channels"),
        "pixel_mask": ("num_images", None, None),
    }

    @classmethod
    def completed(cls, config):
        images = config.num_images if config.num_images > 0 else IMAGES_OF_A_PAIR
        types = max(config.modality_type_vocab_size, images + 1)
        return config.replace(num_images=images, modality_type_vocab_size=types)

    def add_head(self, config, policy):
        if config.num_images < 1:
            raise ValueError(f"num_images is {config.num_images}, expected the number of images per text (NLVR2: 2).")
        if config.modality_type_vocab_size <= config.num_images:
            raise ValueError(
                f"modality_type_vocab_size is {config.modality_type_vocab_size}, expected at least "
                f"{config.num_images + 1}: one type for the text and one for each of {config.num_images} images."
            )
        width = config.hidden_size * config.num_images
        self.classifier = ClassifierHead(
            width, width, config.num_labels, initializer_range=config.initializer_range, dtype=policy, name="classifier"
        )

    def build_layers(self):
        self.classifier.build()

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        for name, value in self.given_images(inputs).items():
            if value.shape[1] != self.config.num_images:
                raise ValueError(
                    f"{name} holds {value.shape[1]} images per text, but config.num_images is {self.config.num_images}."
                )

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        count = self.config.num_images
        given = {name: ops.unstack(value, count, axis=1) for name, value in self.given_images(inputs).items()}
        pooled, each = [], []
        for index in range(count):
            image = {name: values[index] for name, values in given.items()}
            image = (
                inputs | image | {"image_token_type_idx": index + 1}
            )  # 0 is the text, 1 the first image, 2 the second
            _, output, more = self.encode(image, 1, output_attentions, output_hidden_states, training)
            pooled.append(output)
            each.append(more)
        logits = self.classifier(ops.concatenate(pooled, axis=-1))
        more = {name: [outputs[name] for outputs in each] for name in each[0]}
        return self.with_loss({"logits": logits, **more}, inputs)

    def given_images(self, inputs) -> dict:
        """Returns the given inputs that belong to images, each with the axis of images."""
        ranks = {name: rank for name, rank in self.per_image.items() if name in inputs}
        if "image_embeds" in inputs and "pixel_mask" in ranks:
            ranks["pixel_mask"] = 3  # (batch, images, patches)
        return {
            name: inputs[name] if len(inputs[name].shape) == rank else inputs[name][:, None]
            for name, rank in ranks.items()
        }


@keras.saving.register_keras_serializable("tfvl")
class ViltForImageAndTextRetrieval(ViltHeadModel):
    """Scores how well a text describes an image (COCO, Flickr30k); returns `logits` (batch, 1), higher is better.

    With `input_ids` (batch, texts, length), each image is embedded once and scored with several texts; `logits` are
    (batch, texts). The head is trained in this way (paper, section 4.3), by cross-entropy over one true and 15 false
    texts. Labels: int (batch,), the index of the true text. Upstream does not train this head.
    """

    per_text = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds")
    ranks: ClassVar[dict[str, tuple[int, ...]]] = ViltHeadModel.ranks | {"input_ids": (2, 3), "inputs_embeds": (3, 4)}

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        texts = [name for name in self.per_text[:3] if name in inputs]
        if len({len(inputs[name].shape) for name in texts}) > 1:
            shapes = ", ".join(f"{name} {tuple(inputs[name].shape)}" for name in texts)
            raise ValueError(
                f"The text inputs must have the same axes, (batch, length) or (batch, texts, length): {shapes}."
            )

    def add_head(self, config, policy):
        self.rank_output = Dense(
            1, kernel_initializer=normal(config.initializer_range), dtype=policy, name="rank_output"
        )

    def build_layers(self):
        self.rank_output.build((None, self.config.hidden_size))

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        texts = self.texts_per_image(inputs)
        if texts is not None:
            inputs = self.pair_up(inputs, texts, training)
        _, pooled, more = self.encode(inputs, 1, output_attentions, output_hidden_states, training)
        logits = self.rank_output(pooled)  # (batch · texts, 1)
        if texts is not None:
            logits = ops.reshape(logits, (-1, texts))
        return self.with_loss({"logits": logits, **more}, inputs)

    def label_classes(self, inputs):
        return {"labels": self.texts_per_image(inputs)}

    @staticmethod
    def texts_per_image(inputs) -> int | None:
        if "input_ids" in inputs:
            return ops.shape(inputs["input_ids"])[1] if len(inputs["input_ids"].shape) == 3 else None
        embeds = inputs.get("inputs_embeds")
        return ops.shape(embeds)[1] if embeds is not None and len(embeds.shape) == 4 else None

    def pair_up(self, inputs, texts, training) -> dict:
        """Flattens the texts, and repeats each embedded image once for each of its texts."""
        paired = dict(inputs)
        image, mask = self.vilt.embeddings.image_sequence(inputs, training)
        if mask is not None:
            paired["pixel_mask"] = ops.repeat(mask, texts, axis=0)
        paired["image_embeds"] = ops.repeat(image, texts, axis=0)
        paired.pop("pixel_values", None)
        for name in self.per_text:
            if name in inputs:
                paired[name] = ops.reshape(inputs[name], (-1, *ops.shape(inputs[name])[2:]))
        return paired

    def loss_terms(self, labels, outputs):
        if outputs["logits"].shape[-1] == 1:
            raise ValueError(
                "Training needs several texts for each image, one of them true: input_ids (batch, texts, length)."
            )
        return {"retrieval": cross_entropy(labels, outputs["logits"])}

    def default_metrics(self):
        return [HeadAccuracy()]


@keras.saving.register_keras_serializable("tfvl")
class ViltForTokenClassification(ViltHeadModel):
    """Classifies each token; returns `logits` (batch, length, labels). Labels: int (batch, length), -100 ignored."""

    loss_name = "token_classification"
    add_pooling_layer = False

    def add_head(self, config, policy):
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob, dtype=policy, name="dropout")
        self.classifier = Dense(
            config.num_labels, kernel_initializer=normal(config.initializer_range), dtype=policy, name="classifier"
        )

    def build_layers(self):
        self.classifier.build((None, self.config.hidden_size))

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        length = text_length(inputs)
        hidden_states, _, more = self.encode(inputs, length, output_attentions, output_hidden_states, training)
        logits = self.classifier(self.dropout(hidden_states[:, :length], training=training))
        return self.with_loss({"logits": logits, **more}, inputs)
