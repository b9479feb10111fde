"""Rows that several models' porting tables share: a BERT block and BERT's pre-training heads, under any name."""

from tfvl.porting.rules import DENSE, Rule

_QKV = ("query", "key", "value")


def post_norm_block(source: str, target: str, head: str | None = None) -> tuple[Rule, ...]:
    """Returns the rows of one `PostNormBlock` (upstream: `BertLayer`), from names under `source` to `target`."""
    attention = tuple(f"{source}.attention.self.{part}" for part in _QKV)
    dense = {
        f"{source}.attention.output.dense": f"{target}/attention/output",
        f"{source}.intermediate.dense": f"{target}/intermediate",
        f"{source}.output.dense": f"{target}/output",
    }
    norms = {
        f"{source}.attention.output.LayerNorm": f"{target}/attention_layer_norm",
        f"{source}.output.LayerNorm": f"{target}/output_layer_norm",
    }
    return (
        Rule(tuple(f"{part}.weight" for part in attention), f"{target}/attention/qkv/kernel", DENSE, head),
        Rule(tuple(f"{part}.bias" for part in attention), f"{target}/attention/qkv/bias", head=head),
        *(Rule(f"{old}.weight", f"{new}/kernel", DENSE, head) for old, new in dense.items()),
        *(Rule(f"{old}.bias", f"{new}/bias", head=head) for old, new in dense.items()),
        *(Rule(f"{old}.weight", f"{new}/gamma", head=head) for old, new in norms.items()),
        *(Rule(f"{old}.bias", f"{new}/beta", head=head) for old, new in norms.items()),
    )


def pretraining_heads(words: str) -> tuple[Rule, ...]:
    """Returns the rows of `cls.predictions` and `cls.seq_relationship` (upstream: `BertPreTrainingHeads`).

    The decoder has a kernel of its own only if it is not tied to the word embeddings, whose name is `words`. Files
    store its bias also, or only, as `cls.predictions.decoder.bias`, which upstream's forward pass reads.
    """
    mlm, decoder = "cls.predictions", "cls.predictions.decoder"
    return (
        Rule(f"{mlm}.transform.dense.weight", "predictions/transform/kernel", DENSE, mlm),
        Rule(f"{mlm}.transform.dense.bias", "predictions/transform/bias", head=mlm),
        Rule(f"{mlm}.transform.LayerNorm.weight", "predictions/layer_norm/gamma", head=mlm),
        Rule(f"{mlm}.transform.LayerNorm.bias", "predictions/layer_norm/beta", head=mlm),
        Rule(f"{decoder}.weight", "predictions/decoder/kernel", DENSE, mlm, optional=True, same_as=words),
        Rule(f"{mlm}.bias", "predictions/bias", head=mlm),
        Rule(f"{decoder}.bias", None, head=mlm, same_as=f"{mlm}.bias", wins=True, saved_untied=True),
        Rule("cls.seq_relationship.weight", "seq_relationship/kernel", DENSE, head="cls.seq_relationship"),
        Rule("cls.seq_relationship.bias", "seq_relationship/bias", head="cls.seq_relationship"),
    )
