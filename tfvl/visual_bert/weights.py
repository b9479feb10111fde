"""The porting table of VisualBERT: the names in upstream's state dicts beside the variables they fill.

The table has the rows of all heads; a row applies if the model has its variable. Names leave out `visual_bert.` and
`visual_bert/`.
"""

from tfvl.porting.bert_rules import post_norm_block, pretraining_heads
from tfvl.porting.rules import DENSE, Rule

_WORDS = "embeddings.word_embeddings.weight"

EMBEDDINGS = (
    Rule(_WORDS, "embeddings/word_embeddings/embeddings"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position_embeddings/embeddings"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings/embeddings"),
    Rule("embeddings.visual_position_embeddings.weight", "embeddings/visual_position_embeddings/embeddings"),
    Rule("embeddings.visual_token_type_embeddings.weight", "embeddings/visual_token_type_embeddings/embeddings"),
    Rule("embeddings.visual_projection.weight", "embeddings/visual_projection/kernel", DENSE),
    Rule("embeddings.visual_projection.bias", "embeddings/visual_projection/bias"),
    Rule("embeddings.LayerNorm.weight", "embeddings/layer_norm/gamma"),
    Rule("embeddings.LayerNorm.bias", "embeddings/layer_norm/beta"),
    Rule("embeddings.position_ids", None),  # a buffer that old versions of transformers saved
)

ENCODER = post_norm_block("encoder.layer.{i}", "encoder/layer_{i}")

# config.bypass_transformer
ADDITIONAL_LAYER = post_norm_block("additional_layer", "additional_layer", head="additional_layer")

POOLER = (
    Rule("pooler.dense.weight", "pooler/dense/kernel", DENSE, head="pooler"),
    Rule("pooler.dense.bias", "pooler/dense/bias", head="pooler"),
)

# VisualBertForQuestionAnswering, VisualBertForMultipleChoice and VisualBertForVisualReasoning
CLASSIFIER = (
    Rule("cls.weight", "cls/kernel", DENSE, head="cls"),
    Rule("cls.bias", "cls/bias", head="cls"),
)

# VisualBertForRegionToPhraseAlignment
ALIGNMENT = tuple(
    rule
    for part in ("query", "key", "value")
    for rule in (
        Rule(f"attention.{part}.weight", f"attention/{part}/kernel", DENSE, head="attention"),
        Rule(f"attention.{part}.bias", f"attention/{part}/bias", head="attention"),
    )
)

HEADS = POOLER + CLASSIFIER + pretraining_heads(_WORDS) + ALIGNMENT
RULES = EMBEDDINGS + ENCODER + ADDITIONAL_LAYER + HEADS
