"""Every class on JAX and on PyTorch against TensorFlow's numbers: the columns of the class table of these names."""

import os
import subprocess
import sys

import numpy as np
import pytest
from support import backends
from support.classes import CLASSES, difference
from support.paths import ROOT

# relative to 1 + the value; the same sums in another order, and the same after ten steps, which carry it on
FORWARD, AFTER_TRAINING = 1e-5, 1e-4

every_class = pytest.mark.parametrize("head", CLASSES)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    directory = tmp_path_factory.mktemp("backends")
    backends.save(directory)
    return directory


def run(backend: str, directory) -> None:
    """Two processes share the classes, since most of the time is a compiler's, which uses one core."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # each operation is compiled, and then runs a few times
    }
    command = [sys.executable, "-m", "support.backends", str(directory)]
    running = [
        subprocess.Popen(command + CLASSES[half::2], env=environment, stderr=subprocess.PIPE, text=True)
        for half in (0, 1)
    ]
    said = [each.communicate()[1] for each in running]
    assert [each.returncode for each in running] == [0, 0], "".join(each[-2000:] for each in said)


@pytest.fixture(scope="module")
def on_jax(checkpoints):
    pytest.importorskip("jax", reason="JAX is not installed (pip install jax)")
    run("jax", checkpoints)
    return checkpoints


@pytest.fixture(scope="module")
def on_torch(checkpoints):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    run("torch", checkpoints)
    return checkpoints


def check(head: str, backend: str, directory, record_property) -> None:
    expected = backends.results(head, directory)
    with np.load(directory / f"{head}.{backend}.npz") as found:
        assert set(found) == set(expected)
        differences = {name: difference(found[name], value) for name, value in expected.items()}
    before = max(value for name, value in differences.items() if name.startswith("before/"))
    after = max(value for name, value in differences.items() if name.startswith("after/"))
    record_property("difference", f"{before:.1e}")
    assert before <= FORWARD
    assert after <= AFTER_TRAINING


@pytest.mark.slow
@every_class
def test_on_jax(head, on_jax, record_property):
    check(head, "jax", on_jax, record_property)


@pytest.mark.slow
@pytest.mark.parity
@every_class
def test_on_torch(head, on_torch, record_property):
    check(head, "torch", on_torch, record_property)
