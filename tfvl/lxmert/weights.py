"""The porting table of LXMERT: the names in upstream's state dicts, and the variables that they fill.

The table has the rows of all heads; a model uses those whose variable it has. Names leave out `lxmert.` and
`lxmert/`.
"""

from tfvl.porting.rules import DENSE, Rule

_WORDS = "embeddings.word_embeddings.weight"


def _dense(source: str, target: str, **options) -> tuple[Rule, Rule]:
    return (
        Rule(f"{source}.weight", f"{target}/kernel", DENSE, **options),
        Rule(f"{source}.bias", f"{target}/bias", **options),
    )


def _norm(source: str, target: str, **options) -> tuple[Rule, Rule]:
    return Rule(f"{source}.weight", f"{target}/gamma", **options), Rule(f"{source}.bias", f"{target}/beta", **options)


def _fused(source: str, parts: tuple[str, ...], target: str) -> tuple[Rule, Rule]:
    weights, biases = (tuple(f"{source}.{part}.{kind}" for part in parts) for kind in ("weight", "bias"))
    return Rule(weights, f"{target}/kernel", DENSE), Rule(biases, f"{target}/bias")


def _self_attention(source: str, target: str) -> tuple[Rule, ...]:
    return (
        *_fused(f"{source}.self", ("query", "key", "value"), f"{target}/attention/qkv"),
        *_dense(f"{source}.output.dense", f"{target}/attention/output"),
        *_norm(f"{source}.output.LayerNorm", f"{target}/attention_layer_norm"),
    )


def _perceptron(intermediate: str, output: str, target: str) -> tuple[Rule, ...]:
    return (
        *_dense(f"{intermediate}.dense", f"{target}/intermediate"),
        *_dense(f"{output}.dense", f"{target}/output"),
        *_norm(f"{output}.LayerNorm", f"{target}/output_layer_norm"),
    )


def _encoder(source: str, target: str) -> tuple[Rule, ...]:
    return (
        *_self_attention(f"{source}.attention", target),
        *_perceptron(f"{source}.intermediate", f"{source}.output", target),
    )


EMBEDDINGS = (
    Rule(_WORDS, "embeddings/word_embeddings/embeddings"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position_embeddings/embeddings"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings/embeddings"),
    *_norm("embeddings.LayerNorm", "embeddings/layer_norm"),
    Rule("embeddings.position_ids", None),  # a buffer that old versions of transformers saved
    *_dense("encoder.visn_fc.visn_fc", "visual_embeddings/visn_fc"),
    *_norm("encoder.visn_fc.visn_layer_norm", "visual_embeddings/visn_layer_norm"),
    *_dense("encoder.visn_fc.box_fc", "visual_embeddings/box_fc"),
    *_norm("encoder.visn_fc.box_layer_norm", "visual_embeddings/box_layer_norm"),
)

_CROSS = "encoder.x_layers.{i}"
_CROSS_TARGET = "cross_encoder/layer_{i}"
ENCODERS = (
    *_encoder("encoder.layer.{i}", "language_encoder/layer_{i}"),
    *_encoder("encoder.r_layers.{i}", "vision_encoder/layer_{i}"),
    # upstream's `visual_attention` serves both directions
    *_fused(f"{_CROSS}.visual_attention.att", ("query",), f"{_CROSS_TARGET}/attention/query"),
    *_fused(f"{_CROSS}.visual_attention.att", ("key", "value"), f"{_CROSS_TARGET}/attention/key_value"),
    *_dense(f"{_CROSS}.visual_attention.output.dense", f"{_CROSS_TARGET}/attention/output"),
    *_norm(f"{_CROSS}.visual_attention.output.LayerNorm", f"{_CROSS_TARGET}/attention_layer_norm"),
    *_self_attention(f"{_CROSS}.lang_self_att", f"{_CROSS_TARGET}/language"),
    *_perceptron(f"{_CROSS}.lang_inter", f"{_CROSS}.lang_output", f"{_CROSS_TARGET}/language"),
    *_self_attention(f"{_CROSS}.visn_self_att", f"{_CROSS_TARGET}/vision"),
    *_perceptron(f"{_CROSS}.visn_inter", f"{_CROSS}.visn_output", f"{_CROSS_TARGET}/vision"),
)

POOLER = _dense("pooler.dense", "pooler/dense", head="pooler")

# The decoder has a kernel of its own only if it is untied. Files store its bias under one of two names, or under both.
_WORD_HEAD = "cls.predictions"
MASKED_LM = (
    *_dense("cls.predictions.transform.dense", "predictions/transform", head=_WORD_HEAD),
    *_norm("cls.predictions.transform.LayerNorm", "predictions/layer_norm", head=_WORD_HEAD),
    Rule(
        "cls.predictions.decoder.weight",
        "predictions/decoder/kernel",
        DENSE,
        head=_WORD_HEAD,
        optional=True,
        same_as=_WORDS,
    ),
    Rule("cls.predictions.bias", "predictions/bias", head=_WORD_HEAD),
    Rule("cls.predictions.decoder.bias", None, head=_WORD_HEAD, same_as="cls.predictions.bias"),
)

MATCHING = _dense("cls.seq_relationship", "seq_relationship", head="cls.seq_relationship")

# Each decoder is a head by itself, because each can be switched off by itself (`visual_*_loss`).
OBJECTS = (
    *_dense("obj_predict_head.transform.dense", "obj_predict_head/transform", head="obj_predict_head"),
    *_norm("obj_predict_head.transform.LayerNorm", "obj_predict_head/layer_norm", head="obj_predict_head"),
    *(
        rule
        for name in ("obj", "attr", "feat")
        for rule in _dense(
            f"obj_predict_head.decoder_dict.{name}", f"obj_predict_head/{name}", head=f"obj_predict_head.{name}"
        )
    ),
)

ANSWERS = (
    *_dense("answer_head.logit_fc.0", "answer_head/dense", head="answer_head"),
    *_norm("answer_head.logit_fc.2", "answer_head/layer_norm", head="answer_head"),
    *_dense("answer_head.logit_fc.3", "answer_head/out", head="answer_head"),
)

RULES = EMBEDDINGS + ENCODERS + POOLER + MASKED_LM + MATCHING + OBJECTS + ANSWERS
