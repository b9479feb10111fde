"""LXMERT's processor, which turns texts, region features and boxes into the model's inputs."""

from tfvl.lxmert.config import LxmertConfig
from tfvl.processors.regions import RegionProcessor


class LxmertProcessor(RegionProcessor):
    """Prepares texts, and the regions that a detector found in images, for LXMERT.

        processor = LxmertProcessor.from_pretrained("unc-nlp/lxmert-base-uncased")
        inputs = processor(text=["what is on the table?"], regions=["kitchen.npz"])

    A call (see `RegionProcessor.__call__`) returns `input_ids`, `token_type_ids`, `attention_mask` int32 (N, length);
    `visual_feats` float32 (N, regions, feature_size), `visual_pos` float32 (N, regions, 4), the boxes, which LXMERT
    always needs, and `visual_attention_mask` int32 (N, regions).

    Args:
        tokenizer: the `BertTokenizer` (upstream: `LxmertTokenizer`, which is the same).
        feature_size: `visual_feat_dim` of the model's configuration; None: feature sizes are not checked.
    """

    config_class = LxmertConfig
