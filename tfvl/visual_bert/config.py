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
        bypass_transformer: whether the encoder reads the text only, and one additional block reads text and regions.
        special_visual_initialize: whether token types and positions of regions start as copies of those of the words.
        pad_token_id: row of the word embeddings that training does not change. Upstream's files have 1, although the
            tokenizer pads with 0.
    """

    model_type: ClassVar[str] = "visual_bert"
    region_inputs: ClassVar[Mapping[str, RegionInput]] = {
        "features": RegionInput("visual_embeds", "visual_embedding_dim"),
        "mask": RegionInput("visual_attention_mask"),
        # Regions of a single image have type 1, as in upstream's documentation. For a pair (NLVR2), the authors put the
        # regions of the second image, with type 1, after those of the first, with type 0:
        # github.com/uclanlp/visualbert, visualbert/dataloaders/nlvr_dataset.py.
        "image": RegionInput("visual_token_type_ids"),
    }

    visual_embedding_dim: int = size(512)
    num_hidden_layers: int = count(12, 0, MAX_LAYERS)
    bypass_transformer: bool = flag(False)
    special_visual_initialize: bool = flag(True)
    pad_token_id: int | None = 1
