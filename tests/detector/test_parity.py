"""The detector against the same network in torch's functions (`tools/bench/detector.py`); files that torch wrote."""

import numpy as np
import pytest
from support.paths import tool

torch = pytest.importorskip("torch", reason="compares with PyTorch")

from support.detector import pictures, shared, state_dict, tiny  # noqa: E402

from tfvl.detector.model import RegionDetector  # noqa: E402

bench_detector = tool("bench/detector")

pytestmark = pytest.mark.parity

ROUNDING = 1e-4  # of values around 1, and of pixels: float32 through thirty layers in another order


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("size", [(64, 90), (50, 51), (33, 100)])
def test_regions_are_those_of_torch(size, fold):
    detector = tiny(seed=1)
    (picture,) = pictures(size)
    outputs = detector.detect([picture])
    expected = bench_detector.TorchDetector(bench_detector.state_dict(detector), detector.config, fold)(picture)
    count = outputs["preds_per_image"][0]
    assert count == len(expected["boxes"])
    for name in ("obj_ids", "attr_ids"):
        np.testing.assert_array_equal(outputs[name][0, :count], expected[name])
    for name in ("obj_probs", "attr_probs", "roi_features"):
        np.testing.assert_allclose(outputs[name][0, :count], expected[name], atol=ROUNDING, rtol=ROUNDING)
    scale = np.array([*size[::-1], *size[::-1]]) / np.tile(outputs["sizes"][0][::-1], 2)
    np.testing.assert_allclose(outputs["boxes"][0, :count], expected["boxes"] * scale, atol=100 * ROUNDING)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files_that_torch_wrote_load(tmp_path, legacy, wrapped):
    shared().config.save_pretrained(tmp_path)
    state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state_dict(shared()).items()}
    content = {"model": state} if wrapped else state
    torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    detector = RegionDetector.from_pretrained(tmp_path)
    for name, variable in shared().weight_names().items():
        np.testing.assert_array_equal(detector.weight_names()[name], variable, err_msg=name)
