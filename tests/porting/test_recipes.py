"""Each fine-tuning recipe of the three papers starts from the checkpoint that the paper starts from.

ViLT: section 4.2 (VQA, NLVR2, retrieval). VisualBERT: sections 3.3 and 4 (VQA, VCR, NLVR2, Flickr30k, after the two
phases of pre-training). LXMERT: section 3.3 (VQA, GQA).
"""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from support import datasets
from support.published import family_of, state_of, write_repository
from support.tasks import SOURCES, processor_of

import tfvl
from tfvl.training.run.opening import open_run
from tfvl.training.run.settings import RunConfig
from tfvl.training.run.trainer import train

MLM, ITM = "dandelin/vilt-b32-mlm", "dandelin/vilt-b32-mlm-itm"
PAIR = {"num_images": 2, "modality_type_vocab_size": 3}
QA, NLVR2, VCR = "VisualBertForQuestionAnswering", "VisualBertForVisualReasoning", "VisualBertForMultipleChoice"
PHRASES, LXMERT = "VisualBertForRegionToPhraseAlignment", "unc-nlp/lxmert-base-uncased"
# checkpoint, class, task, what `from_pretrained` is told, beginnings of the variables that start anew
ROWS = [
    (MLM, "ViltForQuestionAnswering", "vqa", {"num_labels": 5}, {"classifier"}),
    (ITM, "ViltForQuestionAnswering", "vqa", {"num_labels": 5}, {"classifier"}),
    (MLM, "ViltForImagesAndTextClassification", "nlvr2", PAIR, {"classifier"}),
    (ITM, "ViltForImagesAndTextClassification", "nlvr2", PAIR, {"classifier"}),
    (MLM, "ViltForImageAndTextRetrieval", "retrieval", {}, {"rank_output"}),
    (ITM, "ViltForImageAndTextRetrieval", "retrieval", {}, set()),
    ("uclanlp/visualbert-vqa-pre", QA, "vqa", {"num_labels": 5}, {"cls"}),
    ("uclanlp/visualbert-vqa-coco-pre", QA, "vqa", {"num_labels": 5}, {"cls"}),
    ("uclanlp/visualbert-vqa-coco-pre", "VisualBertForPreTraining", "pretraining", {}, set()),
    ("uclanlp/visualbert-vqa-coco-pre", PHRASES, "entities", {}, {"attention"}),
    ("uclanlp/visualbert-nlvr2-pre", NLVR2, "nlvr2", {}, {"cls"}),
    ("uclanlp/visualbert-nlvr2-coco-pre", NLVR2, "nlvr2", {}, {"cls"}),
    ("uclanlp/visualbert-vcr-pre", VCR, "vcr-answer", {}, {"cls"}),
    ("uclanlp/visualbert-vcr-coco-pre", VCR, "vcr-rationale", {}, {"cls"}),
    (LXMERT, "LxmertForQuestionAnswering", "vqa", {"num_labels": 5}, {"answer_head/out"}),
    (LXMERT, "LxmertForQuestionAnswering", "gqa", {"num_qa_labels": 5}, {"answer_head/out"}),
]
IDS = [f"{name.partition('/')[2]}-{task}" for name, _, task, _, _ in ROWS]
# one checkpoint for each class and task; the others of a class differ only in what `from_pretrained` says of them
TRAINED = list({(head, task, *sorted(new)): place for place, (_, head, task, _, new) in enumerate(ROWS)}.values())
WORDS = "word_embeddings/embeddings"
TYPES = "vilt/embeddings/token_type_embeddings/embeddings"


trained = pytest.mark.parametrize(
    ("name", "head", "task", "options", "new"),
    [ROWS[place] for place in TRAINED],
    ids=[IDS[place] for place in TRAINED],
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Returns a function from a repository's name to a directory with its files, and those of its processor."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("repository")
            features = None if family_of(name) == "vilt" else datasets.FEATURE_SIZE
            write_repository(made[name], name, features)
            model = {"vilt": "Vilt", "visual_bert": "VisualBert", "lxmert": "Lxmert"}[family_of(name)]
            tokenizer = tfvl.BertTokenizer.from_pretrained("bert-base-uncased", model_max_length=40)
            processor_of(model, tokenizer).save_pretrained(made[name])
        return made[name]

    return get


def assert_started(model, name: str, new: set[str]) -> None:
    """Asserts that the words are the checkpoint's, and the second image's type is a copy of the first's."""
    weights, state = model.weight_names(), state_of(name)
    words = next(path for path in weights if path.endswith(WORDS))
    source = next(key for key in state if key.endswith("word_embeddings.weight"))
    np.testing.assert_array_equal(weights[words], state[source])
    if TYPES in weights:
        table = weights[TYPES].numpy()
        np.testing.assert_array_equal(table[:2], state["vilt.embeddings.token_type_embeddings.weight"])
        assert len(table) == 3 if "ImagesAndText" in type(model).__name__ else 2
        np.testing.assert_array_equal(table[1], table[-1])
    if "rank_output/kernel" in weights and not new:  # "they match" (section 4.2)
        np.testing.assert_array_equal(weights["rank_output/kernel"][:, 0], state["itm_score.fc.weight"][1])


@pytest.mark.parametrize(("name", "head", "task", "options", "new"), ROWS, ids=IDS)
def test_from_pretrained(name, head, task, options, new, repository):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = getattr(tfvl, head).from_pretrained(repository(name), ignore_mismatched_sizes=True, **options)
    said = [str(warning.message) for warning in caught if str(repository(name)) in str(warning.message)]
    anew = said[0].partition(" has no weights for ")[2].partition(f" of {head}")[0].split(", ") if new else []
    assert set(anew) == {path for path in model.weight_names() if path.startswith(tuple(new)) and new}
    assert len(said) <= 1
    assert_started(model, name, new)


@trained
def test_train_opens(name, head, task, options, new, repository, tmp_path):
    """What `tfvl train --task … --model <checkpoint>` trains, without a word about the configuration."""
    split = write_data(task, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is new, see above
        opened = open_run(run_of(task, repository(name), tmp_path, split))
    model = opened.model
    assert type(model).__name__ == head
    assert_started(model, name, new)
    inputs, *_ = next(iter(opened.training.dataset()))
    outputs = model(inputs)
    assert all(np.isfinite(value).all() for value in tf.nest.flatten(outputs))


@trained
def test_train_makes_a_step(name, head, task, options, new, repository, tmp_path, recwarn):
    """And saves a model of the class, whose words have moved."""
    split = write_data(task, tmp_path)
    tf.config.run_functions_eagerly(True)
    try:
        train(run_of(task, repository(name), tmp_path, split, steps=1), tmp_path / "out")
    finally:
        tf.config.run_functions_eagerly(False)
    saved = getattr(tfvl, head).from_pretrained(tmp_path / "out" / "last")
    weights, words = saved.weight_names(), [path for path in saved.weight_names() if path.endswith(WORDS)]
    before = next(value for key, value in state_of(name).items() if key.endswith("word_embeddings.weight"))
    assert np.abs(weights[words[0]] - before).max() > 0
    if head == "ViltForImagesAndTextClassification":
        assert (saved.config.num_images, saved.config.modality_type_vocab_size) == (2, 3)
        said = [str(warning.message) for warning in recwarn]
        assert any("token_type_embeddings/embeddings from (2, 24) to (3, 24)" in message for message in said)


def write_data(task: str, root) -> str:
    split, write, names = SOURCES[task]
    write(root)
    datasets.write_images(root / "images", names)
    datasets.write_regions(root / "regions.h5", names).close()
    return split


def run_of(task: str, model, data, split: str, **more) -> RunConfig:
    few = {"min_answers": 1, "batch_size": 2, "train_split": split, "validation_split": "none"}
    return RunConfig(task=task, data=str(data), model=str(model), **few | more)
