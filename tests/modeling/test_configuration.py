"""The configuration: what it accepts, what it refuses and how, and what it writes back."""

import json

import pytest

import tfvl
from tfvl.errors import CheckpointError
from tfvl.layers.activations import ACTIVATIONS


def test_defaults_are_those_of_the_base_checkpoint():
    config = tfvl.ViltConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (768, 12, 40)
    assert config.grid == (12, 12)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


def test_labels_define_their_number():
    config = tfvl.ViltConfig(id2label={"0": "no", "1": "yes", "2": "2"})
    assert config.num_labels == 3
    assert config.label2id == {"no": 0, "yes": 1, "2": 2}
    assert tfvl.ViltConfig(num_labels=4).id2label[3] == "LABEL_3"


def test_a_new_number_of_labels_drops_the_names_and_the_old_number_keeps_them():
    config = tfvl.ViltConfig(id2label={0: "no", 1: "yes"})
    assert config.replace(num_labels=2).id2label == {0: "no", 1: "yes"}
    assert config.replace(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    labels = {0: "a", 1: "b", 2: "c"}
    assert config.replace(id2label=labels, label2id={"a": 0, "b": 1, "c": 2}, num_labels=3).id2label == labels


@pytest.mark.parametrize("name", ["ViltConfig", "VisualBertConfig", "LxmertConfig"])
def test_answers_are_named_where_there_are_as_many_labels(name):
    """LXMERT counts them apart from its labels."""
    config = getattr(tfvl, name)()
    answers = ("no", "yes", "2")
    named = config.replace(**config.answer_fields(answers))
    assert named.answer_names == tuple(named.id2label.values()) == answers
    assert config.answer_names == tuple(f"LABEL_{number}" for number in range(9500 if "Lxmert" in name else 2))


def test_labels_by_name():
    """`label2id` alone names the classes; it is made once, not at each access."""
    config = tfvl.ViltConfig(label2id={"no": 0, "yes": 1}, problem_type="single_label_classification")
    assert config.id2label == {0: "no", 1: "yes"}
    assert config.num_labels == 2
    assert config.label2id is config.label2id
    assert config.replace(label2id={"a": 0, "b": 1, "c": 2}).id2label == {0: "a", 1: "b", 2: "c"}
    assert tfvl.ViltConfig(id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}) == tfvl.ViltConfig(
        id2label={0: "no", 1: "yes"}
    )
    assert tfvl.ViltConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["problem_type"] == "single_label_classification"


# ── LXMERT: as many labels as answers, whichever is given ───────────────────────────────────────────────────────────

THREE = {0: "a", 1: "b", 2: "c"}
GIVEN = {
    "num_labels": {"num_labels": 3},
    "num_qa_labels": {"num_qa_labels": 3},
    "id2label": {"id2label": THREE},
    "label2id": {"label2id": {"a": 0, "b": 1, "c": 2}},
    "two of them": {"num_labels": 3, "num_qa_labels": 3},
    "all of them": {"num_labels": 3, "num_qa_labels": 3, "id2label": THREE, "label2id": {"a": 0, "b": 1, "c": 2}},
}


@pytest.mark.parametrize("given", GIVEN)
def test_answers_and_labels_agree(given):
    """Of a new configuration, and of one that had others."""
    old = tfvl.LxmertConfig(id2label={0: "no", 1: "yes"})
    for config in (tfvl.LxmertConfig(**GIVEN[given]), old.replace(**GIVEN[given])):
        assert config.num_labels == config.num_qa_labels == len(config.id2label) == len(config.label2id) == 3
        named = "id2label" in GIVEN[given] or "label2id" in GIVEN[given]
        assert config.id2label == (THREE if named else {i: f"LABEL_{i}" for i in range(3)})
        assert tfvl.LxmertConfig.from_dict(config.to_dict()) == config


def test_answers_and_labels_that_do_not_agree():
    with pytest.raises(ValueError, match="num_labels is 3 but num_qa_labels is 4; give one of them only"):
        tfvl.LxmertConfig(num_labels=3, num_qa_labels=4)
    with pytest.raises(ValueError, match="num_qa_labels is 4 but there are 3 labels"):
        tfvl.LxmertConfig().replace(id2label=THREE, num_qa_labels=4)
    assert tfvl.LxmertConfig().num_qa_labels == tfvl.LxmertConfig().num_labels == 9500
    kept = tfvl.LxmertConfig(id2label=THREE)
    assert kept.replace(num_qa_labels=3, l_layers=2).id2label == THREE
    assert kept.replace(id2label=None).num_qa_labels == 3


def test_labels_of_upstreams_lxmert_files():
    """Upstream writes two placeholders whatever the number of answers is, and reads no labels; names are kept."""
    config = tfvl.LxmertConfig.from_dict({"num_qa_labels": 7, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    assert config.num_labels == 7
    assert "id2label" not in config.to_dict()
    named = tfvl.LxmertConfig.from_dict({"num_qa_labels": 7, "id2label": THREE})
    assert (named.num_qa_labels, named.id2label) == (7, THREE)
    assert tfvl.LxmertConfig.from_dict({"id2label": THREE, "num_labels": 3}).num_qa_labels == 9500


def test_lxmerts_layers():
    """Upstream's attribute with all three numbers; none may be there but for one of a pair."""
    config = tfvl.LxmertConfig(l_layers=0, r_layers=2, x_layers=1, num_hidden_layers=12)
    assert config.num_hidden_layers == {"language": 0, "vision": 2, "cross_encoder": 1}
    assert config.replace(l_layers=4).num_hidden_layers["language"] == 4
    for name in ("l_layers", "r_layers"):
        with pytest.raises(ValueError, match=f"{name} and x_layers are both 0"):
            tfvl.LxmertConfig(**{name: 0, "x_layers": 0})


def test_a_file_makes_the_round_trip(tmp_path):
    values = {
        "model_type": "vilt",
        "architectures": ["ViltForVisualQuestionAnswering"],
        "hidden_size": 24,
        "num_attention_heads": 4,
        "image_size": [48, 64],
        "patch_size": 8,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "torch_dtype": "float32",
        "transformers_version": "4.12.0.dev0",
        "pad_token_id": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = tfvl.ViltConfig.from_pretrained(tmp_path)
    assert config.grid == (6, 8)
    config.save_pretrained(tmp_path / "again")
    again = tfvl.ViltConfig.from_pretrained(tmp_path / "again")
    assert again == config
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: written[name] for name in values if values[name] is not None} == {
        name: value for name, value in values.items() if value is not None
    }


def test_overrides_come_on_top_of_the_file(tmp_path):
    tfvl.ViltConfig(hidden_size=24, num_attention_heads=4).save_pretrained(tmp_path)
    config = tfvl.ViltConfig.from_pretrained(tmp_path, overrides={"num_labels": 7})
    assert (config.hidden_size, config.num_labels) == (24, 7)


def test_every_activation_is_allowed_and_no_other():
    for name in ACTIVATIONS:
        assert tfvl.ViltConfig(hidden_act=name).hidden_act == name


BAD = {
    "hidden_size is 0, expected an integer in 1": {"hidden_size": 0},
    "hidden_size is 1000000000, expected an integer in 1": {"hidden_size": 10**9},
    "hidden_size is True": {"hidden_size": True},
    "num_hidden_layers is 99999, expected an integer in 0…1024": {"num_hidden_layers": 99999},
    "hidden_size 10 is not a multiple of num_attention_heads 3": {"hidden_size": 10, "num_attention_heads": 3},
    r"hidden_dropout_prob is 1.0, expected a number in \[0, 1\)": {"hidden_dropout_prob": 1.0},
    "layer_norm_eps is nan, expected a finite number": {"layer_norm_eps": float("nan")},
    "hidden_act is 'prelu', expected one of gelu, ": {"hidden_act": "prelu"},
    "num_hidden_layers is -1, expected an integer in 0…1024": {"num_hidden_layers": -1},
    "problem_type is 'ranking', expected one of regression, ": {"problem_type": "ranking"},
    "pad_token_id is 30522, expected one of 30522 words": {"pad_token_id": 30522},
    "pad_token_id is '0', expected an integer": {"pad_token_id": "0"},
    r"hidden_act is \['gelu'\], expected one of": {"hidden_act": ["gelu"]},
    "max_image_length is 0, expected -1 or": {"max_image_length": 0},
    "image_size 16 is smaller than one patch of 32": {"image_size": 16},
    "image_size is 'big', expected an integer": {"image_size": "big"},
    "id2label names classes": {"id2label": {"1": "no", "2": "yes"}},
    "id2label has a key that is no class index": {"id2label": {"x": "no"}},
    "num_labels is 3 but id2label holds 2 labels": {"id2label": {"0": "a", "1": "b"}, "num_labels": 3},
    "architectures is 'ViltModel', expected a list": {"architectures": "ViltModel"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_values_are_named_with_what_was_expected(message):
    with pytest.raises(ValueError, match=message):
        tfvl.ViltConfig(**BAD[message])


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match=r"config\.json is missing; expected a directory in the hub's layout"):
        tfvl.ViltConfig.from_pretrained(tmp_path)
    for content, message in {
        "{": "cannot be read as JSON",
        "[1]": "holds a JSON list, expected an object",
        '{"model_type": "lxmert"}': "model_type is 'lxmert', but ViltConfig reads 'vilt'",
        '{"hidden_size": -4}': "hidden_size is -4, expected an integer",
        "[" * 100_000: "cannot be read as JSON",
    }.items():
        path.write_text(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            tfvl.ViltConfig.from_pretrained(tmp_path)
        assert str(path) in str(caught.value)


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="ViltConfig has no field hiden_size"):
        tfvl.ViltConfig().replace(hiden_size=3)
