"""TensorFlow's 8-bit product against whole numbers in NumPy, on this processor and on one without VNNI."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.paths import ROOT
from support.rounding import rounding

from tfvl.export.eight_bits import MAX_ACTIVATION, MAX_WEIGHT, MIDDLE, levels_of, product, product_scales

ZEROS = (MIDDLE, 28, 0)
INPUTS, OUTPUTS, ROWS = 96, 40, 9


def largest_difference(zero: int, transposed: bool) -> float:
    """Returns the largest difference between the op and whole numbers, as a share of the largest result."""
    rng = np.random.default_rng(zero)
    levels = rng.integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (INPUTS, OUTPUTS))
    levels[:, 0], levels[:, 1] = MAX_WEIGHT, -MAX_WEIGHT
    activations = rng.integers(0, MAX_ACTIVATION + 1, (ROWS, INPUTS))
    activations[0], activations[1] = MAX_ACTIVATION, rng.choice([0, MAX_ACTIVATION], INPUTS)
    activations[2] = zero
    activations[:2, 0] = activations[3:, 0] = MAX_ACTIVATION  # the row's largest value is what its scale says
    highest = rng.uniform(0.01, 1000, (ROWS, 1))
    scales = rng.uniform(0.001, 1, OUTPUTS).astype(np.float32)
    rows = (activations - zero) * highest / (MAX_ACTIVATION - zero)
    weights = dict(product_scales(levels, scales, zero))
    kernel = tf.Variable((levels.T if transposed else levels).astype(np.int8))
    ranges, offsets = tf.Variable(weights["ranges"]), tf.Variable(weights["offsets"])
    run = tf.function(lambda rows: product(rows, kernel, ranges, offsets, zero, transposed), autograph=False)
    found = run(tf.constant(rows, tf.float32)).numpy()
    expected = ((activations - zero) @ levels) * scales * highest / (MAX_ACTIVATION - zero)
    return float((np.abs(found - expected) / np.abs(expected).max(axis=1, keepdims=True).clip(1e-9)).max())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("zero", ZEROS)
def test_sums_are_exact(zero, transposed):
    assert largest_difference(zero, transposed) < rounding(INPUTS)


@pytest.mark.parametrize("operations", ["0", "1"])
def test_sums_are_exact_without_vnni(operations):
    code = (
        "from test_eight_bits_product import *\n"
        "print(max(largest_difference(zero, transposed) for zero in ZEROS for transposed in (False, True)))"
    )
    variables = {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": operations}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/export")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < rounding(INPUTS)


def test_scales_are_those_of_the_variables_that_are_read():
    """oneDNN's kernels are kept by where their scales lie; other scales in the same place are other scales."""
    levels = np.random.default_rng(0).integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (INPUTS, OUTPUTS))
    weights = dict(product_scales(levels, np.ones(OUTPUTS, np.float32)))
    kernel, ranges, offsets = (tf.Variable(each) for each in (levels.astype(np.int8), *weights.values()))
    run = tf.function(lambda rows: product(rows, kernel, ranges, offsets), autograph=False)
    rows = tf.random.stateless_normal((ROWS, INPUTS), (1, 2))
    once = run(rows).numpy()
    ranges.assign(ranges * 2), offsets.assign(offsets * 2)
    np.testing.assert_allclose(run(rows).numpy(), 2 * once, rtol=1e-6)


def test_rows_that_are_not_finite_or_zero():
    levels, scales = levels_of(np.random.default_rng(0).normal(size=(INPUTS, OUTPUTS)).astype(np.float32))
    weights = [tf.Variable(levels), *(tf.Variable(each) for _, each in product_scales(levels, scales))]
    rows = np.random.default_rng(1).normal(size=(4, INPUTS)).astype(np.float32)
    rows[1], rows[2, 3], rows[3] = 0, np.inf, np.nan
    found = tf.function(lambda: product(tf.constant(rows), *(each.read_value() for each in weights)))().numpy()
    assert np.isfinite(found[0]).all()
    assert not found[1].any()
    assert not np.isfinite(found[2:]).all(axis=1).any()  # as a row's status says
