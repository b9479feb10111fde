"""`trackers` of a run: TensorBoard, Weights & Biases and MLflow write what `history.csv` has, without a network."""

import csv
import json
import struct
import sys

import pytest
import tensorflow as tf
from support import own_rows
from support.cli import fails
from support.tasks import TINY, processor_of

import tfvl
from tfvl.cli.app import main

pytestmark = pytest.mark.filterwarnings("ignore:.*newly initialised")
HEADER_BYTES, BLOCK_BYTES, WHOLE_OR_LAST = 7, 1 << 15, (1, 4)
STEPS = [1, 2, 3, 4, 5, 6]  # two epochs of three batches, of which each is logged


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Keeps trackers offline; runs steps without graphs, which is faster for tiny runs."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def options(tokenizer, tmp_path):
    """Returns the options of `tfvl train`, except for the trackers."""
    config = tfvl.ViltConfig(**TINY["Vilt"], **tfvl.ViltConfig.answer_fields(own_rows.ANSWERS))
    tfvl.ViltForQuestionAnswering(config).save_pretrained(tmp_path / "model")
    processor_of("Vilt", tokenizer).save_pretrained(tmp_path / "model")
    data = own_rows.write_own(tmp_path / "data", own_rows.rows(14))
    given = ("--task", "vqa", "--data", data, "--model", tmp_path / "model", "--epochs", 2, "--batch-size", 4)
    return list(map(str, (*given, "--out", tmp_path / "out")))


def settings(tmp_path, *names) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"trackers": list(names), "log_steps": 1}))
    return str(path)


def column(out, name: str) -> dict[int, float]:
    """Reads a column of `history.csv`, by step."""
    with open(out / "history.csv", newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def log_records(content: bytes) -> list[bytes]:
    """Reads the records of a log in LevelDB's format: blocks of 32 kB, of pieces with checksum, length and kind."""
    at, records, pieces = HEADER_BYTES, [], b""
    while at + 7 <= len(content):
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        if kind == 0 or at % BLOCK_BYTES > BLOCK_BYTES - 7:  # the rest of the block is empty
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in WHOLE_OR_LAST:
            records.append(pieces)
            pieces = b""
    return records


def test_tensorboard_needs_no_library(options, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["train", "--config", settings(tmp_path, "tensorboard"), *options]) == 0
    (path,) = (tmp_path / "out" / "logs").glob("events.out.tfevents.*")
    events = [tf.compat.v1.Event.FromString(each.numpy()) for each in tf.data.TFRecordDataset(str(path))]
    losses = {each.step: value.simple_value for each in events for value in each.summary.value if value.tag == "loss"}
    assert losses == pytest.approx(column(tmp_path / "out", "loss"))


def test_mlflow_has_every_row(options, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (pip install mlflow-skinny)")
    for module in ("alembic", "pandas"):
        pytest.importorskip(module, reason="MLflow's database needs SQLAlchemy, alembic and pandas")
    mlflow.set_tracking_uri(None)
    monkeypatch.chdir(tmp_path)  # where nothing appears
    assert main(["train", "--config", settings(tmp_path, "mlflow"), *options]) == 0
    out = tmp_path / "out"
    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tfvl").experiment_id])
    assert list((out / "mlruns").rglob("model_summary.txt"))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "out"
    assert run.data.params["task"] == "vqa"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "model", "out", "run.yaml"}
    for name in ("loss", "val_accuracy", "learning_rate"):
        found = {each.step: each.value for each in client.get_metric_history(run.info.run_id, name)}
        assert found == pytest.approx(column(out, name))
    assert list(column(out, "loss")) == STEPS


def test_wandb_offline_has_every_row(options, tmp_path):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed (pip install wandb)")
    from wandb.proto.wandb_internal_pb2 import Record

    assert main(["train", "--config", settings(tmp_path, "wandb"), *options]) == 0
    out, rows, config = tmp_path / "out", [], {}
    (path,) = (out / "wandb").glob("offline-run-*/*.wandb")
    for record in map(Record.FromString, log_records(path.read_bytes())):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({"/".join(each.nested_key) or each.key: json.loads(each.value_json) for each in items})
        if record.WhichOneof("record_type") == "run":
            config |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
    assert config["task"] == "vqa"
    for name in ("loss", "val_accuracy", "learning_rate"):
        found = {row["epoch/epoch"]: row[f"epoch/{name}"] for row in rows if f"epoch/{name}" in row}
        assert found == pytest.approx(column(out, name))
    assert [row["epoch/epoch"] for row in rows] == STEPS


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow-skinny")])
def test_a_missing_tracker_is_found_before_the_work(options, tmp_path, capsys, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, name, None)
    line = fails(capsys, "train", "--config", settings(tmp_path, name), *options)
    assert f"not installed, but the setting trackers names {name}: pip install {package}" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker(options, tmp_path, capsys):
    line = fails(capsys, "train", "--config", settings(tmp_path, "neptune"), *options)
    assert "trackers" in line
    assert "tensorboard, wandb, mlflow" in line
