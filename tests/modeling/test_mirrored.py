"""A loss and metrics of the user's own under `tf.distribute.MirroredStrategy`, whose devices a process chooses once."""

import json
import os
import subprocess
import sys

import pytest
from support.mirrored import HEADS
from support.paths import ROOT, TESTS

DEADLINE = 600  # seconds, for a process on a loaded machine
TOLERANCE = 1e-5  # sums over the rows of two devices, in another order


@pytest.fixture(scope="module")
def results():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(TESTS / "support" / "mirrored.py")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_two_devices_train_as_one(head, results):
    two, one = results[head]["two"], results[head]["one"]
    assert two["fit"].keys() == one["fit"].keys()
    assert {name for name in two["fit"] if "accuracy" in name}
    for name, values in one["fit"].items():
        assert two["fit"][name] == pytest.approx(values, rel=TOLERANCE), name
    assert two["evaluate"] == pytest.approx(one["evaluate"], rel=TOLERANCE)
    assert results[head]["apart"] < TOLERANCE
