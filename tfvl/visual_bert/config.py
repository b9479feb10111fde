"""Configuration of the VisualBERT models."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tfvl.modeling.bert_config import MAX_LAYERS, BertConfig, RegionInput
from tfvl.modeling.fields import count, flag, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualBertConfig(BertConfig):
    """Sizes and options of a VisualBERT model; the defaults are upstream's (`VisualBertConfig`).

    It has the fields of `BertConfig`, and these:

    Attributes:
        visual_embedding_dim: width of a region's feature vector: 2048 (VQA, COCO), 1024 (NLVR2) or 512 (VCR) in the
            published checkpoints.
        num_hidden_layers: number of transformer blocks.
        bypass_transformer: whether the regions pass by the encoder and meet the text in one additional block.
        special_visual_initialize: whether token types and positions of regions start as copies of those of the words.
        pad_token_id: row of the word embeddings that training leaves as it is. Upstream's files say 1, although the
            tokenizer pads with 0.
    """

    model_type: ClassVar[str] = "visual_bert"
    region_inputs: ClassVar[Mapping[str, RegionInput]] = {
        "features": RegionInput("visual_embeds", "visual_embedding_dim"),
        "mask": RegionInput("visual_attention_mask"),
        # Types of one image are 1, as upstream's documentation has them. Of a pair (NLVR2) the authors put the regions
        # of both images one after the other, those of the first with type 0 and those of the second with type 1:
        # github.com/uclanlp/visualbert, visualbert/dataloaders/nlvr_dataset.py.
        "image": RegionInput("visual_token_type_ids"),
    }

    visual_embedding_dim: int = size(512)
    num_hidden_layers: int = count(12, 0, MAX_LAYERS)
    bypass_transformer: bool = flag(False)
    special_visual_initialize: bool = flag(True)
    pad_token_id: int | None = 1
