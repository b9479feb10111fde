"""The porting table of ViLT: the names in upstream's state dicts beside the variables they fill.

The table has the rows of all heads; a row applies if the model has its variable. Names leave out `vilt.` and `vilt/`.
"""

from tfvl.porting.rules import BIAS_OF_ROW_1, CONV, DENSE, DENSE_OF_ROW_1, Rule

_WORDS = "embeddings.text_embeddings.word_embeddings.weight"
_SELF_ATTENTION = tuple(f"encoder.layer.{{i}}.attention.attention.{part}" for part in ("query", "key", "value"))
_QKV_WEIGHTS = tuple(f"{part}.weight" for part in _SELF_ATTENTION)
_QKV_BIASES = tuple(f"{part}.bias" for part in _SELF_ATTENTION)

TEXT_EMBEDDINGS = (
    Rule(_WORDS, "embeddings/text_embeddings/word_embeddings/embeddings"),
    Rule(
        "embeddings.text_embeddings.position_embeddings.weight",
        "embeddings/text_embeddings/position_embeddings/embeddings",
    ),
    Rule(
        "embeddings.text_embeddings.token_type_embeddings.weight",
        "embeddings/text_embeddings/token_type_embeddings/embeddings",
    ),
    Rule("embeddings.text_embeddings.LayerNorm.weight", "embeddings/text_embeddings/layer_norm/gamma"),
    Rule("embeddings.text_embeddings.LayerNorm.bias", "embeddings/text_embeddings/layer_norm/beta"),
    Rule("embeddings.text_embeddings.position_ids", None),  # buffers that old versions of transformers saved
    Rule("embeddings.text_embeddings.token_type_ids", None),
)

IMAGE_EMBEDDINGS = (
    Rule("embeddings.cls_token", "embeddings/cls_token"),
    Rule("embeddings.position_embeddings", "embeddings/position_embeddings"),
    Rule("embeddings.patch_embeddings.projection.weight", "embeddings/patch_embeddings/kernel", CONV),
    Rule("embeddings.patch_embeddings.projection.bias", "embeddings/patch_embeddings/bias"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings/embeddings"),
)

ENCODER = (
    Rule("encoder.layer.{i}.layernorm_before.weight", "encoder/layer_{i}/layernorm_before/gamma"),
    Rule("encoder.layer.{i}.layernorm_before.bias", "encoder/layer_{i}/layernorm_before/beta"),
    Rule(_QKV_WEIGHTS, "encoder/layer_{i}/attention/qkv/kernel", DENSE),
    Rule(_QKV_BIASES, "encoder/layer_{i}/attention/qkv/bias", optional=True),  # config.qkv_bias
    Rule("encoder.layer.{i}.attention.output.dense.weight", "encoder/layer_{i}/attention/output/kernel", DENSE),
    Rule("encoder.layer.{i}.attention.output.dense.bias", "encoder/layer_{i}/attention/output/bias"),
    Rule("encoder.layer.{i}.layernorm_after.weight", "encoder/layer_{i}/layernorm_after/gamma"),
    Rule("encoder.layer.{i}.layernorm_after.bias", "encoder/layer_{i}/layernorm_after/beta"),
    Rule("encoder.layer.{i}.intermediate.dense.weight", "encoder/layer_{i}/intermediate/kernel", DENSE),
    Rule("encoder.layer.{i}.intermediate.dense.bias", "encoder/layer_{i}/intermediate/bias"),
    Rule("encoder.layer.{i}.output.dense.weight", "encoder/layer_{i}/output/kernel", DENSE),
    Rule("encoder.layer.{i}.output.dense.bias", "encoder/layer_{i}/output/bias"),
    Rule("layernorm.weight", "layernorm/gamma"),
    Rule("layernorm.bias", "layernorm/beta"),
)

POOLER = (
    Rule("pooler.dense.weight", "pooler/dense/kernel", DENSE, head="pooler"),
    Rule("pooler.dense.bias", "pooler/dense/bias", head="pooler"),
)

# of question answering and of the classification of several images
MLP_CLASSIFIER = (
    Rule("classifier.0.weight", "classifier/dense/kernel", DENSE, head="classifier"),
    Rule("classifier.0.bias", "classifier/dense/bias", head="classifier"),
    Rule("classifier.1.weight", "classifier/layer_norm/gamma", head="classifier"),
    Rule("classifier.1.bias", "classifier/layer_norm/beta", head="classifier"),
    Rule("classifier.3.weight", "classifier/out/kernel", DENSE, head="classifier"),
    Rule("classifier.3.bias", "classifier/out/bias", head="classifier"),
)

TOKEN_CLASSIFIER = (
    Rule("classifier.weight", "classifier/kernel", DENSE, head="token classifier"),
    Rule("classifier.bias", "classifier/bias", head="token classifier"),
)

# The paper's retrieval head starts from the "they match" output of the image-text matching head (section 4.2).
RETRIEVAL = (
    Rule("rank_output.weight", "rank_output/kernel", DENSE, head="rank_output"),
    Rule("rank_output.bias", "rank_output/bias", head="rank_output"),
    Rule("itm_score.fc.weight", "rank_output/kernel", DENSE_OF_ROW_1, head="rank_output", fallback=True),
    Rule("itm_score.fc.bias", "rank_output/bias", BIAS_OF_ROW_1, head="rank_output", fallback=True),
)

IMAGE_TEXT_MATCHING = (
    Rule("itm_score.fc.weight", "itm_score/kernel", DENSE, head="itm_score"),
    Rule("itm_score.fc.bias", "itm_score/bias", head="itm_score"),
)

# The decoder has a kernel only if it is untied. Files store its bias as `mlm_score.bias`, `mlm_score.decoder.bias`, or
# both.
MASKED_LM = (
    Rule("mlm_score.transform.dense.weight", "mlm_score/transform/kernel", DENSE, head="mlm_score"),
    Rule("mlm_score.transform.dense.bias", "mlm_score/transform/bias", head="mlm_score"),
    Rule("mlm_score.transform.LayerNorm.weight", "mlm_score/layer_norm/gamma", head="mlm_score"),
    Rule("mlm_score.transform.LayerNorm.bias", "mlm_score/layer_norm/beta", head="mlm_score"),
    Rule("mlm_score.decoder.weight", "mlm_score/decoder/kernel", DENSE, "mlm_score", optional=True, same_as=_WORDS),
    Rule("mlm_score.decoder.bias", "mlm_score/bias", head="mlm_score"),
    Rule("mlm_score.bias", None, head="mlm_score", same_as="mlm_score.decoder.bias"),
)

BODY = TEXT_EMBEDDINGS + IMAGE_EMBEDDINGS + ENCODER
HEADS = POOLER + MLP_CLASSIFIER + TOKEN_CLASSIFIER + RETRIEVAL + IMAGE_TEXT_MATCHING + MASKED_LM
RULES = BODY + HEADS
