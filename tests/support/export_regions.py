"""Tiny VisualBERT and LXMERT models, raw requests with regions for them, and the same as the models' inputs."""

import keras
import numpy as np

import tfvl
from support.checkpoint import VOCABULARY

VISUAL_BERT_HEADS = (
    "VisualBertModel",
    "VisualBertForPreTraining",
    "VisualBertForQuestionAnswering",
    "VisualBertForMultipleChoice",
    "VisualBertForVisualReasoning",
    "VisualBertForRegionToPhraseAlignment",
)
LXMERT_HEADS = ("LxmertModel", "LxmertForPreTraining", "LxmertForQuestionAnswering")
REGION_HEADS = (*VISUAL_BERT_HEADS, *LXMERT_HEADS)
CHOICE, PAIR, ALIGNMENT = VISUAL_BERT_HEADS[3:]
INPUT_KINDS = ("VisualBertForQuestionAnswering", CHOICE, PAIR, ALIGNMENT, "LxmertForPreTraining")  # one of each

FEATURES = 9
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
FAMILIES = {
    "VisualBert": {"num_hidden_layers": 2, "visual_embedding_dim": FEATURES},
    "Lxmert": {
        **{"l_layers": 1, "x_layers": 2, "r_layers": 1, "visual_feat_dim": FEATURES},
        **{"num_qa_labels": 7, "num_object_labels": 5, "num_attr_labels": 3},
    },
}
COUNTS = (5, 3, 4)  # regions of each row
TEXTS = ("What color is the [MASK]?", "the [MASK] is left of a blue [MASK] , how many ?", "Red [MASK]")
CHOICES = (("a red circle", "", "blue"), ("square .", "two circles !", "the red square"), ("", "red", " "))
PHRASES = (("what color", ""), ("a blue", "the"), ("red", ""))
LAST_TOKENS = ((2, -1), (7, 1), (1, -1))  # of PHRASES, in the tokenised TEXTS; [CLS] is token 0


def family_of(class_name: str) -> str:
    return next(family for family in FAMILIES if class_name.startswith(family))


def region_model(class_name: str, **config) -> keras.Model:
    family = family_of(class_name)
    return getattr(tfvl, class_name)(getattr(tfvl, f"{family}Config")(**SIZES | FAMILIES[family] | config))


def region_processor(class_name: str):
    return getattr(tfvl, f"{family_of(class_name)}Processor")(tfvl.BertTokenizer(VOCABULARY), FEATURES)


def regions_of(*items: int) -> np.ndarray:
    """Makes features (3, [items,] 5, FEATURES) of as many regions as `COUNTS` says, padded with zeros."""
    features = np.random.default_rng(0).normal(size=(3, *items, 5, FEATURES)).astype(np.float32)
    for row, count in enumerate(COUNTS):
        features[row, ..., count:, :] = 0
    if items:
        features[1, 1, 4] = 1  # the second image of a pair has more regions; one of padding lies between them
    return features


def boxes() -> np.ndarray:
    """Makes boxes (3, 5, 4); the values for padding are not boxes."""
    corners = np.random.default_rng(1).uniform(size=(3, 5, 2, 2)).astype(np.float32)
    sorted_corners = np.sort(corners, axis=2).reshape(3, 5, 4)
    sorted_corners[~regions_of().any(-1)] = 7
    return sorted_corners


def encoded(values) -> np.ndarray:
    return np.array(
        [[item.encode() for item in row] if isinstance(row, tuple) else row.encode() for row in values], object
    )


def region_requests(class_name: str) -> dict[str, np.ndarray]:
    """Makes three good rows of inputs of `serving_default`."""
    raw = {"text": encoded(TEXTS), "regions": regions_of(2) if class_name == PAIR else regions_of()}
    more = {
        "Lxmert": {"boxes": boxes()},
        CHOICE: {"choices": encoded(CHOICES)},
        ALIGNMENT: {"phrases": encoded(PHRASES)},
    }
    return raw | more.get(class_name, {}) | more.get(family_of(class_name), {})


def region_inputs(class_name: str) -> dict[str, np.ndarray]:
    """Converts the same rows to the model's inputs by the processor in Python."""
    raw, processor = region_requests(class_name), region_processor(class_name)
    inputs = processor(
        text=list(TEXTS),
        text_pair=[list(row) for row in CHOICES] if class_name == CHOICE else None,
        regions=raw["regions"],
        boxes=raw.get("boxes"),
        max_length=SIZES["max_position_embeddings"],
        return_tensors="np",
    )
    return inputs | ({"region_to_phrase_position": np.array(LAST_TOKENS, np.int32)} if class_name == ALIGNMENT else {})
