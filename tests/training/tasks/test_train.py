"""Every task trains, from the files as published to a model with its metric; the models take turns."""

import pytest
import tensorflow as tf
from support import datasets
from support.tasks import SOURCES, TINY, family_of, processor_of

import tfvl
from tfvl.training.run.settings import RunConfig
from tfvl.training.run.trainer import train
from tfvl.training.tasks.table import TASKS

MIXED = ("pretraining-questions", "LxmertForPreTraining")
CASES = [
    ("vqa", "LxmertForQuestionAnswering"),
    ("gqa", "VisualBertForQuestionAnswering"),
    ("nlvr2", "ViltForImagesAndTextClassification"),
    ("retrieval", "ViltForImageAndTextRetrieval"),
    ("vcr-rationale", "VisualBertForMultipleChoice"),
    ("entities", "VisualBertForRegionToPhraseAlignment"),
    ("pretraining", "ViltForMaskedLM"),
    MIXED,
]
MEASURED = {  # the columns of the history that the others lack
    "retrieval": "val_image@1",
    "entities": "val_recall@1",
    "pretraining": "val_loss",
    "pretraining-questions": "val_answer_accuracy",
}


@pytest.fixture(autouse=True)
def eager_functions():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def write_task(task: str, root) -> str:
    """Writes the files, pictures and regions of a task; returns the name of its split."""
    if task == MIXED[0]:
        datasets.write_karpathy(root)
        datasets.write_vqa(root)
        split, names = "train", [*datasets.karpathy_images(), *datasets.vqa_images()]
    else:
        split, write, names = SOURCES[task]
        write(root)
        datasets.write_images(root / "images", names)
    datasets.write_regions(root / "regions.h5", names).close()
    return split


def write_model(task: str, name: str, tokenizer, directory) -> None:
    """Writes a configuration and the processor's files, without weights."""
    family = family_of(name)
    processor_of(name, tokenizer).save_pretrained(directory)
    config = TINY[family] | ({"task_qa": task == MIXED[0]} if family == "Lxmert" else {})
    getattr(tfvl, name).config_class(**config).save_pretrained(directory)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name"), CASES)
def test_trains(task, name, tokenizer, tmp_path):
    split = write_task(task, tmp_path / "data")
    write_model(task, name, tokenizer, tmp_path / "model")
    run = RunConfig(
        task=task,
        data=str(tmp_path / "data"),
        model=str(tmp_path / "model"),
        model_class=name,
        from_scratch=True,
        train_split=split,
        validation_split=split,
        min_answers=1,
        steps=1,
        batch_size=2,
        strict=True,
    )
    state = train(run, tmp_path / "out")
    (row,) = state["rows"]
    assert row["loss"] > 0
    assert row.keys() >= {"learning_rate", MEASURED.get(task, "val_accuracy")}
    assert state["best"]["step"] == 1
    model, _ = tfvl.auto.load(tmp_path / "out" / "last")
    assert type(model).__name__ == name
    if TASKS[task].answers:
        assert "LABEL_0" not in model.config.id2label.values()
