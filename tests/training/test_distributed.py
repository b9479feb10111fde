"""Two processes that train one model end with the weights of one process and twice the batch."""

import json
import runpy
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from support.classes import difference, small_model
from support.distributed import CASES, CLIP_NORM, EPSILON, RATE, STEPS, run_together, train, well_conditioned
from support.paths import ROOT, TESTS
from support.rounding import rounding

import tfvl
from tfvl.modeling import replicas
from tfvl.training.distributed import WorkerLost, Workers, place_of, workers

# The same float32 sums in another order: a gradient's are over the 56 positions of four rows, a dozen after each other,
# and clipped. A step is at most the rate, ten times that for VQA's classifier, times the gradient over AdamW's epsilon.
GRADIENT_TOLERANCE = rounding(4 * 56, scale=CLIP_NORM, steps=12)
WEIGHT_TOLERANCE = STEPS * 10 * RATE * GRADIENT_TOLERANCE / EPSILON
MEASURED_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Runs two workers on every case; returns the directory of their results."""
    directory = tmp_path_factory.mktemp("workers")
    for case, (head, _) in CASES.items():
        small_model(head).save_pretrained(directory / case)
    run_together([TESTS / "support" / "distributed.py", directory], directory / "logs")
    return directory


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_workers_are_one_with_twice_the_batch(directory, case, eager_functions):
    """Each worker has rows of another weight and another number of words; clipping acts in every step."""
    expected, measured = train(case, directory, Workers())
    start = getattr(tfvl, CASES[case][0]).from_pretrained(directory / case)
    before = {name: variable.numpy() for name, variable in start.weight_names().items()}
    assert max(np.abs(expected[name] - before[name]).max() for name in before) > 100 * WEIGHT_TOLERANCE
    for index in range(2):
        found = dict(np.load(directory / f"{case}-{index}-2.npz"))
        assert found.keys() == expected.keys()
        assert max(np.abs(found[name] - expected[name]).max() for name in expected) < WEIGHT_TOLERANCE
        said = json.loads((directory / f"{case}-{index}-2.json").read_text())
        assert said.pop("predicted") == 1 + index  # each its own rows
        assert said.keys() == measured.keys() - {"predicted"}
        assert all(difference(value, measured[name]) < MEASURED_TOLERANCE for name, value in said.items())


@pytest.mark.slow
def test_example_on_two_machines(tmp_path, monkeypatch, eager_functions):
    script = ROOT / "examples" / "train_on_two_machines.py"
    options = ["--scenes", "4", "--batch-size", "16"]
    wrapped = TESTS / "support" / "distributed_script.py"
    said = run_together([wrapped, script, *options, "--out", tmp_path / "two"], tmp_path / "logs")
    assert "1 of 2: loss " in said
    assert "2 of 2: loss " in said
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(sys, "argv", [str(script), *options, "--out", str(tmp_path / "one")])
    with well_conditioned():
        runpy.run_path(str(script), run_name="__main__")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(np.abs(two[name] - one[name]).max() for name in one) < WEIGHT_TOLERANCE


# --- without other processes ----------------------------------------------------------------------------------------


def config(task=("worker", 1), **cluster) -> str:
    return json.dumps({"cluster": cluster, "task": dict(zip(("type", "index"), task, strict=True))})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (config(worker=["a:1", "b:1"]), (1, 2)),
        (config(("chief", 0), chief=["a:1"], worker=["b:1", "c:1"]), (0, 3)),
        (config(chief=["a:1"], worker=["b:1", "c:1"]), (2, 3)),
        ("{}", (0, 1)),
    ],
)
def test_place(text, place):
    assert place_of(text) == place


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "TF_CONFIG is not understood .*expected JSON such as"),
        ("[1]", "TF_CONFIG is not understood .*expected JSON such as"),
        ('{"cluster": {"worker": 5}}', "TF_CONFIG is not understood .*expected JSON such as"),
        (config(("ps", 0), worker=["a:1"], ps=["b:1"]), "the task type 'ps' and the jobs worker, ps, expected chief"),
        (config(("evaluator", 0), worker=["a:1"]), "the task type 'evaluator'"),
        (config(("worker", 2), worker=["a:1", "b:1"]), "the task index 2, but the cluster has 2 of type worker"),
        (config(("worker", "0"), worker=["a:1", "b:1"]), "the task index '0'"),
        (config(("chief", 0), worker=["a:1", "b:1"]), "the cluster has 0 of type chief"),
    ],
)
def test_wrong_tf_config(text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        workers({"TF_CONFIG": text})
    assert "\n" not in str(caught.value)


def test_alone_without_tf_config():
    for environment in ({}, {"TF_CONFIG": " "}, {"TF_CONFIG": config(("worker", 0), worker=["a:1"])}):
        here = workers(environment)
        assert here == Workers(index=0, count=1, strategy=None)
        assert here.is_chief
        assert here.shard == (0, 1)
        assert here.dataset("as it is") == "as it is"
        here.agree(7, "steps")


def test_a_lost_worker_is_one_sentence():
    message = "Graph execution error:\n\nCollective ops is aborted by: Connection reset by peer.\nThe error could be"
    lost = pytest.raises(WorkerLost, match=r"One of the 2 workers is gone \(Connection reset by peer\); start")
    with lost, Workers(1, 2).together():
        raise tf.errors.UnavailableError(None, None, message)
    with pytest.raises(tf.errors.InternalError), Workers(1, 2).together():
        raise tf.errors.InternalError(None, None, "of another kind")
    with pytest.raises(tf.errors.UnavailableError), Workers().together():
        raise tf.errors.UnavailableError(None, None, message)


def test_optimizers_of_another_place_are_refused():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([devices[0].name])
    stranger = keras.optimizers.Adam()
    model = small_model("ViltForQuestionAnswering")
    model.compile(stranger)
    two = types.SimpleNamespace(optimizer=stranger, distribute_strategy=strategy, jit_compile=False)
    with pytest.raises(ValueError, match="make it within strategy"):
        replicas.prepare(two)


def test_dropout_differs_between_replicas(monkeypatch):
    generator = keras.random.SeedGenerator(3)
    replicas.draw_apart(generator)
    replicas.draw_apart(generator)  # compiled again
    drawn = []
    for number in (None, 0, 1):
        generator.state.assign([3, 0])
        context = None if number is None else types.SimpleNamespace(replica_id_in_sync_group=tf.constant(number))
        monkeypatch.setattr(replicas, "replica", lambda context=context: context)
        drawn.append(np.array(keras.random.uniform([8], seed=generator)))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.1
