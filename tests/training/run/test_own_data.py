"""`tfvl train` and `tfvl eval` on a file of one's own."""

import importlib.util
import json
import sys

import pytest
import tensorflow as tf
from support import datasets, own_rows
from support.cli import fails
from support.tasks import TINY, processor_of

import tfvl
from tfvl.cli.app import main
from tfvl.training.run.opening import open_run
from tfvl.training.run.settings import RunConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*newly initialised")


@pytest.fixture(autouse=True)
def eager_functions():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def model(tokenizer, tmp_path):
    """Writes a tiny ViLT for question answering with two answers of its own; returns its directory."""
    directory = tmp_path / "model"
    config = tfvl.ViltConfig(**TINY["Vilt"], **tfvl.ViltConfig.answer_fields(("up", "down")))
    tfvl.ViltForQuestionAnswering(config).save_pretrained(directory)
    processor_of("Vilt", tokenizer).save_pretrained(directory)
    return directory


def train(data, model, out, *more) -> int:
    options = ("--task", "vqa", "--data", data, "--model", model, "--out", out, "--epochs", 1, "--batch-size", 4)
    return main(["train", *map(str, (*options, *more))])


def test_from_a_csv_to_a_metric(model, tmp_path, capsys):
    path, out = own_rows.write_own(tmp_path / "data", own_rows.rows(24)), tmp_path / "out"
    assert train(path, model, out) == 0
    trained, _ = tfvl.auto.load(out / "last")
    assert set(trained.config.id2label.values()) == set(own_rows.ANSWERS)  # not those of the model
    assert "val_accuracy" in (out / "history.csv").read_text()
    capsys.readouterr()
    predictions = tmp_path / "predictions.json"
    arguments = ["eval", "--json", "--task", "vqa", "--data", path, "--model", out / "last", "--out", predictions]
    assert main(list(map(str, arguments))) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["examples"] == 2  # a tenth of twelve images, which have two rows each
    assert document["metrics"].keys() == {"accuracy"}
    assert len(json.loads(predictions.read_text())) == 2
    assert main(list(map(str, [*arguments, "--split", "all"]))) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 24
    # the same command goes on, and another validation would be another run
    assert train(path, model, out) == 0
    capsys.readouterr()
    assert "validation_share" in fails(capsys, *train_arguments(path, model, out, tmp_path))


def train_arguments(path, model, out, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("validation_share: 0.5\n")
    options = ("--task", "vqa", "--data", path, "--model", model, "--out", out, "--epochs", 1, "--batch-size", 4)
    return ("train", *options, "--config", config)


def test_the_models_own_order_of_the_same_answers_stays(model, tmp_path):
    listed = [row | {"answer": ("down", "up")[number % 2]} for number, row in enumerate(own_rows.rows(8))]
    path = own_rows.write_own(tmp_path / "data", listed)
    run = RunConfig(task="vqa", data=str(path), model=str(model), batch_size=2)
    opened = open_run(run)
    assert list(opened.model.config.answer_names) == ["up", "down"]


def test_a_folder_and_splits_in_a_column(model, tmp_path):
    listed = [row | {"split": ("train", "val")[number % 4 == 3]} for number, row in enumerate(own_rows.rows(12))]
    own_rows.write_own(tmp_path / "data", listed)
    opened = open_run(RunConfig(task="vqa", data=str(tmp_path / "data"), model=str(model), batch_size=2))
    assert [len(pipeline.loader.examples) for pipeline in (opened.training, opened.validation)] == [9, 3]


def test_without_validation_all_rows_are_for_training(model, tmp_path):
    path = own_rows.write_own(tmp_path / "data")
    run = RunConfig(task="vqa", data=str(path), model=str(model), batch_size=2, validation_split="none")
    assert len(open_run(run).training.loader.examples) == 12


def test_regions_under_the_images_names(tokenizer, tmp_path):
    path = own_rows.write_own(tmp_path / "data")
    directory = tmp_path / "model"
    tfvl.LxmertForQuestionAnswering(tfvl.LxmertConfig(**TINY["Lxmert"])).save_pretrained(directory)
    processor_of("Lxmert", tokenizer).save_pretrained(directory)
    run = RunConfig(task="vqa", data=str(path), model=str(directory), batch_size=2)
    with pytest.raises(ValueError, match=r"has no file of regions.*tfvl regions IMAGES"):
        open_run(run)
    names = [str(number) for number in range(6)]  # as `tfvl regions` calls photos/0.jpg
    datasets.write_regions(tmp_path / "data" / "regions.h5", names).close()
    assert len(open_run(run).training.loader.examples) == 10


def test_mistakes(model, tmp_path, capsys):
    path = own_rows.write_own(tmp_path / "data")
    common = ("--model", model, "--out", tmp_path / "out")
    line = fails(capsys, "train", "--task", "vqa", "--data", tmp_path / "no.csv", *common)
    assert "there is no file" in line
    line = fails(capsys, "train", "--task", "vqa", "--data", path, "--answer-column", "truth", *common)
    assert "no column 'truth' (say another name by --answer-column); its columns are image, question, answer" in line
    line = fails(capsys, "train", "--task", "gqa", "--data", path, *common)
    assert "'gqa' reads its published files" in line
    path.write_text(path.read_text() + "photos/99.jpg,what?,yes\n")
    assert train(path, model, tmp_path / "out", "--strict") == 2
    assert "there is no image 'photos/99.jpg'" in capsys.readouterr().err


def test_early_stopping_and_the_best_models(model, tmp_path, capsys):
    """The metric stays what it is at a learning rate of 0."""
    path, out, config = own_rows.write_own(tmp_path / "data"), tmp_path / "out", tmp_path / "run.yaml"
    config.write_text("early_stopping: 2\nkeep_best: 2\nlearning_rate: 0\nvalidation_steps: 1\nepochs: 9\n")
    options = ("--task", "vqa", "--data", path, "--model", model, "--out", out, "--config", config, "--batch-size", 5)
    assert main(list(map(str, ("train", *options)))) == 0
    shown = capsys.readouterr()
    assert "stopped early after step 3: 2 validations without a better accuracy" in shown.out + shown.err
    assert {path.name for path in out.glob("best*")} == {"best", "best-1", "best-2"}
    assert main(list(map(str, ("train", *options)))) == 0
    assert "finished after 3 steps" in "".join(capsys.readouterr())


def test_a_missing_library_is_found_before_the_work(model, tmp_path, capsys, monkeypatch):
    """Published files are read with ijson; a table of one's own is not."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ijson" else real(name))
    monkeypatch.delitem(sys.modules, "ijson", raising=False)
    datasets.write_vqa(tmp_path / "vqa")
    options = ("--model", model, "--out", tmp_path / "out")
    line = fails(capsys, "train", "--task", "vqa", "--data", tmp_path / "vqa", *options)
    assert "pip install ijson" in line
    assert not (tmp_path / "out").exists()
    path = own_rows.write_own(tmp_path / "data")
    assert len(open_run(RunConfig(task="vqa", data=str(path), model=str(model), batch_size=2)).training.loader.examples)
