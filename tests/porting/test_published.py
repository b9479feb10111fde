"""The published checkpoints, name for name: `uclanlp/visualbert-*` and `unc-nlp/lxmert-*-uncased`, but 24 wide.

Names and shapes are those of transformers' state dicts, with what each repository's files hold beyond them; the
configurations say what theirs say. Each is loaded with its own class and with every other one of its family.
"""

import json
import warnings

import numpy as np
import pytest
from support.originals import write_torch
from support.paths import GOLDEN

import tfvl
from tfvl.errors import CheckpointError
from tfvl.porting import hub

WORDS = {"visual_bert": "visual_bert.embeddings.word_embeddings.weight"}
WORDS["lxmert"] = "lxmert.embeddings.word_embeddings.weight"

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


def visual_bert(architecture: str, features: int, labels: int | None = None, scores: int | None = None) -> dict:
    """`pad_token_id` 1 and the other ids are upstream's defaults; labels stand in `id2label` only, if beyond two."""
    config = {
        "architectures": [architecture],
        "model_type": "visual_bert",
        "transformers_version": "4.6.0.dev0",
        **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        **{"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
        **{"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 37},
        **{"visual_embedding_dim": features, "bypass_transformer": False, "special_visual_initialize": True},
        **{"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        **{"initializer_range": 0.02, "layer_norm_eps": 1e-12},
    }
    if labels:
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(labels)}
        config["label2id"] = {f"LABEL_{index}": index for index in range(labels)}
    sizes = {131: 30522, 19: features, 13: 512, 3: 2, 5: scores or labels or 2}
    return {"config": config, "family": "visual_bert", "sizes": sizes, "copies": {"position_ids", "decoder.bias"}}


def lxmert(architecture: str, answers: int) -> dict:
    """No `id2label`; the layer counts a second time, as a dict, which upstream never reads."""
    config = {
        "architectures": [architecture],
        "model_type": "lxmert",
        **{"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
        **{"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 37},
        **{"l_layers": 3, "x_layers": 2, "r_layers": 4},
        "num_hidden_layers": {"cross_encoder": 2, "language": 3, "vision": 4},
        **{"num_qa_labels": answers, "num_object_labels": 1600, "num_attr_labels": 400},
        **{"visual_feat_dim": 2048, "visual_pos_dim": 4, "visual_loss_normalizer": 6.67},
        **{"task_mask_lm": True, "task_matched": True, "task_obj_predict": True, "task_qa": True},
        **{"visual_obj_loss": True, "visual_attr_loss": True, "visual_feat_loss": True},
        **{"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        **{"initializer_range": 0.02, "layer_norm_eps": 1e-12, "return_dict": False, "use_cache": False},
    }
    sizes = {131: 30522, 13: 512, 3: 2, 5: 4, 19: 2048, 11: answers, 9: 1600, 6: 400}
    return {"config": config, "family": "lxmert", "sizes": sizes, "copies": set()}


PRE = "VisualBertForPreTraining"
CHECKPOINTS = {
    "uclanlp/visualbert-vqa": visual_bert("VisualBertForQuestionAnswering", 2048, labels=3129),
    "uclanlp/visualbert-vqa-pre": visual_bert(PRE, 2048),
    "uclanlp/visualbert-vqa-coco-pre": visual_bert(PRE, 2048),
    "uclanlp/visualbert-nlvr2": visual_bert("VisualBertForVisualReasoning", 1024),
    "uclanlp/visualbert-nlvr2-pre": visual_bert(PRE, 1024),
    "uclanlp/visualbert-nlvr2-coco-pre": visual_bert(PRE, 1024),
    "uclanlp/visualbert-vcr": visual_bert("VisualBertForMultipleChoice", 512, scores=1),
    "uclanlp/visualbert-vcr-pre": visual_bert(PRE, 512),
    "uclanlp/visualbert-vcr-coco-pre": visual_bert(PRE, 512),
    "unc-nlp/lxmert-base-uncased": lxmert("LxmertForPreTraining", 9500),
    "unc-nlp/lxmert-vqa-uncased": lxmert("LxmertForQuestionAnswering", 3129),
    "unc-nlp/lxmert-gqa-uncased": lxmert("LxmertForQuestionAnswering", 1842),
}
OWN = {name: checkpoint["config"]["architectures"][0] for name, checkpoint in CHECKPOINTS.items()}
OTHERS = [
    (name, other)
    for name, own in OWN.items()
    for other in HEADS
    if other != own and other.startswith("Lxmert") == own.startswith("Lxmert")
]


def state_of(name: str) -> dict[str, np.ndarray]:
    """The file's tensors by name."""
    checkpoint, architecture = CHECKPOINTS[name], OWN[name]
    shapes = json.loads((GOLDEN / f"{checkpoint['family']}_state_dicts.json").read_text())[architecture]
    if architecture == "VisualBertForMultipleChoice":  # one score for each choice
        shapes |= {"cls.weight": [1, 24], "cls.bias": [1]}
    rng, sizes = np.random.default_rng(0), checkpoint["sizes"]
    state = {
        key: rng.normal(size=[sizes.get(size, size) for size in shape]).astype("f4") for key, shape in shapes.items()
    }
    if "cls.predictions.bias" in state:  # a tied weight lies in PyTorch's files twice
        state["cls.predictions.decoder.weight"] = state[WORDS[checkpoint["family"]]]
    if "decoder.bias" in checkpoint["copies"] and "cls.predictions.bias" in state:
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    if "position_ids" in checkpoint["copies"]:
        state["visual_bert.embeddings.position_ids"] = np.arange(512)[None]
    return state


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A function from a repository's name to a directory with its config.json and pytorch_model.bin, no more."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("repository")
            (made[name] / "config.json").write_text(json.dumps(CHECKPOINTS[name]["config"]))
            write_torch(made[name] / "pytorch_model.bin", state_of(name), legacy=name.startswith("unc"))
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
    (tmp_path / "config.json").write_text(json.dumps(CHECKPOINTS[name]["config"] | {"id2label": own}))
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
