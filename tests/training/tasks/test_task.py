"""Every task: which models do it, what it opens and measures, and batches for each of its models' heads."""

import numpy as np
import pytest
import tensorflow as tf
from support import datasets
from support.tasks import LOSS_TOLERANCE, SOURCES, make_loader, tiny_head

from tfvl.training.data.examples import Example
from tfvl.training.data.images import ImageFolder
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan
from tfvl.training.tasks.table import TASKS, task_named

CASES = [(task, name) for task in SOURCES for name in TASKS[task].models]

SPLITS = {
    "vqa": ("train", datasets.write_vqa, 24),
    "gqa": ("train_balanced", datasets.write_gqa, 6),
    "nlvr2": ("dev", datasets.write_nlvr2, 8),
    "retrieval": ("val", datasets.write_karpathy, 5),
    "vcr-answer": ("val", datasets.write_vcr, 6),
    "vcr-rationale": ("val", datasets.write_vcr, 6),
    "entities": ("val", datasets.write_entities, 4),
    "pretraining": ("train", datasets.write_karpathy, 50),
}


ANSWERING = ["ViltForQuestionAnswering", "VisualBertForQuestionAnswering", "LxmertForQuestionAnswering"]
MODELS = {
    "vqa": ANSWERING,
    "gqa": ANSWERING,
    "shapes": ANSWERING,
    "nlvr2": ["ViltForImagesAndTextClassification", "VisualBertForVisualReasoning"],
    "retrieval": ["ViltForImageAndTextRetrieval"],
    "vcr-answer": ["VisualBertForMultipleChoice"],
    "vcr-rationale": ["VisualBertForMultipleChoice"],
    "entities": ["VisualBertForRegionToPhraseAlignment"],
    "pretraining": ["ViltForMaskedLM", "ViltForPreTraining", "VisualBertForPreTraining", "LxmertForPreTraining"],
    "pretraining-questions": ["LxmertForPreTraining"],
    "tokens": ["ViltForTokenClassification"],
}


def test_models_are_chosen_by_the_kind_of_their_answer():
    assert {name: list(task.models) for name, task in TASKS.items()} == MODELS
    assert all(model.__name__ == name for task in TASKS.values() for name, model in task.models.items())


# --- examples and metrics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SPLITS)
def test_every_task_opens_its_files(task, tmp_path):
    split, write, count = SPLITS[task]
    write(tmp_path)
    assert len(TASKS[task].examples(tmp_path, split, strict=True)) == count


def test_missing_images_and_unknown_answers_are_skipped_or_refused(tmp_path):
    datasets.write_vqa(tmp_path)
    folder = ImageFolder(datasets.write_images(tmp_path / "images", datasets.vqa_images()[:-2]))
    label2id = {"yes": 0, "no": 1, "2": 2, "red": 3}
    examples = TASKS["vqa"].examples(tmp_path, "train", images=folder, label2id=label2id)
    # 4 questions about the last 2 images; of the other 20 those of "blue" (4, 9, 14, 19)
    assert examples.report.counts == {"missing images": 4, "answers outside the vocabulary": 4}
    assert len(examples) == 16
    with pytest.raises(ValueError, match=r"example 11004: no answer has a class \(it has blue, odd 4"):
        TASKS["vqa"].examples(tmp_path, "train", images=folder, label2id=label2id, strict=True)
    with pytest.raises(ValueError, match="example 19020: there is no image 'COCO_train2014_000000000019'"):
        TASKS["vqa"].examples(tmp_path, "train", images=folder, strict=True)


def test_tasks_and_files_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="there is no task 'caption'; there are vqa, gqa"):
        task_named("caption")
    with pytest.raises(ValueError, match=r"has 0 files like \*train2\*questions\.json; expected one"):
        TASKS["vqa"].examples(tmp_path, "train")
    datasets.write_vqa(tmp_path / "a")
    datasets.write_vqa(tmp_path / "b")
    with pytest.raises(ValueError, match="has 2 files like"):
        TASKS["vqa"].examples(tmp_path, "train")


def test_metrics_of_tasks(tmp_path):
    datasets.write_vqa(tmp_path)
    examples = TASKS["vqa"].examples(tmp_path, "train")
    given = [examples[place] for place in range(len(examples))]
    right = TASKS["vqa"].metric([example.answers[0] for example in given], given)
    np.testing.assert_allclose(right["accuracy"], datasets.ALL_RIGHT)
    assert set(right) == {"accuracy", "accuracy/other", "accuracy/yes/no"}
    captions = [Example(str(number), (f"image {number // 2}",), "text") for number in range(4)]
    assert TASKS["retrieval"].metric(np.array([[3.0, 2, 1, 0], [0, 1, 2, 3]]), captions)["image@1"] == 1.0
    choices = [Example(str(number), ("a",), "b", label=number) for number in range(2)]
    assert TASKS["vcr-answer"].metric([0, 0], choices) == {"accuracy": 0.5}


# --- every task, every model ----------------------------------------------------------------------------------------


def head_and_batches(data_sets, tokenizer, task, model):
    loader = make_loader(data_sets, tokenizer, task, model, strict=True)
    dataset = BatchPipeline(loader, BatchPlan(len(loader.examples), 2)).dataset()
    head = tiny_head(model)
    head.compile()
    return head, dataset


def loss_of(head, batch):
    inputs, labels, weights = batch
    return head.compute_loss(y=labels, y_pred=head(inputs, training=False), sample_weight=weights)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_head_takes_its_batches(task, model, data_sets, tokenizer):
    """From Python, and in a graph that was traced for all of them."""
    head, dataset = head_and_batches(data_sets, tokenizer, task, model)
    graph = tf.function(lambda batch: loss_of(head, batch), input_signature=[dataset.element_spec])
    batches = list(dataset.take(2))
    first, second = (float(loss_of(head, batch)) for batch in batches)
    assert np.isfinite([first, second]).all()
    assert min(first, second) > 0
    assert first != second
    np.testing.assert_allclose([graph(batch) for batch in batches], [first, second], **LOSS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model"), [("vqa", "ViltForQuestionAnswering"), ("pretraining", "LxmertForPreTraining")]
)
def test_fit(task, model, data_sets, tokenizer):
    head, dataset = head_and_batches(data_sets, tokenizer, task, model)
    history = head.fit(dataset, verbose=0, shuffle=False).history
    assert np.isfinite([values[-1] for values in history.values()]).all()
    assert history["loss"][0] > 0


@pytest.mark.parametrize(
    ("task", "model", "expected"),
    [
        ("vqa", "ViltForQuestionAnswering", {"pixel_values": [2, None, None, 3], "labels": [2, 5]}),
        (
            "nlvr2",
            "ViltForImagesAndTextClassification",
            {"pixel_values": [2, 2, None, None, 3], "pixel_mask": [2, 2, None, None], "labels": [2]},
        ),
        ("nlvr2", "VisualBertForVisualReasoning", {"visual_embeds": [2, None, datasets.FEATURE_SIZE], "labels": [2]}),
        ("retrieval", "ViltForImageAndTextRetrieval", {"input_ids": [2, 16, None], "labels": [2]}),
        ("vcr-answer", "VisualBertForMultipleChoice", {"input_ids": [2, 4, None], "labels": [2]}),
        ("entities", "VisualBertForRegionToPhraseAlignment", {"labels": [2, None, None]}),
        ("pretraining", "ViltForMaskedLM", {"input_ids": [2, None], "labels": [2, None]}),
        ("pretraining", "ViltForPreTraining", {"labels/labels": [2, None], "labels/matched_label": [2]}),
        ("pretraining", "VisualBertForPreTraining", {"labels/labels": [2, None], "labels/sentence_image_labels": [2]}),
        (
            "pretraining",
            "LxmertForPreTraining",
            {
                "visual_pos": [2, None, 4],
                "labels/obj_labels/obj/0": [2, None],
                "labels/obj_labels/attr/1": [2, None],
                "labels/obj_labels/feat/0": [2, None, datasets.FEATURE_SIZE],
                "labels/obj_labels/feat/1": [2, None],
            },
        ),
    ],
)
def test_known_sizes(task, model, expected, data_sets, tokenizer):
    """Graphs are traced with what is the same in all batches, and nothing else."""
    loader = make_loader(data_sets, tokenizer, task, model)
    inputs, labels, _ = BatchPipeline(loader, BatchPlan(len(loader.examples), 2)).spec
    for path, shape in expected.items():
        value = inputs | {"labels": labels}
        for name in path.split("/"):
            value = value[int(name) if isinstance(value, tuple) else name]
        assert value.shape.as_list() == shape, path
