"""A run that is interrupted, wherever, ends with the bits of one that is not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import datasets
from support.paths import ROOT, TESTS
from support.runs import assert_same_run, history, settings, state_of, train_until, write_all

import tfvl
from tfvl.training.run import checkpoint
from tfvl.training.run.inputs import digests_of
from tfvl.training.run.opening import open_run, source_of
from tfvl.training.run.settings import RunConfig
from tfvl.training.run.trainer import Listener, Trainer, train

DEADLINE = 900  # seconds, for a process on a loaded machine
VALIDATED = 4  # questions, a batch


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_all(tmp_path_factory.mktemp("train"))
    datasets.write_vqa(root / "data", VALIDATED, "val")
    return root


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Draws no curves, which `test_trainer` looks at, and which take a second of each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "curves", lambda self: None)
        yield


def whole(root: Path, out: Path, **changes) -> Path:
    train(settings(root, **changes), out)
    return out


@pytest.mark.parametrize("changed", ["model", "image", "question"])
def test_a_run_does_not_go_on_with_other_inputs(root, tmp_path, eager_functions, changed):
    """Of the same names: what it has learnt is of those that it began with."""
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(root, copy)
    train_until(3, settings(copy), out)
    path = {
        "model": copy / "model" / "model.safetensors",
        "image": sorted((copy / "data" / "images").rglob("*train*.*"))[0],
        "question": sorted((copy / "data").glob("*train*questions.json"))[0],
    }[changed]
    content = path.read_bytes()
    if changed == "image":
        Image.new("RGB", (40, 40), "red").save(path)
    elif changed == "question":
        path.write_bytes(content.replace(b"?", b"!", 1))
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    other = path.read_bytes()
    what = "model" if changed == "model" else "training split"
    for _ in ("interrupted", "finished"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=f"out holds a run whose {what} had another content when it began"):
            train(settings(copy), out)
        path.write_bytes(content)
        assert train(settings(copy), out)["finished"]


@pytest.mark.parametrize("task", ["vqa", "shapes"])
def test_the_same_inputs_are_known_again(root, task):
    """By another process, in which nothing lies in memory where it lay: files, and scenes that are drawn."""
    run = settings(root) if task == "vqa" else RunConfig(task="shapes", model="shapes-vilt", steps=1)
    opened = [open_run(run) for _ in range(2)]  # both at once, so that they lie at different places
    first, second = (digests_of(source_of(run).path, each) for each in opened)
    assert first == second
    assert "training split" in first


def test_kill_and_resume(root, tmp_path):
    """SIGKILL in the middle of the second epoch; everything of both runs is compiled, dropout included."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}
    arguments = [sys.executable, str(TESTS / "support" / "runs.py"), str(root), str(tmp_path / "killed"), "7"]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = time.monotonic()
    while not (root / "reached").exists():
        assert process.poll() is None, "the run ended before its step"
        assert time.monotonic() - started < DEADLINE
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.last(tmp_path / "killed" / "checkpoints").state["step"] == 6
    assert not (tmp_path / "killed" / "last").exists()
    train(settings(root), tmp_path / "killed")
    assert_same_run(tmp_path / "killed", whole(root, tmp_path / "whole"))
    arrays, _ = state_of(tmp_path / "killed")
    assert any(value.dtype == np.int64 and value.shape == (2,) for value in arrays.values())  # seeds of dropout


@pytest.fixture(scope="module")
def accumulated(root, tmp_path_factory):
    """Yields an uninterrupted run in which three batches make an update."""
    tf.config.run_functions_eagerly(True)
    yield whole(root, tmp_path_factory.mktemp("whole"), gradient_accumulation=3)
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    "steps",
    [(1,), (3,), (4,), (5, 7)],
    ids=["before the first checkpoint", "within an epoch", "at the end of an epoch", "twice"],
)
def test_interrupted_anywhere(root, accumulated, eager_functions, steps, tmp_path):
    run = settings(root, gradient_accumulation=3)
    for step in steps:
        train_until(step, run, tmp_path)
    train(run, tmp_path)
    assert_same_run(tmp_path, accumulated)


@pytest.mark.slow
def test_accumulation_and_dropout_count(root, accumulated, eager_functions, tmp_path):
    """What the tests above compare would not be the same without them."""
    other, _ = state_of(whole(root, tmp_path / "a", gradient_accumulation=1))
    without, _ = state_of(
        whole(
            root,
            tmp_path / "b",
            gradient_accumulation=3,
            config=dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
        )
    )
    expected, _ = state_of(accumulated)
    assert not np.array_equal(other["model/0"], expected["model/0"])
    assert not np.array_equal(without["model/0"], expected["model/0"])


def test_a_torn_checkpoint_falls_back(root, accumulated, eager_functions, tmp_path):
    run = settings(root, gradient_accumulation=3)
    train_until(7, run, tmp_path)
    newest = tmp_path / "checkpoints" / "000000006" / "arrays.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="000000006 is damaged: arrays.safetensors is not what was written"):
        train(run, tmp_path)
    assert_same_run(tmp_path, accumulated)


def as_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def with_a_hole(path):
    with open(path, "ab") as file:
        file.truncate(5 << 30)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (as_a_pipe, "is no regular file"),
        (with_a_hole, "has 5368709120 bytes; at most 16777216 are read"),
        (lambda path: path.write_text("[" * 200_000), "it is nested deeper than 64 levels"),
        (lambda path: path.write_text("[]"), "list"),
    ],
)
@pytest.mark.parametrize("name", [checkpoint.MANIFEST, checkpoint.STATE])
def test_a_damaged_text_of_a_checkpoint_is_a_sentence(tmp_path, name, damage, sentence):
    for step in (1, 2):
        newest = checkpoint.save(tmp_path, step, {"a": np.arange(step)}, {"step": step})
    damage(newest / name)
    said = sentence if name == checkpoint.MANIFEST else rf"({sentence}|{name} is not what was written)"
    with pytest.warns(UserWarning, match=f"The checkpoint {newest} is damaged.*{said}"):
        assert checkpoint.last(tmp_path).state == {"step": 1}


def test_history_and_events_have_each_step_once(root, eager_functions, tmp_path):
    run = settings(root)
    train_until(5, run, tmp_path)
    (log,) = (tmp_path / "logs").iterdir()
    log.write_bytes(log.read_bytes() + b"torn")  # as by a killed process
    train(run, tmp_path)
    assert [int(row["step"]) for row in history(tmp_path)] == list(range(1, 9))
    assert [row["step"] for row in history(tmp_path) if row["val_accuracy"]] == ["4", "8"]
    (log,) = (tmp_path / "logs").iterdir()
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(log))]
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == list(range(1, 9))
    tags = {value.tag for value in events[-1].summary.value}
    assert {"loss", "learning_rate", "vqa_score", "val_accuracy"} <= tags


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"precision": "mixed_float16"}, {"lora": {"rank": 2}, "freeze": {"embeddings": None}}],
    ids=["scaled loss", "low rank"],
)
def test_interrupted_with_options(root, eager_functions, options, tmp_path):
    run = settings(root, epochs=1, **options)
    train_until(3, run, tmp_path / "a")
    train(run, tmp_path / "a")
    assert_same_run(tmp_path / "a", whole(root, tmp_path / "b", epochs=1, **options))


@pytest.mark.slow
def test_a_signal_makes_a_checkpoint(root, eager_functions, tmp_path):
    """Ctrl-C and SIGTERM: the step is finished and written, the command line ends with 130."""
    run = settings(root, checkpoint_steps=None)
    stop = Listener(step=lambda done, total: os.kill(os.getpid(), signal.SIGTERM) if done == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "a", listener=stop)
    assert checkpoint.last(tmp_path / "a" / "checkpoints").state["step"] == 3
    train(run, tmp_path / "a")
    assert_same_run(tmp_path / "a", whole(root, tmp_path / "b"))


def test_last_answers(root, accumulated):
    model, processor = tfvl.auto.load(accumulated / "last")
    pixels = np.zeros((40, 40, 3), np.uint8)
    logits = model(processor(images=[pixels], text=["is it red?"]))["logits"]
    assert logits.shape == (1, 5)
    assert model.config.id2label[4] == "blue"
