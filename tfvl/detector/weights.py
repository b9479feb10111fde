"""The porting table of the detector: the names in upstream's state dict, and the variables that they fill.

A batch norm is four tensors in a file and one variable here, which `layers.Conv` folds into its convolution. Nothing is
computed on load, so that what is saved is what was loaded, and upstream's code can read it.
"""

from tfvl.porting.rules import CONV, DENSE, Rule

_NORM = ("weight", "bias", "running_mean", "running_var")


def _biased(source: str, target: str, kernel) -> tuple[Rule, Rule]:
    """Returns the rows of a layer with a bias and a kernel, which is laid out as CONV or DENSE."""
    return Rule(f"{source}.weight", f"{target}/kernel", kernel), Rule(f"{source}.bias", f"{target}/bias")


def _conv(source: str, target: str) -> tuple[Rule, ...]:
    """Returns the rows of a convolution and its batch norm."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", CONV),
        Rule(tuple(f"{source}.norm.{part}" for part in _NORM), f"{target}/norm"),
        Rule(f"{source}.norm.num_batches_tracked", None),  # a counter of training, which the authors' files lack
    )


def _stage(source: str, target: str) -> tuple[Rule, ...]:
    """Returns the rows of a stage's blocks, of which the first has a shortcut."""
    convs = ("conv1", "conv2", "conv3", "shortcut")
    rows = (_conv(f"{source}.{{i}}.{conv}", f"{target}/block_{{i}}/{conv}") for conv in convs)
    return tuple(rule for rules in rows for rule in rules)


BACKBONE = (*_conv("backbone.stem.conv1", "backbone/stem"), *_stage("backbone.res{stage}", "backbone/res{stage}"))

_RPN, _HEADS = "proposal_generator.rpn_head", "roi_heads.box_predictor"
PROPOSALS = (
    Rule("proposal_generator.anchor_generator.cell_anchors.0", "rpn_head/cell_anchors"),
    *_biased(f"{_RPN}.conv", "rpn_head/conv", CONV),
    *_biased(f"{_RPN}.objectness_logits", "rpn_head/objectness_logits", CONV),
    *_biased(f"{_RPN}.anchor_deltas", "rpn_head/anchor_deltas", CONV),
)

REGIONS = (
    *_stage("roi_heads.res5", "res5"),
    *_biased(f"{_HEADS}.cls_score", "box_predictor/cls_score", DENSE),
    *_biased(f"{_HEADS}.bbox_pred", "box_predictor/bbox_pred", DENSE),
    Rule(f"{_HEADS}.cls_embedding.weight", "box_predictor/cls_embedding/embeddings"),
    *_biased(f"{_HEADS}.fc_attr", "box_predictor/fc_attr", DENSE),
    *_biased(f"{_HEADS}.attr_score", "box_predictor/attr_score", DENSE),
)

# Buffers of the authors' files: the pixels' mean and deviation, which config.yaml has too.
BUFFERS = (Rule("pixel_mean", None), Rule("pixel_std", None))

RULES = BACKBONE + PROPOSALS + REGIONS + BUFFERS
