"""Metrics that read a model's output dict, one per kind of head."""

import keras
from keras import ops

from tfvl.modeling.labels import weight_of
from tfvl.modeling.losses import IGNORED, are_soft_targets, broadcastable


class HeadAccuracy(keras.metrics.Mean):
    """Share of positions whose best class is the label; labels of -100 do not count.

    Args:
        output: name of the output that holds the logits (batch, …, classes).
        label: name of the label, if labels are a dict.
    """

    def __init__(self, output="logits", label="labels", name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.output_name, self.label_name = output, label

    def update_state(self, labels, outputs, sample_weight=None):
        if isinstance(labels, dict):
            if self.label_name not in labels:
                return  # a model with several losses is trained with some of them
            labels = labels[self.label_name]
        sample_weight = weight_of(sample_weight, self.label_name, self.label_name)
        hits, counted = self.hits(labels, outputs[self.output_name])
        if sample_weight is not None:
            counted = counted * broadcastable(sample_weight, counted)
        super().update_state(hits, counted)

    def hits(self, labels, logits):
        best = ops.cast(ops.argmax(logits, axis=-1), "int32")
        labels = ops.reshape(ops.cast(labels, "int32"), ops.shape(best))  # (batch, 1) counts as (batch,)
        return ops.cast(ops.equal(best, labels), "float32"), ops.cast(ops.not_equal(labels, IGNORED), "float32")


class VqaScore(HeadAccuracy):
    """Soft VQA accuracy: the target (0 … 1) of the best-scored answer (Antol et al. 2015, section 5)."""

    def __init__(self, output="logits", label="labels", name="vqa_score", **kwargs):
        super().__init__(output, label, name, **kwargs)

    def hits(self, labels, logits):
        chosen = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="float32")  # (batch, answers)
        score = ops.sum(chosen * ops.cast(labels, "float32"), axis=-1)
        return score, ops.ones_like(score)


class AnswerAccuracy(HeadAccuracy):
    """Computes `HeadAccuracy` if labels are the right answers, and `VqaScore` if they are soft targets."""

    def hits(self, labels, logits):
        return (VqaScore if are_soft_targets(labels, logits) else HeadAccuracy).hits(self, labels, logits)


class AlignmentAccuracy(HeadAccuracy):
    """Share of phrases whose best-scored region is one of theirs; phrases without any region do not count."""

    def __init__(self, output="logits", label="labels", name="alignment_accuracy", **kwargs):
        super().__init__(output, label, name, **kwargs)

    def hits(self, labels, logits):
        labels = ops.cast(labels, "float32")  # (batch, phrases, regions)
        chosen = ops.one_hot(ops.argmax(logits, axis=-1), ops.shape(logits)[-1], dtype="float32")
        hits = ops.sum(chosen * labels, axis=-1) > 0
        return ops.cast(hits, "float32"), ops.cast(ops.max(labels, axis=-1) > 0, "float32")
