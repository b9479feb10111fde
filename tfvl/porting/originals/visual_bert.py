"""The authors' own VisualBERT files: `vqa_fine_tuned.th`, `nlvr2_pre_trained.th`, `vcr_coco_pre_train.th`, …

Source: uclanlp/visualbert, `models/model.py` and `pytorch_pretrained_bert/modeling.py` (the names), and transformers'
`convert_visual_bert_original_pytorch_checkpoint_to_pytorch.py` (what becomes of them). MMF's files of the model
(`mmf/models/visual_bert.py`) have the same names with one `bert.` less; their classifier has a layer more than
transformers', and starts anew.
"""

from typing import Any

from tfvl.porting.originals.layout import BERT_SIZES, Original, Shapes, size_of

_VISUAL = "visual_bert.embeddings.visual_"
RENAMES = {
    "bert.bert.embeddings.token_type_embeddings_visual.": f"{_VISUAL}token_type_embeddings.",
    "bert.bert.embeddings.position_embeddings_visual.": f"{_VISUAL}position_embeddings.",
    "bert.bert.embeddings.projection.": f"{_VISUAL}projection.",
    "bert.bert.": "visual_bert.",
    "bert.cls.": "cls.",
    "bert.classifier.": "cls.",
    "bert.flickr_attention.": "attention.",
    "bert.embeddings.token_type_embeddings_visual.": f"{_VISUAL}token_type_embeddings.",  # from here on MMF's
    "bert.embeddings.position_embeddings_visual.": f"{_VISUAL}position_embeddings.",
    "bert.embeddings.projection.": f"{_VISUAL}projection.",
    "bert.": "visual_bert.",
    "classifier.": None,
    "detector.": None,  # the ResNet that gave VCR's region features; upstream leaves it out as well
}

# The head that a file holds tells the class; the first that fits.
ARCHITECTURES = {
    "attention.query.weight": "VisualBertForRegionToPhraseAlignment",
    "cls.predictions.bias": "VisualBertForPreTraining",
}
CLASSIFIERS = {1: "VisualBertForMultipleChoice", 2: "VisualBertForVisualReasoning"}


def more(shapes: Shapes) -> dict:
    """Returns the configuration's class, number of labels and additional layer, which follow from the tensors."""
    values: dict[str, Any] = {"bypass_transformer": any(name.startswith("additional_layer.") for name in shapes)}
    head = next((architecture for name, architecture in ARCHITECTURES.items() if name in shapes), None)
    scores = size_of(shapes, "cls.weight", 0)
    if head is None and scores is not None:
        head = CLASSIFIERS.get(scores, "VisualBertForQuestionAnswering")
        values |= {"num_labels": scores} if scores > 1 else {}  # multiple choice has one score for each choice
    return values | {"architectures": [head or "VisualBertModel"]}


ORIGINAL = Original(
    model_type="visual_bert",
    prefix="visual_bert.",
    marks=tuple(f"{start}embeddings.token_type_embeddings_visual.weight" for start in ("bert.bert.", "bert.")),
    renames=RENAMES,
    sizes=BERT_SIZES
    | {
        "visual_embedding_dim": ("embeddings.visual_projection.weight", 1),
    },
    layers={"num_hidden_layers": "encoder.layer.{i}.intermediate.dense.weight"},
    more=more,
)
