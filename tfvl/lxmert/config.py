"""Configuration of the LXMERT models."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tfvl.files.reading import shown
from tfvl.modeling.bert_config import MAX_LAYERS, BertConfig, RegionInput
from tfvl.modeling.configuration import MAX_LABELS, is_placeholder
from tfvl.modeling.fields import count, flag, positive, size

ANSWERS = 9500  # of the five data sets that `unc-nlp/lxmert-base-uncased` was pre-trained on


@dataclasses.dataclass(frozen=True, kw_only=True)
class LxmertConfig(BertConfig):
    """Sizes and options of an LXMERT model; the defaults are `unc-nlp/lxmert-base-uncased` (upstream: `LxmertConfig`).

    It has the fields of `BertConfig`, and these:

    Attributes:
        num_qa_labels: number of answers; if left out, as many as `num_labels`, `id2label` or `label2id` give, else
            9500. `id2label` names the answers. (Upstream's models do not read `id2label`, and its files may name any
            number of classes: names of another number than `num_qa_labels` are kept, but are not the answers' names.)
        num_object_labels: number of object classes that are predicted for a region.
        num_attr_labels: number of attributes that are predicted for a region.
        l_layers, x_layers, r_layers: number of blocks of the language, cross-modality and object relationship encoder.
        num_hidden_layers: the three numbers as a dict, as in upstream's attribute of that name; no layer reads it.
        layer_norm_eps: stored, but not read, since upstream's PyTorch models use 1e-12 in all norms.
        visual_feat_dim: width of a region's feature vector.
        visual_pos_dim: number of values that describe a region's position: 4 for a box.
        visual_loss_normalizer: factor of each of the three losses on regions.
        task_mask_lm, task_matched, task_obj_predict, task_qa: which objectives `LxmertForPreTraining` has: masked
            words, image-text match, regions, answers.
        visual_obj_loss, visual_attr_loss, visual_feat_loss: which losses on regions: object class, attribute, feature
            vector.
    """

    model_type: ClassVar[str] = "lxmert"
    answers_field: ClassVar[str] = "num_qa_labels"
    region_inputs: ClassVar[Mapping[str, RegionInput]] = {
        "features": RegionInput("visual_feats", "visual_feat_dim"),
        "boxes": RegionInput("visual_pos", "visual_pos_dim"),
        "mask": RegionInput("visual_attention_mask"),
    }

    num_qa_labels: int | None = None
    num_object_labels: int = size(1600)
    num_attr_labels: int = size(400)
    l_layers: int = count(9, 0, MAX_LAYERS)
    x_layers: int = count(5, 0, MAX_LAYERS)
    r_layers: int = count(5, 0, MAX_LAYERS)
    num_hidden_layers: Mapping[str, int] | None = None
    visual_feat_dim: int = size(2048)
    visual_pos_dim: int = size(4)
    visual_loss_normalizer: float = positive(6.67)
    task_matched: bool = flag(True)
    task_mask_lm: bool = flag(True)
    task_obj_predict: bool = flag(True)
    task_qa: bool = flag(True)
    visual_obj_loss: bool = flag(True)
    visual_attr_loss: bool = flag(True)
    visual_feat_loss: bool = flag(True)

    def __post_init__(self):
        answers, named = self.num_qa_labels, self.id2label is not None or self.label2id is not None
        if answers is not None:
            if not isinstance(answers, int) or isinstance(answers, bool) or not 1 <= answers <= MAX_LABELS:
                raise ValueError(
                    f"LxmertConfig.num_qa_labels is {shown(answers)}, expected an integer in 1…{MAX_LABELS}."
                )
            if not named and self.num_labels not in (None, answers):
                raise ValueError(
                    f"num_labels is {self.num_labels!r} but num_qa_labels is {answers}; give one of them only."
                )
        if not named and self.num_labels is None:
            object.__setattr__(self, "num_labels", ANSWERS if answers is None else answers)
        super().__post_init__()
        if answers is None:
            object.__setattr__(self, "num_qa_labels", self.num_labels)
        elif self.num_labels != answers and is_placeholder(self.id2label.values()):
            placeholders = LxmertConfig(num_qa_labels=answers)
            for name in ("num_labels", "id2label", "label2id"):
                object.__setattr__(self, name, getattr(placeholders, name))
        for name in ("l_layers", "r_layers"):
            if not getattr(self, name) + self.x_layers:
                raise ValueError(f"{name} and x_layers are both 0, expected at least one block between the two.")
        layers = {"vision": self.r_layers, "cross_encoder": self.x_layers, "language": self.l_layers}
        object.__setattr__(self, "num_hidden_layers", layers)

    @property
    def norm_eps(self) -> float:
        return 1e-12

    @property
    def padding_rows(self) -> dict[str, int]:
        return dict.fromkeys(("word_embeddings", "position_embeddings", "token_type_embeddings"), 0)

    @property
    def visual_losses(self) -> dict[str, int]:
        """The losses on regions that are switched on, by upstream's names, each with the width of its prediction."""
        table = {
            "obj": (self.visual_obj_loss, self.num_object_labels),
            "attr": (self.visual_attr_loss, self.num_attr_labels),
            "feat": (self.visual_feat_loss, self.visual_feat_dim),
        }
        return {name: width for name, (on, width) in table.items() if on}

    def replace(self, **changes) -> Self:
        """Returns a changed copy, as `Config.replace` does; new labels also set `num_qa_labels`, and the reverse.

        Raises:
            ValueError: `num_qa_labels` and labels are given, and differ in number.
        """
        named = any(changes.get(name) is not None for name in ("num_labels", "id2label", "label2id"))
        count = changes.get("num_qa_labels", self.num_qa_labels)
        if named:
            changes = {"num_qa_labels": None} | changes
        elif self.num_labels == self.num_qa_labels != count:
            changes["id2label"] = None  # the old names do not fit the new answers
        config = super().replace(**changes)
        if named and config.num_labels != config.num_qa_labels:
            raise ValueError(f"num_qa_labels is {config.num_qa_labels} but there are {config.num_labels} labels.")
        return config

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        # upstream writes the three numbers of layers a second time, and may write a number of labels; it reads neither
        read = {name: value for name, value in values.items() if name not in ("num_hidden_layers", "num_labels")}
        if "num_answers" in read:  # from a file in the authors' own format (`tfvl.porting.originals`)
            read[cls.answers_field] = read.pop("num_answers")
        return super().from_dict({cls.answers_field: ANSWERS} | read)

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        if is_placeholder(self.id2label.values()):
            del values["id2label"], values["label2id"]
        return values
