"""`tfvl train`: from published files to a model, its card and its curves; settings; and what ends in one sentence."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from safetensors.numpy import load_file
from support.checkpoint import save_tiny
from support.paths import ROOT
from support.runs import history, settings, train_until, write_all

import tfvl
from tfvl import shapes
from tfvl.cli.app import main
from tfvl.modeling.losses import cross_entropy
from tfvl.training.data.pipeline import BatchPipeline
from tfvl.training.run import checkpoint
from tfvl.training.run.guards import LOCK, locked
from tfvl.training.run.history import History, draw_curves
from tfvl.training.run.opening import open_run, source_of, task_of
from tfvl.training.run.settings import RunConfig
from tfvl.training.run.trainer import NonFiniteError, schedule, train


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("train"))


@pytest.fixture(autouse=True)
def eager_functions():
    """Trains without a graph, which takes longer to trace than to run for tiny models."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def command(root: Path, out: Path, *more) -> list[str]:
    own = ("--task", "vqa", "--data", root / "data", "--model", root / "model", "--out", out)
    return ["train", *map(str, (*own, "--epochs", 1, "--batch-size", 8, *more))]


def test_from_the_command_line(root, tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "run.yaml"
    file.write_text("epochs: 7\nlog_steps: 1\nlearning_rate: 0.25\n")
    arguments = command(root, out, "--config", file, "--learning-rate", 1e-3)
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "step 2/2" in shown
    assert "best accuracy" in shown

    written = yaml.safe_load((out / "run.yaml").read_text())
    # the command line beats the file, which beats the recipe, which fills in the rest
    assert [written[name] for name in ("epochs", "learning_rate", "log_steps", "beta_2")] == [1, 1e-3, 1, 0.98]
    assert [row["step"] for row in history(out)] == ["1", "2"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "run.yaml").exists()
    for name in ("best", "last"):
        model, processor = tfvl.auto.load(out / name)
        picture = np.zeros((40, 40, 3), np.uint8)
        assert model(processor(images=[picture], text=["is it red?"]))["logits"].shape == (1, 5)

    card = (out / "last" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "tfvl"
    assert front["pipeline_tag"] == "visual-question-answering"
    for expected in (
        "16 (skipped: nothing)",
        "| learning_rate | 0.001 |",
        "| accuracy |",
        "| tensorflow |",
        "tfvl train",
    ):
        assert expected in card
    assert str(root / "model") in card

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(arguments) == 0
    assert "finished after 2 steps" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    assert main([*arguments, "--seed", "5"]) == 2
    assert "holds a run with seed: 0, this one has seed: 5" in capsys.readouterr().err


def test_the_drawn_scenes_from_scratch(tmp_path, capsys):
    """The run file of the worked example, which needs no data; weights are fresh and follow from the seed."""
    run = ["--config", ROOT / "examples" / "shapes_vilt.yaml", "--out", tmp_path / "out"]
    few = tmp_path / "few.yaml"
    few.write_text(Path(run[1]).read_text() + "scenes: 3\nvalidation_limit: 4\n")
    assert main(["train", *map(str, ["--config", few, *run[2:], "--steps", 1, "--batch-size", 4])]) == 0
    assert "step 1/1" in capsys.readouterr().out
    model, processor = tfvl.auto.load(tmp_path / "out" / "last")
    assert tuple(model.config.id2label.values()) == shapes.answers()
    assert tuple(processor.tokenizer.get_vocab()) == shapes.vocabulary()
    trained = load_file(ROOT / "tfvl" / "bundled" / "shapes-vilt" / "model.safetensors")
    name = "vilt.encoder.layer.0.output.dense.weight"
    assert not np.allclose(load_file(tmp_path / "out" / "last" / "model.safetensors")[name], trained[name], atol=0.05)


@pytest.mark.parametrize("file", (ROOT / "examples").glob("shapes_*.yaml"), ids=lambda file: file.stem)
def test_run_files_of_the_examples(file):
    run = RunConfig.read(file, {})
    model_class = source_of(run).model_class
    assert model_class.config_class.model_type in file.stem
    assert run.completed(model_class, task_of(run)).clip_norm == 1.0


@pytest.mark.parametrize("family", ["visual_bert", "lxmert"])
def test_region_models_of_the_examples_answer_from_pixels(tmp_path, capsys, family):
    """They learn from what `shapes-detector` finds, so that the same detector shows them a picture."""
    file, out, picture = tmp_path / "few.yaml", tmp_path / "out", tmp_path / "picture.png"
    settings = (ROOT / "examples" / f"shapes_{family}.yaml").read_text().replace("jit_compile: true", "")
    file.write_text(settings + "scenes: 3\nvalidation_limit: 4\n")
    assert main(["train", *map(str, ["--config", file, "--out", out, "--steps", 1, "--batch-size", 4])]) == 0
    shapes.draw_scene(5).image().save(picture)
    question = ("ask", picture, "what color is the circle?", "--model", out / "best", "--detector", "shapes-detector")
    capsys.readouterr()
    assert main([*map(str, question), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["results"][0]["answers"]
    assert {each["answer"] for each in answers} < set(shapes.answers())


def test_without_matplotlib_there_is_one_warning(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match=r"curves.png is not drawn: matplotlib is missing \(pip install"):
        assert not draw_curves(History(tmp_path), "val_accuracy", tmp_path / "curves.png")


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learing_rate: 1", "unknown settings learing_rate; there are task, data"),
        ("epochs: 0", "epochs is 0, expected a whole number from 1 on"),
        ("epochs: yes", "epochs is True, expected a whole number"),
        ("learning_rate: .nan", "learning_rate is nan, expected a number from 0 on"),
        ("warmup: 1.5", "warmup is 1.5, expected a number in \\[0, 1\\)"),
        ("precision: float8", "precision is 'float8', expected one of float32"),
        ("lora: {alpha: 3}", r"lora is \{'alpha': 3\}, expected a mapping with rank"),
        ("lora: !!python/object/apply:os.system [ls]", "only plain values"),
        ("[1, 2]", "expected a mapping"),
        ("a: " + "[" * 99 + "]" * 99, "nested deeper"),
        ("a: " + "x" * (1 << 17), "at most 65536 are read"),
        ("a: [", "cannot be read as YAML"),
        ("epochs: 3", "there is no task; give --task"),
    ],
)
def test_hostile_settings(text, sentence, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        RunConfig.read(file, {})


def test_settings_reach_the_model_and_the_optimizer(root):
    run = settings(
        root,
        freeze={"embeddings": None},
        precision="mixed_bfloat16",
        gradient_checkpointing=True,
        config={"hidden_dropout_prob": 0.0},
    )
    model = open_run(run).model
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.is_gradient_checkpointing
    assert model.config.hidden_dropout_prob == 0.0
    assert not any("embeddings" in variable.path for variable in model.trainable_variables)
    assert any(
        variable.path.endswith("lora_kernel_a") for variable in open_run(settings(root, lora={"rank": 2})).model.weights
    )


@pytest.mark.parametrize(("name", "middle", "end"), [("linear", 0.5, 0.0), ("cosine", 0.5, 0.01), ("constant", 1, 1)])
def test_schedules(root, name, middle, end):
    rate = schedule(settings(root, learning_rate=1.0, warmup=0.2, schedule=name), 100)
    assert [float(rate(step)) for step in (0, 10, 20)] == pytest.approx([0.0, 0.5, 1.0])
    assert float(rate(60)) == pytest.approx(middle, abs=0.01)
    assert float(rate(100)) == pytest.approx(end)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "nothing"}, "there is no task 'nothing'; there are vqa"),
        ({"task": "nlvr2", "model_class": "ViltModel"}, "model_class is 'ViltModel', expected one of Vilt"),
        ({"task": "entities"}, r"has no model of the family of .* \('vilt'\)"),
        ({"data": None}, "needs --data"),
        ({"train_split": "nowhere"}, "0 files like"),
        ({"wave_positions": True, "task": "shapes", "model": "shapes-lxmert"}, "wave_positions is for ViLT"),
        ({"batch_size": 99}, "16 examples do not fill one batch of 99"),
        ({"freeze": {"nose": None}}, "no part 'nose'"),
        ({"images": "/nowhere/*.tfrecord"}, "is no folder, and no TFRecord"),
        ({"answers": __file__}, "holds no JSON list of answers"),
    ],
)
def test_settings_that_do_not_fit(root, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_run(settings(root, **changes))


def test_a_vocabulary_from_the_training_split(root, tmp_path):
    """For a checkpoint that has no answers of its own, the majority's that occur often enough."""
    save_tiny(tmp_path / "fresh", id2label=None)
    model = open_run(settings(root, model=str(tmp_path / "fresh"), min_answers=2)).model
    assert list(model.config.id2label.values()) == ["blue", "yes"]


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_nan_stops_with_the_ids_and_the_last_good_weights(root, tmp_path, monkeypatch):
    run, batch = settings(root, checkpoint_steps=1), BatchPipeline.batch

    def damaged(self, epoch, step):
        inputs, labels, weights = batch(self, epoch, step)
        training = self.plan.shuffle
        return inputs, labels * (np.nan if training and (epoch, step) == (0, 2) else 1), weights

    monkeypatch.setattr(BatchPipeline, "batch", damaged)
    with pytest.raises(NonFiniteError, match="the loss is nan at step 3") as caught:
        train(run, tmp_path)
    assert all(name in str(caught.value) for name in open_run(run).training.ids(0, 2))
    saved = checkpoint.last(tmp_path / "checkpoints")
    assert saved.state["step"] == 2
    model = open_run(run).model
    arrays = {name: value for name, value in saved.arrays.items() if name.startswith("model/")}
    checkpoint.assign({"model": model.variables}, arrays)
    model.save_pretrained(tmp_path / "expected")
    expected, kept = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "last"))
    assert expected.keys() == kept.keys()
    assert all(np.array_equal(expected[name], kept[name]) for name in expected)


def test_a_full_disk_leaves_the_checkpoint_before(root, tmp_path, monkeypatch, capsys):
    write, calls = checkpoint.write_safetensors, []

    def full(path, arrays):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"the beginning")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, arrays)

    run = settings(root)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_safetensors", full)
        with pytest.raises(ValueError, match="is full at step 4; the checkpoint of step 2 is whole: free some space"):
            train(run, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000002"]
    assert train(run, tmp_path)["finished"]


def test_two_runs_in_one_directory(root, tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="another process is training in"):
        train(settings(root), tmp_path)


def test_a_directory_with_other_files(root, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds files that are no run's"):
        train(settings(root), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", LOCK}


def test_a_checkpoint_of_another_model(root, tmp_path):
    run = settings(root)
    train_until(3, run, tmp_path)
    path = tmp_path / "checkpoints"
    saved = checkpoint.last(path)
    checkpoint.save(path, 3, saved.arrays | {"model/0": np.zeros(3)}, saved.state)
    with pytest.raises(ValueError, match="of another model or optimizer: model/0 do not fit"):
        train(run, tmp_path)


def test_torn_images_are_reported_or_refused(tmp_path):
    root = write_all(tmp_path / "torn")
    for path in (root / "data" / "images").glob("*train*9.jpg"):
        path.write_bytes(path.read_bytes()[:40])
    train(settings(root, epochs=1), tmp_path / "out")
    assert "images that fail: 2" in (tmp_path / "out" / "last" / "README.md").read_text()
    with pytest.raises(ValueError, match=r"example 9\d+: image 'COCO_train2014_000000000009'"):
        train(settings(root, strict=True), tmp_path / "strict")


def test_labels_of_another_shape(root):
    model, _, training, _ = open_run(settings(root))
    inputs, labels, _ = training.batch(0, 0)
    model.compile()
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(batch, 5\)"):
        model.fit(inputs, labels[:, :3], verbose=0)
    words = np.zeros((4, 7), "int32")
    with pytest.raises(
        ValueError, match=r"labels have the shape \(4, 7\), expected \(4, 8\) for logits of \(4, 8, 5\)"
    ):
        cross_entropy(words, np.zeros((4, 8, 5), "float32"))
