"""The porting table of the detector: the names in upstream's state dict beside the variables they fill.

A batch norm is four tensors of a file and one variable here, which `layers.Conv` folds into its convolution. Nothing is
computed on load, so that what is saved is what was loaded, and upstream's code reads it.
"""

from tfvl.porting.rules import CONV, DENSE, Rule

_NORM = ("weight", "bias", "running_mean", "running_var")


def _conv(source: str, target: str, optional: bool = False) -> tuple[Rule, ...]:
    """The rows of a convolution and its batch norm."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", CONV, optional=optional),
        Rule(tuple(f"{source}.norm.{part}" for part in _NORM), f"{target}/norm", optional=optional),
        Rule(f"{source}.norm.num_batches_tracked", None),  # of training; files of the original lack it
    )


def _stage(source: str, target: str) -> tuple[Rule, ...]:
    """The rows of a stage's blocks; the first of them has a shortcut."""
    convs = ("conv1", "conv2", "conv3", "shortcut")
    rows = (_conv(f"{source}.{{i}}.{conv}", f"{target}/block_{{i}}/{conv}") for conv in convs)
    return tuple(rule for rules in rows for rule in rules)


BACKBONE = (*_conv("backbone.stem.conv1", "backbone/stem"), *_stage("backbone.res{stage}", "backbone/res{stage}"))

_RPN, _HEADS = "proposal_generator.rpn_head", "roi_heads.box_predictor"
PROPOSALS = (
    Rule("proposal_generator.anchor_generator.cell_anchors.0", "rpn_head/cell_anchors"),
    Rule(f"{_RPN}.conv.weight", "rpn_head/conv/kernel", CONV),
    Rule(f"{_RPN}.conv.bias", "rpn_head/conv/bias"),
    Rule(f"{_RPN}.objectness_logits.weight", "rpn_head/objectness_logits/kernel", CONV),
    Rule(f"{_RPN}.objectness_logits.bias", "rpn_head/objectness_logits/bias"),
    Rule(f"{_RPN}.anchor_deltas.weight", "rpn_head/anchor_deltas/kernel", CONV),
    Rule(f"{_RPN}.anchor_deltas.bias", "rpn_head/anchor_deltas/bias"),
)

REGIONS = (
    *_stage("roi_heads.res5", "res5"),
    Rule(f"{_HEADS}.cls_score.weight", "box_predictor/cls_score/kernel", DENSE),
    Rule(f"{_HEADS}.cls_score.bias", "box_predictor/cls_score/bias"),
    Rule(f"{_HEADS}.bbox_pred.weight", "box_predictor/bbox_pred/kernel", DENSE),
    Rule(f"{_HEADS}.bbox_pred.bias", "box_predictor/bbox_pred/bias"),
    Rule(f"{_HEADS}.cls_embedding.weight", "box_predictor/cls_embedding/embeddings"),
    Rule(f"{_HEADS}.fc_attr.weight", "box_predictor/fc_attr/kernel", DENSE),
    Rule(f"{_HEADS}.fc_attr.bias", "box_predictor/fc_attr/bias"),
    Rule(f"{_HEADS}.attr_score.weight", "box_predictor/attr_score/kernel", DENSE),
    Rule(f"{_HEADS}.attr_score.bias", "box_predictor/attr_score/bias"),
)

# What the original keeps beside its weights: the pixels' mean and deviation, which config.yaml says too.
BUFFERS = (Rule("pixel_mean", None), Rule("pixel_std", None))

RULES = BACKBONE + PROPOSALS + REGIONS + BUFFERS
