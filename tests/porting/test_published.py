"""The published checkpoints, name for name: `uclanlp/visualbert-*` and `unc-nlp/lxmert-*-uncased`, but 24 wide.

Names and shapes are those of transformers' state dicts, with what each repository's files hold beyond them; the
configurations say what theirs say. Each is loaded with its own class and with every other one of its family.
"""

import json
import warnings

import numpy as np
import pytest
from support.published import CHECKPOINTS, WORDS, config_of, state_of, write_repository

import tfvl
from tfvl.errors import CheckpointError
from tfvl.porting import hub

# What each class has beside the body, as a file's names begin.
BERT_HEADS = {"cls.predictions", "cls.seq_relationship"}
HEADS = {
    "VisualBertModel": set(),
    "VisualBertForPreTraining": BERT_HEADS,
    "VisualBertForQuestionAnswering": {"cls.weight"},
    "VisualBertForVisualReasoning": {"cls.weight"},
    "VisualBertForMultipleChoice": {"cls.weight"},
    "VisualBertForRegionToPhraseAlignment": BERT_HEADS | {"attention"},
    "LxmertModel": set(),
    "LxmertForPreTraining": BERT_HEADS | {"obj_predict_head", "answer_head"},
    "LxmertForQuestionAnswering": {"answer_head"},
}
# where each head's variables are
TARGETS = {
    "cls.predictions": "predictions/",
    "cls.seq_relationship": "seq_relationship/",
    "cls.weight": "cls/",
    "attention": "attention/",
    "obj_predict_head": "obj_predict_head/",
    "answer_head": "answer_head/",
}

OWN = {name: checkpoint["config"]["architectures"][0] for name, checkpoint in CHECKPOINTS.items()}
OTHERS = [
    (name, other)
    for name, own in OWN.items()
    for other in HEADS
    if other != own and other.startswith("Lxmert") == own.startswith("Lxmert")
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Returns a function from a repository's name to a directory with only its config.json and pytorch_model.bin."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = write_repository(tmp_path_factory.mktemp("repository"), name)
        return made[name]

    return get


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_with_its_own_class(name, directory):
    """Nothing is missing, nothing left out, and the weights are the file's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = getattr(tfvl, OWN[name]).from_pretrained(directory(name))
    assert model.config.tie_word_embeddings
    state, family = state_of(name), CHECKPOINTS[name]["family"]
    weights = model.weight_names()
    words = next(path for path in weights if path.endswith("word_embeddings/embeddings"))
    np.testing.assert_array_equal(weights[words].numpy(), state[WORDS[family]])
    for head in HEADS[OWN[name]] & {"cls.predictions", "answer_head"}:
        source = {"cls.predictions": "cls.predictions.bias", "answer_head": "answer_head.logit_fc.3.bias"}[head]
        target = {"cls.predictions": "predictions/bias", "answer_head": "answer_head/out/bias"}[head]
        np.testing.assert_array_equal(weights[target].numpy(), state[source])


@pytest.mark.parametrize(("name", "other"), OTHERS)
def test_with_another_class(name, other, directory):
    """One warning names the head that is new and every tensor of the heads that are left out; or the shape is wrong."""
    model_class, held = getattr(tfvl, other), HEADS[OWN[name]]
    scores = {"VisualBertForMultipleChoice": 1}
    if "cls.weight" in held & HEADS[other] and scores.get(other) != scores.get(OWN[name]):
        with pytest.raises(CheckpointError, match=r"shape: cls\.weight is .* the variable cls/kernel needs"):
            model_class.from_pretrained(directory(name))
        with pytest.warns(UserWarning, match=r"no weights for cls/bias, cls/kernel .*newly initialised"):
            model_class.from_pretrained(directory(name), ignore_mismatched_sizes=True)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = model_class.from_pretrained(directory(name))
    messages = [str(warning.message) for warning in caught if str(directory(name)) in str(warning.message)]
    new, unread = HEADS[other] - held, held - HEADS[other]
    assert len(messages) == bool(new | unread)
    message = "".join(messages)
    initialised = {path for path in model.weight_names() if path.startswith(tuple(TARGETS[head] for head in new))}
    assert all(path in message for path in initialised)
    assert ("newly initialised" in message) == bool(new)
    left = {key for key in state_of(name) if key.removesuffix("bias").startswith(tuple(unread)) and unread}
    left -= {"cls.predictions.decoder.weight"}  # the same as the word embeddings, which are read
    assert all(key in message for key in left)
    assert ("left out" in message) == bool(unread)


def test_fine_tuning_from_a_pretrained_checkpoint(directory):
    path = directory("uclanlp/visualbert-nlvr2-coco-pre")
    with pytest.warns(UserWarning, match=r"no weights for cls/bias, cls/kernel of VisualBertForQuestionAnswering") as w:
        model = tfvl.VisualBertForQuestionAnswering.from_pretrained(path, num_labels=3129)
    assert len(w) == 1
    assert model.config.id2label[3128] == "LABEL_3128"  # a new head: its answers are not those of a published one
    with pytest.warns(UserWarning, match=r"no weights for answer_head/out/bias, answer_head/out/kernel"):
        model = tfvl.LxmertForQuestionAnswering.from_pretrained(
            directory("unc-nlp/lxmert-base-uncased"), num_qa_labels=3129, ignore_mismatched_sizes=True
        )
    assert model.config.num_labels == model.config.num_qa_labels == 3129


@pytest.mark.parametrize(
    ("name", "first", "some"),
    [
        ("uclanlp/visualbert-vqa", ["<unk>", "0", "000", "1"], {3124: "zebras", 3128: "zucchini"}),
        ("unc-nlp/lxmert-vqa-uncased", ["", "woods", "trash can", "hanging"], {}),
        ("unc-nlp/lxmert-gqa-uncased", ["cat food", "elephant", "gloves"], {}),
    ],
)
def test_answers_have_names(name, first, some, directory, tmp_path):
    model = getattr(tfvl, OWN[name]).from_pretrained(directory(name))
    labels = model.config.id2label
    assert len(labels) == model.config.num_labels == CHECKPOINTS[name]["sizes"].get(11, 3129)
    assert [labels[index] for index in range(len(first))] == first
    assert {index: labels[index] for index in some} == some
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert list(saved["id2label"].values()) == list(labels.values())
    assert getattr(tfvl, OWN[name]).from_pretrained(tmp_path).config.id2label == labels


def test_a_configurations_own_answers_win(directory, tmp_path):
    name = "unc-nlp/lxmert-gqa-uncased"
    own = {str(index): f"answer {index}" for index in range(1842)}
    (tmp_path / "config.json").write_text(json.dumps(config_of(name, id2label=own)))
    (tmp_path / "pytorch_model.bin").symlink_to(directory(name) / "pytorch_model.bin")
    assert tfvl.LxmertForQuestionAnswering.from_pretrained(tmp_path).config.id2label[7] == "answer 7"
    config = tfvl.LxmertConfig.from_pretrained(directory(name))
    model = tfvl.LxmertForQuestionAnswering.from_pretrained(directory(name), config=config)
    assert model.config.num_labels == 1842
    assert model.config.id2label[7] == "LABEL_7"  # a configuration that the caller gives is taken as it is


@pytest.mark.parametrize("name", ["uclanlp/visualbert-vcr", "unc-nlp/lxmert-vqa-uncased"])
def test_the_vocabulary_is_berts_where_there_is_none(name, directory):
    assert hub.tokenizer_directory(directory(name)) == hub.BUNDLED_DIRECTORY / "bert-base-uncased"
    ids = tfvl.BertTokenizer.from_pretrained(hub.tokenizer_directory(directory(name)))("a cat")["input_ids"]
    np.testing.assert_array_equal(ids, [[101, 1037, 4937, 102]])
