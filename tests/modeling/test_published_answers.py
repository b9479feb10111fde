"""The bundled answers of published heads, and what becomes of their names when the number of answers changes."""

import hashlib
import json

import pytest
from support.lxmert import SIZES

import tfvl
from tfvl.modeling.published_answers import LISTS, is_placeholder, with_answers
from tfvl.porting.hub import BUNDLED_DIRECTORY

# of `answers_vqa.txt` from dl.fbaipublicfiles.com/pythia/data, as PaddleNLP's dataset `vqa2` publishes it
MD5_OF_PYTHIAS_FILE = "971cad957919ff2cf1f5f1c70bef4d90"


def answers(name: str) -> list[str]:
    return json.loads((BUNDLED_DIRECTORY / "answers" / f"{name}.json").read_text(encoding="utf-8"))


def test_visual_berts_list_is_pythias_file():
    lines = "".join(f"{answer}\n" for answer in answers("visual_bert_vqa"))
    assert hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest() == MD5_OF_PYTHIAS_FILE


def test_the_two_lists_of_vqa_differ_in_their_order_only():
    lxmert, visual_bert = answers("lxmert_vqa"), answers("visual_bert_vqa")
    assert lxmert != visual_bert
    assert visual_bert[0] == "<unk>"
    assert visual_bert[1:] == sorted(filter(None, lxmert))


@pytest.mark.parametrize(("key", "name"), LISTS.items())
def test_every_list_has_as_many_answers_as_its_head(key, name):
    assert len(answers(name)) == len(set(answers(name))) == key[1]


def test_placeholders_only_are_replaced():
    config = tfvl.VisualBertConfig(num_labels=3129)
    assert is_placeholder(config.answer_names)
    assert with_answers(config, "VisualBertForQuestionAnswering").label2id["yes"] == 3117
    assert with_answers(config, "VisualBertForVisualReasoning") is config
    assert with_answers(config.replace(num_labels=3128), "VisualBertForQuestionAnswering").num_labels == 3128
    named = config.replace(id2label=dict(config.id2label) | {5: "five"})
    assert with_answers(named, "VisualBertForQuestionAnswering") is named


PLACEHOLDERS = {index: f"LABEL_{index}" for index in range(4)}


def test_names_of_resized_answers():
    """Those that stay keep their names; a number given on load is of other answers, which have none yet."""
    names = {index: f"answer {index}" for index in range(SIZES["num_qa_labels"])}
    config = tfvl.LxmertConfig(**SIZES, id2label=names).replace(l_layers=1, x_layers=1, r_layers=1)
    model = tfvl.LxmertForQuestionAnswering(config)
    model.resize_num_qa_labels(13)
    assert model.config.id2label == names | {11: "LABEL_11", 12: "LABEL_12"}
    model.resize_num_qa_labels(4)
    assert model.config.id2label == {index: names[index] for index in range(4)}
    assert config.replace(num_qa_labels=4).id2label == PLACEHOLDERS
    assert config.replace(hidden_dropout_prob=0.0).id2label == names
    plain = tfvl.LxmertForQuestionAnswering(tfvl.LxmertConfig(**SIZES).replace(l_layers=1, x_layers=1, r_layers=1))
    plain.resize_num_qa_labels(4)
    assert plain.config.id2label == PLACEHOLDERS
