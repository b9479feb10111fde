"""The authors' own ViLT files: PyTorch Lightning checkpoints such as `vilt_vqa.ckpt` and `vilt_200k_mlm_itm.ckpt`.

Source: dandelin/ViLT, `vilt/modules/vilt_module.py` and `heads.py` (the names), and transformers'
`convert_vilt_original_to_pytorch.py` (what becomes of them).
"""

import math
from typing import Any

from tfvl.porting.originals.layout import Original, Shapes, size_of

_BLOCK, _LAYER = "transformer.blocks.{i}.", "vilt.encoder.layer.{i}."
RENAMES: dict[str, Any] = {
    "text_embeddings.": "vilt.embeddings.text_embeddings.",
    "token_type_embeddings.": "vilt.embeddings.token_type_embeddings.",
    "transformer.cls_token": "vilt.embeddings.cls_token",
    "transformer.pos_embed": "vilt.embeddings.position_embeddings",
    "transformer.patch_embed.proj.": "vilt.embeddings.patch_embeddings.projection.",
    f"{_BLOCK}norm1.": f"{_LAYER}layernorm_before.",
    f"{_BLOCK}attn.qkv.": tuple(f"{_LAYER}attention.attention.{part}." for part in ("query", "key", "value")),
    f"{_BLOCK}attn.proj.": f"{_LAYER}attention.output.dense.",
    f"{_BLOCK}norm2.": f"{_LAYER}layernorm_after.",
    f"{_BLOCK}mlp.fc1.": f"{_LAYER}intermediate.dense.",
    f"{_BLOCK}mlp.fc2.": f"{_LAYER}output.dense.",
    "transformer.norm.": "vilt.layernorm.",
    "pooler.": "vilt.pooler.",
    "vqa_classifier.": "classifier.",
    "nlvr2_classifier.": "classifier.",
    # masked patch prediction, an experiment of the paper that no model here or in transformers has
    "mpp_score.": None,
    "transformer.mask_token": None,
}

# The head that a file holds tells the class; the first that fits.
ARCHITECTURES = {
    "rank_output.weight": "ViltForImageAndTextRetrieval",
    "itm_score.fc.weight": "ViltForPreTraining",
    "mlm_score.bias": "ViltForMaskedLM",
}
NLVR2_LABELS = {"0": "False", "1": "True"}


def more(shapes: Shapes) -> dict:
    """Returns the configuration's class, sizes of image and patch, and labels, which follow from the tensors."""
    positions = size_of(shapes, "embeddings.position_embeddings", 1) or 1
    side = size_of(shapes, "embeddings.patch_embeddings.projection.weight", 3) or 0
    values: dict[str, Any] = {
        "patch_size": side,
        "image_size": math.isqrt(positions - 1) * side,
    }  # all originals are square
    head = next((architecture for name, architecture in ARCHITECTURES.items() if name in shapes), "ViltModel")
    labels = size_of(shapes, "classifier.3.bias", 0)
    if labels is not None:
        values["num_labels"] = labels
        head = "ViltForQuestionAnswering"
        images = (size_of(shapes, "classifier.0.weight", 1) or 0) // (size_of(shapes, "pooler.dense.weight", 0) or 1)
        if images > 1:  # NLVR2, with the labels that transformers gives it
            values |= {"num_images": images} | ({"id2label": NLVR2_LABELS} if labels == len(NLVR2_LABELS) else {})
            head = "ViltForImagesAndTextClassification"
    return values | {"architectures": [head]}


ORIGINAL = Original(
    model_type="vilt",
    prefix="vilt.",
    marks=("transformer.patch_embed.proj.weight",),
    renames=RENAMES,
    sizes={
        "vocab_size": ("embeddings.text_embeddings.word_embeddings.weight", 0),
        "hidden_size": ("embeddings.text_embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": ("embeddings.text_embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("embeddings.text_embeddings.token_type_embeddings.weight", 0),
        "modality_type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
        "num_channels": ("embeddings.patch_embeddings.projection.weight", 1),
        "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
    },
    layers={"num_hidden_layers": "encoder.layer.{i}.intermediate.dense.weight"},
    more=more,
)
