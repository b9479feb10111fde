"""Every field of the three configurations, changed alone: what it changes is what it changes in transformers.

The table of tfvl/README.md, "The fields of the configurations", is what this finds.
"""

import dataclasses
import re

import pytest
from support.classes import differences, training_example
from support.config_effects import Ours, Theirs, changed_sizes, effects
from support.not_here import README
from support.reference import reference_model, to_torch, torch, transformers

import tfvl

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5  # float32 sums of some dozen terms in another order
FIVE = {index: f"answer {index}" for index in range(5)}
COMMON = {
    "vocab_size": 137,
    "hidden_size": 32,
    "num_attention_heads": 6,
    "intermediate_size": 41,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.5,
    "attention_probs_dropout_prob": 0.5,
    "max_position_embeddings": 17,
    "type_vocab_size": 5,
    "initializer_range": 0.1,
    "layer_norm_eps": 0.1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 3,
    "eos_token_id": 4,
    "chunk_size_feed_forward": 1,
    "output_attentions": True,
    "output_hidden_states": True,
    "num_labels": 7,
    "id2label": FIVE,
    "label2id": {"yes": 0, "no": 1},
    "problem_type": "regression",
    "is_encoder_decoder": True,
}
FIELDS = {
    "Vilt": COMMON
    | {
        "num_hidden_layers": 2,
        "modality_type_vocab_size": 5,
        "image_size": 64,
        "patch_size": 16,
        "num_channels": 1,
        "qkv_bias": False,
        "max_image_length": 5,
        "num_images": 1,
    },
    "VisualBert": COMMON
    | {
        "num_hidden_layers": 2,
        "visual_embedding_dim": 23,
        "bypass_transformer": True,
        "special_visual_initialize": False,
    },
    "Lxmert": COMMON
    | {
        "num_qa_labels": 13,
        "num_object_labels": 10,
        "num_attr_labels": 7,
        "l_layers": 2,
        "x_layers": 2,
        "r_layers": 2,
        "num_hidden_layers": 12,
        "visual_feat_dim": 23,
        "visual_pos_dim": 4,
        "visual_loss_normalizer": 6.5,
        "task_matched": False,
        "task_mask_lm": False,
        "task_obj_predict": False,
        "task_qa": False,
        "visual_obj_loss": False,
        "visual_attr_loss": False,
        "visual_feat_loss": False,
    },
}
# the class that a field is looked at in
HEADS = {"Vilt": "ViltForMaskedLM", "VisualBert": "VisualBertForPreTraining", "Lxmert": "LxmertForPreTraining"}
OTHER_HEADS = {
    ("Vilt", "num_labels"): "ViltForTokenClassification",
    ("Vilt", "num_images"): "ViltForImagesAndTextClassification",
    ("VisualBert", "num_labels"): "VisualBertForVisualReasoning",
}
NOT_OF_A_MODEL = {"architectures", "dtype", "return_dict", "transformers_version"}  # of the file and the call
# Not as upstream, each with its reason in the README.
OWN = {("Vilt", "tie_word_embeddings"): "weights", ("VisualBert", "special_visual_initialize"): "start"}
# Without its head upstream returns a number of the pooled state in place of the answers; here there is no such output.
NOT_ANSWERED = {("Lxmert", "task_qa"): "question_answering_score"}
FAILS_UPSTREAM = {("VisualBert", "bypass_transformer")}
CASES = [(family, field) for family, fields in FIELDS.items() for field in fields]


@pytest.fixture(autouse=True)
def first_patches(monkeypatch):
    """Makes upstream take an image's first patches, which it draws at random; this changes no result."""
    monkeypatch.setattr(torch, "multinomial", lambda weights, n, replacement=False: torch.arange(n) % len(weights))


def head_of(family: str, field: str) -> str:
    return OTHER_HEADS.get((family, field), HEADS[family])


def written(family: str, field: str) -> str:
    """Reads a cell of the README's table."""
    row = re.search(rf"^\| `{field}` \|(.*)\|$", README, re.MULTILINE)
    return [cell.strip() for cell in row[1].split("|")][list(FIELDS).index(family)]


@pytest.mark.parametrize(("family", "field"), CASES)
def test_a_field_changes_what_it_changes_upstream(family, field):
    change = (family, head_of(family, field), field, FIELDS[family][field])
    theirs, own = effects(Theirs, *change), OWN.get((family, field))
    assert effects(Ours, *change) == (own or theirs)
    assert written(family, field) == (f"{own} (upstream: {theirs})" if own else theirs)


@pytest.mark.parametrize(("family", "field"), [case for case in CASES if case not in FAILS_UPSTREAM])
def test_the_same_answers_with_a_changed_field(family, field, tmp_path):
    head = head_of(family, field)
    with changed_sizes(family, {field: FIELDS[family][field]}):
        inputs, labels = training_example(head)
        reference = reference_model(head)
    reference.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = dict(reference(**to_torch(inputs | labels)))
    expected.pop(NOT_ANSWERED.get((family, field)), None)
    outputs = getattr(tfvl, head).from_pretrained(tmp_path)(inputs | labels)
    for name, difference in differences({name: outputs[name] for name in expected}, expected).items():
        assert difference < TOLERANCE, name


@pytest.mark.parametrize("family", FIELDS)
def test_no_field_is_left_out(family):
    for package, others in ((transformers, NOT_OF_A_MODEL), (tfvl, NOT_OF_A_MODEL | {"extra"})):
        names = {field.name for field in dataclasses.fields(getattr(package, f"{family}Config"))}
        assert names - others <= FIELDS[family].keys()
