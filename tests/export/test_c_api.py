"""Artefacts need no Python: TensorFlow's C API loads and runs every head in a process that never imports tensorflow."""

from functools import cache

import numpy as np
import pytest
from support import c_api
from support.export import GOOD_IMAGES, HEADS, NLVR2, artefact, prepare, requests, serve, strings
from support.export_regions import ALIGNMENT

# The same kernels in the same library, but a graph that is optimised as a whole.
TOLERANCE = 5e-6
ALL = (*HEADS, ALIGNMENT, "LxmertForPreTraining")  # of those that take regions, the ones with the most in the graph


def raw_inputs(class_name: str) -> dict[str, np.ndarray]:
    """Makes good rows and bad ones: one without image or regions, one whose text is not UTF-8."""
    if class_name not in HEADS:
        raw = {name: np.concatenate([value, value[:2]]) for name, value in requests(class_name).items()}
        raw["regions"][3], raw["text"][4] = 0, b"caf\xe9 [MASK]"
        return raw
    images = strings(*GOOD_IMAGES, b"", GOOD_IMAGES[0])
    texts = strings("what is the [MASK] ?", "a [MASK]", "red or [MASK]", "the [MASK]", b"caf\xe9 [MASK]")
    return requests(class_name, images, texts)


@cache
def results() -> dict[tuple[str, str], tuple[dict, dict]]:
    """Returns the inputs and the clean process's outputs by (class, signature); one process runs all."""
    asked = {}
    for name in ALL:
        asked[name, "serving_default"] = raw_inputs(name)
        asked[name, "tensors"] = prepare(name)
    answered = c_api.run(
        [
            {"directory": artefact(name).directory, "signature": signature, "inputs": inputs}
            for (name, signature), inputs in asked.items()
        ]
    )
    return {key: (inputs, outputs) for (key, inputs), outputs in zip(asked.items(), answered, strict=True)}


@pytest.mark.parametrize("class_name", ALL)
def test_raw_requests_are_answered_without_python(class_name):
    inputs, outputs = results()[class_name, "serving_default"]
    good = [True, class_name != NLVR2, True, False, False]  # the missing image is the second one of NLVR2's row 1, too
    assert [status == b"" for status in outputs["status"]] == good
    compare(class_name, "serving_default", inputs, outputs)


@pytest.mark.parametrize("class_name", ALL)
def test_tensors_are_run_without_python(class_name):
    compare(class_name, "tensors", *results()[class_name, "tensors"])


def compare(class_name: str, signature: str, inputs: dict, outputs: dict):
    """Asserts that the clean process's outputs are those of the same artefact under Python."""
    expected = serve(class_name, signature, **inputs)
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert outputs[name].dtype == value.dtype
        if value.dtype == object:
            assert outputs[name].tolist() == value.tolist(), name
        else:
            np.testing.assert_allclose(outputs[name], value, rtol=0, atol=TOLERANCE, err_msg=name)


def test_an_error_of_the_clean_process_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="Could not find SavedModel"):
        c_api.run([{"directory": tmp_path, "signature": "serving_default", "inputs": {}}])
