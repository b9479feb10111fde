"""The heads of LXMERT: the five objectives it is pre-trained with (paper, section 3.1), and question answering."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

import keras
from keras import ops

from tfvl.layers.attention import Dense, normal
from tfvl.layers.embeddings import table_of
from tfvl.layers.heads import ClassifierHead, MaskedLMHead, TransformedHead
from tfvl.layers.quantization import refuse_quantized
from tfvl.lxmert.model import LxmertModel, LxmertPreTrainedModel
from tfvl.modeling.base import HeadModel
from tfvl.modeling.checks import check_labels, check_range, check_shape
from tfvl.modeling.losses import answers, cross_entropy, is_float, smooth_l1, without_ones
from tfvl.modeling.metrics import AnswerAccuracy, HeadAccuracy
from tfvl.modeling.recipes import Recipe


@keras.saving.register_keras_serializable("tfvl")
class AnswerHead(ClassifierHead):
    """A head that runs dense, GELU, layer norm and dense (upstream: `LxmertVisualAnswerHead`)."""

    def call(self, pooled):
        """Maps (batch, input_size) to logits (batch, num_labels)."""
        return self.out(self.layer_norm(ops.gelu(self.dense(pooled), approximate=False)))

    def resize(self, num_labels: int) -> None:
        """Gives the last layer another number of labels; old labels keep their weights, new ones get random weights."""
        old, kept = self.out, min(num_labels, self.out.units)
        self._tracker.unlock()  # as Keras itself does where it replaces what a built layer holds
        self._tracker.untrack(old)
        self.out = Dense(num_labels, kernel_initializer=old.kernel_initializer, dtype=self.dtype_policy, name=old.name)
        self._tracker.lock()
        with ExitStack() as scopes:  # the new variables get the paths of the old ones
            for part in self.path.split("/"):
                scopes.enter_context(keras.name_scope(part))
            self.out.build((None, self.intermediate_size))
        self.out.kernel.assign(ops.concatenate([old.kernel[:, :kept], self.out.kernel[:, kept:]], axis=1))
        self.out.bias.assign(ops.concatenate([old.bias[:kept], self.out.bias[kept:]], axis=0))


@keras.saving.register_keras_serializable("tfvl")
class ObjectHead(TransformedHead):
    """Predicts what each region is, with one decoder for each loss on regions (upstream: `LxmertVisualObjHead`).

    Args:
        widths: width of the prediction for each loss, by the name of the loss.
        hidden_size, hidden_act, layer_norm_eps, initializer_range: arguments of `TransformedHead`.
    """

    def __init__(self, widths, hidden_size, hidden_act, layer_norm_eps, initializer_range, **kwargs):
        super().__init__(hidden_size, hidden_act, layer_norm_eps, initializer_range, **kwargs)
        self.decoders = [
            Dense(width, kernel_initializer=normal(initializer_range), dtype=self.dtype_policy, name=name)
            for name, width in widths.items()
        ]

    def build(self, input_shape=None):
        super().build()
        for decoder in self.decoders:
            decoder.build((None, None, self.hidden_size))

    def call(self, hidden_states):
        """Maps (batch, regions, hidden) to a dict with one (batch, regions, width) for each loss."""
        hidden_states = self.transformed(hidden_states)
        return {decoder.name: decoder(hidden_states) for decoder in self.decoders}


class LxmertHeadModel(HeadModel, LxmertPreTrainedModel):
    """Base of the classes that have a head on an `LxmertModel`, which is their attribute `lxmert`."""

    base_model_class = LxmertModel
    reads_vision = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        if not self.reads_vision:
            base, blocks = self.lxmert, self.lxmert.cross_encoder.layers
            base.never_train(*([blocks[-1].vision] if blocks else [base.visual_embeddings, base.vision_encoder]))

    def encode(self, inputs, pooled_only, output_attentions, output_hidden_states, training):
        """Runs `lxmert`; returns its three outputs, None for those not computed, and a dict of the others."""
        outputs = self.lxmert(
            {name: value for name, value in inputs.items() if name in self.input_names},
            pooled_only=pooled_only,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            training=training,
        )
        fields = ("language_output", "vision_output", "pooled_output")
        return *(outputs.pop(name, None) for name in fields), outputs

    def add_answer_head(self, config, policy):
        self.answer_head = AnswerHead(
            config.hidden_size,
            2 * config.hidden_size,
            config.num_qa_labels,
            config.norm_eps,
            config.initializer_range,
            dtype=policy,
            name="answer_head",
        )

    def resize_num_qa_labels(self, num_labels: int | None) -> Dense | None:
        """Changes the number of answers: old ones keep weights and names, new ones at the end get random weights.

        (`from_pretrained(…, num_qa_labels=…, ignore_mismatched_sizes=True)` draws the whole last layer anew.)

        Compile the model again afterwards; an optimizer knows the old weights only.

        Args:
            num_labels: the new number; None changes nothing.

        Returns:
            The layer that scores the answers; None where the model has no answer head.

        Raises:
            ValueError: `num_labels` is not a possible number of labels, or the head is quantized.
        """
        if getattr(self, "answer_head", None) is None:
            return None
        if num_labels is not None and num_labels != self.config.num_qa_labels:
            refuse_quantized(self.answer_head, "resize_num_qa_labels")
            config = self.config.replace(num_qa_labels=num_labels)  # checks it
            if self.config.num_labels == self.config.num_qa_labels:
                names = self.config.id2label
                config = config.replace(id2label={i: names.get(i, f"LABEL_{i}") for i in range(num_labels)})
            self.config = config
            self.answer_head.resize(num_labels)
        return self.answer_head.out


@keras.saving.register_keras_serializable("tfvl")
class LxmertForQuestionAnswering(LxmertHeadModel):
    """Scores the possible answers to a question (VQA, GQA); returns `question_answering_score` (batch, num_qa_labels).

    Labels: int (batch,), the index of the right answer, -100 ignored, whose loss is the cross-entropy (GQA); or float
    (batch, num_qa_labels), a target 0 … 1 for each answer, whose loss is the sum of their binary cross-entropies (VQA:
    the authors' src/tasks/vqa.py).
    """

    soft_labels = None
    targets: ClassVar = {"labels": "question_answering_score"}
    reads_vision = False

    def add_head(self, config, policy):
        self.add_answer_head(config, policy)

    def build_layers(self):
        self.answer_head.build()

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        if "labels" in inputs:
            labels, count = inputs["labels"], self.config.num_qa_labels
            if (len(labels.shape) == 2 and labels.shape[1] != 1) or is_float(labels):
                check_shape("labels", labels, ("batch", count))
                check_range(inputs, "labels", 0, 1, "a soft target per answer")
            else:
                check_labels("labels", labels, tuple(inputs["visual_feats"].shape)[:1], count)

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        *_, pooled, more = self.encode(inputs, True, output_attentions, output_hidden_states, training)
        return self.with_loss({"question_answering_score": self.answer_head(pooled), **more}, inputs)

    def loss_terms(self, labels, outputs):
        return {"answer": answers(labels, outputs["question_answering_score"])}

    def default_metrics(self):
        return [AnswerAccuracy("question_answering_score")]


@keras.saving.register_keras_serializable("tfvl")
class LxmertForPreTraining(LxmertHeadModel):
    """The model for pre-training on masked words, image-text match, regions and answers, as `config.task_*` switches.

    Returns `prediction_logits` (batch, length, vocab), `cross_relationship_score` (batch, 2), whose class 1 says that
    the text belongs to the image, `question_answering_score` (batch, num_qa_labels) where `config.task_qa`, and
    `visual_prediction_scores` where `config.task_obj_predict`: a dict with `obj` and `attr` (batch, regions, classes)
    and `feat` (batch, regions, visual_feat_dim), each where its `config.visual_*_loss` is set.

    Any of these labels may be given; those of a task that the configuration switches off are not read.

    - `labels`: int (batch, length), the masked words, -100 ignored.
    - `matched_label`: int (batch,), 1 where text and image belong together.
    - `ans`: int (batch,), the index of the right answer, -100 ignored.
    - `obj_labels`: a dict under the names of `visual_prediction_scores`. Each value is a pair: the label, int (batch,
      regions) with -100 ignored, or float (batch, regions, visual_feat_dim) for `feat`; and the detector's confidence
      in it, float (batch, regions), which weighs the region's loss.

    The loss is the sum of the terms. A term on regions is the mean, over all regions, of loss times confidence times
    `config.visual_loss_normalizer`.
    """

    label_names = ("labels", "obj_labels", "matched_label", "ans")
    recipe = Recipe(1e-4, warmup=0.05, clip_norm=1.0)
    targets: ClassVar = {
        "labels": "prediction_logits",
        "obj_labels": "visual_prediction_scores",
        "matched_label": "cross_relationship_score",
        "ans": "question_answering_score",
    }
    labels_of_terms: ClassVar = dict.fromkeys(("obj", "attr", "feat"), "obj_labels")

    def named_inputs(self, inputs, more, keywords):
        """Collects the inputs; `masked_lm_labels`, the name in upstream's TensorFlow version, stands for `labels`."""
        old = "masked_lm_labels"
        if isinstance(inputs, Mapping) and old in inputs:
            inputs = {("labels" if name == old else name): value for name, value in inputs.items()}
        if old in keywords:
            keywords["labels"] = keywords.pop(old)
        return super().named_inputs(inputs, more, keywords)

    def add_head(self, config, policy):
        self.predictions = MaskedLMHead(**config.masked_lm_options, dtype=policy, name="predictions")
        self.seq_relationship = Dense(
            2, kernel_initializer=normal(config.initializer_range), dtype=policy, name="seq_relationship"
        )
        self.obj_predict_head = self.answer_head = None
        if config.task_obj_predict:
            self.obj_predict_head = ObjectHead(
                config.visual_losses,
                config.hidden_size,
                config.hidden_act,
                config.norm_eps,
                config.initializer_range,
                dtype=policy,
                name="obj_predict_head",
            )
        if config.task_qa:
            self.add_answer_head(config, policy)

    def build_layers(self):
        self.seq_relationship.build((None, self.config.hidden_size))
        for head in (self.predictions, self.obj_predict_head, self.answer_head):
            if head is not None:
                head.build()

    def check_inputs(self, inputs):
        super().check_inputs(inputs)
        text = inputs["input_ids" if "input_ids" in inputs else "inputs_embeds"]
        expected = {
            "labels": (tuple(text.shape)[:2], self.config.vocab_size),
            "matched_label": (tuple(text.shape)[:1], 2),
            "ans": (tuple(text.shape)[:1], self.config.num_qa_labels),
        }
        for name, (shape, count) in expected.items():
            if name in inputs and name in self.classification_tasks():
                check_labels(name, inputs[name], shape, count)
        if "obj_labels" in inputs and self.config.task_obj_predict:
            self.check_object_labels(inputs["obj_labels"], tuple(inputs["visual_feats"].shape)[:2])
        self.check_tasks(inputs)

    def check_object_labels(self, labels, regions):
        """Raises ValueError unless `labels` has a pair of the right shapes for each loss on regions."""
        for name, count in self.config.visual_losses.items():
            pair: Any = labels.get(name, ()) if isinstance(labels, Mapping) else ()
            if len(pair) != 2:
                raise ValueError(
                    f"obj_labels has no {name}: expected a pair of labels and confidences under that name."
                )
            label, confidence = (f"The {part} of {name} in obj_labels" for part in ("label", "confidence"))
            if name == "feat":
                check_shape(label, pair[0], (*regions, count))
            else:
                check_labels(label, pair[0], regions, count)
            check_shape(confidence, without_ones(pair[1], 2), regions)

    def call(self, inputs, output_attentions=False, output_hidden_states=False, training=None):
        words, regions, pooled, more = self.encode(inputs, False, output_attentions, output_hidden_states, training)
        outputs = {
            "prediction_logits": self.predictions(words, table_of(self.lxmert.embeddings.word_embeddings)),
            "cross_relationship_score": self.seq_relationship(pooled),
        }
        if self.answer_head is not None:
            outputs["question_answering_score"] = self.answer_head(pooled)
        if self.obj_predict_head is not None:
            outputs["visual_prediction_scores"] = self.obj_predict_head(regions)
        return self.with_loss(outputs | more, inputs)

    def classification_tasks(self) -> dict[str, tuple[str, str]]:
        """Returns (output, name of the metric) of each task that is switched on, by its label; none on regions."""
        config = self.config
        tasks = {
            "labels": (config.task_mask_lm, "masked_lm_accuracy"),
            "matched_label": (config.task_matched, "matching_accuracy"),
            "ans": (config.task_qa, "answer_accuracy"),
        }
        return {label: (self.targets[label], name) for label, (on, name) in tasks.items() if on}

    def check_tasks(self, labels):
        """Raises ValueError if there are labels, but none belongs to a task that the config switches on."""
        possible = [*self.classification_tasks(), *(["obj_labels"] if self.config.task_obj_predict else [])]
        given = set(self.label_names) & labels.keys() if isinstance(labels, Mapping) else {"a tensor"}
        if given and not possible:
            raise ValueError(
                "LxmertForPreTraining takes no labels, since all task_* flags of its configuration are off; got "
                f"{', '.join(sorted(given))}. Switch on the tasks that the labels are for, or leave the labels out."
            )
        if given and not given & set(possible):
            raise ValueError(
                f"LxmertForPreTraining takes its labels as a dict with at least one of {', '.join(possible)} (as the "
                f"configuration's task_* flags are); got {', '.join(sorted(given))}."
            )

    def loss_terms(self, labels, outputs):
        self.check_tasks(labels)
        terms = {
            label: cross_entropy(labels[label], outputs[output])
            for label, (output, _) in self.classification_tasks().items()
            if label in labels
        }
        if "obj_labels" in labels and self.config.task_obj_predict:
            terms |= self.region_terms(labels["obj_labels"], outputs["visual_prediction_scores"])
        return terms

    def region_terms(self, labels, predictions):
        """Computes the losses on regions, weighted by confidence.

        The mean is over all regions, also the ignored ones.
        """
        terms = {}
        for name in self.config.visual_losses:
            label, confidence = labels[name]
            values, counted = (smooth_l1 if name == "feat" else cross_entropy)(label, predictions[name])
            confidence = without_ones(ops.cast(confidence, "float32"), 2)  # (batch, regions)
            values = values * counted * confidence * self.config.visual_loss_normalizer
            terms[name] = values, ops.ones_like(values)
        return terms

    def default_metrics(self):
        return [HeadAccuracy(output, label, name=name) for label, (output, name) in self.classification_tasks().items()]
