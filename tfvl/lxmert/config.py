"""Configuration of the LXMERT models."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tfvl.modeling.bert_config import MAX_LAYERS, BertConfig, RegionInput
from tfvl.modeling.fields import flag, positive, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class LxmertConfig(BertConfig):
    """Sizes and options of an LXMERT model; the defaults are `unc-nlp/lxmert-base-uncased` (upstream: `LxmertConfig`).

    Attributes: as `BertConfig`, and
        num_qa_labels: number of answers. `id2label` names them where it has as many entries; upstream's is not read.
        num_object_labels: number of object classes a region may be told to belong to.
        num_attr_labels: number of attributes a region may be told to have.
        l_layers, x_layers, r_layers: number of blocks of the language, cross-modality and object relationship encoder.
        layer_norm_eps: upstream's PyTorch models take 1e-12 whatever it says.
        visual_feat_dim: width of a region's feature vector.
        visual_pos_dim: numbers that say where a region lies: 4 for a box.
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

    num_qa_labels: int = size(9500)
    num_object_labels: int = size(1600)
    num_attr_labels: int = size(400)
    l_layers: int = size(9, most=MAX_LAYERS)
    x_layers: int = size(5, most=MAX_LAYERS)
    r_layers: int = size(5, most=MAX_LAYERS)
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

    @property
    def visual_losses(self) -> dict[str, int]:
        """The losses on regions that are switched on, and the width of each one's prediction (upstream's names)."""
        table = {
            "obj": (self.visual_obj_loss, self.num_object_labels),
            "attr": (self.visual_attr_loss, self.num_attr_labels),
            "feat": (self.visual_feat_loss, self.visual_feat_dim),
        }
        return {name: width for name, (on, width) in table.items() if on}

    def replace(self, **changes) -> Self:
        """As `Config.replace`; with another `num_qa_labels` the names of the old answers go, if `id2label` has them."""
        count = changes.get("num_qa_labels", self.num_qa_labels)
        if self.num_labels == self.num_qa_labels != count and not changes.keys() & {"id2label", "num_labels"}:
            changes["id2label"] = None
        return super().replace(**changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        values = dict(values)
        values.pop("num_hidden_layers", None)  # upstream writes the three counts a second time, and never reads them
        if "num_answers" in values:  # of a file of the authors' own (`tfvl.porting.originals`)
            values[cls.answers_field] = values.pop("num_answers")
        return super().from_dict(values)
