"""The base of all question answering tasks."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfvl.training.data.examples import Example
from tfvl.training.data.loading import Batch
from tfvl.training.tasks.task import Task, logits_of
from tfvl.training.tasks.vocabulary import best_answers, soft_targets


class Answering(Task):
    """Questions about an image, whose answers are the classes of a vocabulary; predictions are the answers' names.

    Attributes:
        soft: whether answers can be right in part. It decides for models that train on soft and on hard targets
            (LXMERT: the authors' src/tasks/vqa.py and gqa.py).
    """

    soft: ClassVar[bool] = False

    kinds = ("labels",)
    answers = True
    unread = ""

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict, np.ndarray]:
        """Returns inputs and labels: soft targets, float32 (N, num_labels), or the best answers, int32 (N,)."""
        rows, loader = [example.answers for example in batch.examples], batch.loader
        if self.soft if model_class.soft_labels is None else model_class.soft_labels:
            return batch.inputs, soft_targets(rows, loader.label2id, loader.num_labels)
        return batch.inputs, best_answers(rows, loader.label2id)

    def predict(self, model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[str]:
        """Returns the names of the best answers, which `config.id2label` holds."""
        logits, names = logits_of(model, outputs), model.config.id2label
        if len(names) != logits.shape[-1]:
            raise ValueError(
                f"the model has {logits.shape[-1]} answers, but its configuration names {len(names)} in id2label; "
                "without their names it cannot be evaluated."
            )
        return [names[best] for best in np.argmax(logits, axis=-1).tolist()]

    def from_exported(self, example: Example, answer: str, score: float) -> str:
        return answer
