"""Loading and saving detectors: formats, `config.yaml`, two-way accounting, hostile files."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.detector import SIZES, golden_state_shapes, pictures, shared, state_dict, tiny
from support.originals import write_torch

from tfvl.detector.config import PRESETS, DetectorConfig
from tfvl.detector.model import FIELDS, RegionDetector
from tfvl.detector.weights import RULES
from tfvl.errors import CheckpointError
from tfvl.files.yaml_file import MAX_BYTES
from tfvl.porting.plan import make_plan
from tfvl.porting.tensors import Checkpoint, Tensor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    shared().save_pretrained(directory)
    return directory


@pytest.fixture
def hub(tmp_path, saved):
    """Returns a directory with the configuration only, into which tests write weights."""
    (tmp_path / "config.yaml").write_bytes((saved / "config.yaml").read_bytes())
    return tmp_path


def assert_same_weights(detector, expected):
    names = expected.weight_names()
    assert detector.weight_names().keys() == names.keys()
    for name, variable in detector.weight_names().items():
        np.testing.assert_array_equal(variable, names[name], err_msg=name)


def test_a_saved_detector_loads_and_finds_the_same(saved):
    detector = RegionDetector.from_pretrained(saved)
    assert_same_weights(detector, shared())
    images = pictures((40, 90))
    outputs, expected = detector.detect(images), shared().detect(images)
    for name in FIELDS:
        np.testing.assert_array_equal(outputs[name], expected[name], err_msg=name)
    assert {path.name for path in saved.iterdir()} == {
        *("config.yaml", "model.safetensors", "objects_vocab.txt", "attributes_vocab.txt")
    }


def test_what_is_saved_is_what_was_loaded(hub):
    state = state_dict(shared())
    save_file(state, hub / "model.safetensors")
    RegionDetector.from_pretrained(hub).save_pretrained(hub / "again")
    again = load_file(hub / "again" / "model.safetensors")
    floats = {name: array for name, array in state.items() if array.dtype == np.float32}
    assert again.keys() == floats.keys()
    for name, array in floats.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "iteration": 3}])
def test_torch_files_load_plain_and_under_model(hub, legacy, wrap):
    path = write_torch(hub / "pytorch_model.bin", state_dict(shared()), legacy, wrap)
    assert_same_weights(RegionDetector.from_pretrained(hub), shared())
    assert_same_weights(RegionDetector.from_pretrained(path), shared())


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_originals_pickle_of_arrays_loads(hub, protocol):
    state = {name: array for name, array in state_dict(shared()).items() if not name.endswith("tracked")}
    state["backbone.res2.0.conv2.weight"] = np.asfortranarray(state["backbone.res2.0.conv2.weight"])
    content = {"model": state, "__author__": "Caffe", "matching_heuristics": True}
    (hub / "original.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_same_weights(RegionDetector.from_pretrained(hub / "original.pkl"), shared())


def test_the_originals_pickle_needs_no_configuration(tmp_path):
    (tmp_path / "original.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}))
    with pytest.raises(CheckpointError, match="no weight in it is one of RegionDetector's"):
        RegionDetector.from_pretrained(tmp_path / "original.pkl", depth=14)
    with pytest.raises(CheckpointError, match=r"original.pkl: DetectorConfig.depth is 7"):
        RegionDetector.from_pretrained(tmp_path / "original.pkl", depth=7)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"model": {"a": Evil()}}), "wants to call 'builtins.print'"),
        (pickle.dumps({"model": {"a": np.array([{}], object)}}), "refused|no array|of type"),
        (pickle.dumps({"model": {"a": np.zeros(9)}})[:-20], "truncated or its pickle is malformed"),
        (pickle.dumps({"model": {}}), "holds no weights"),
        (pickle.dumps([1, 2]), "holds no weights"),
        (pickle.dumps({"model": {"a": 3}}), "its entry 'a' is no array"),
        (pickle.dumps({"model": {"a": np.zeros(2, ">f4")}}), "little-endian"),
        (pickle.dumps({"model": {"a": np.zeros(2, "<U3")}}), "of type 'U3'"),
        (pickle.dumps({"model": {"a": np.zeros(7, "<f4")}}).replace(b"K\x07", b"K\x09"), "does not fit its 28 bytes"),
    ],
)
def test_hostile_pickles_are_refused_in_one_sentence(tmp_path, capsys, content, message):
    (tmp_path / "weights.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        RegionDetector.from_pretrained(tmp_path / "weights.pkl")
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_the_table_accounts_for_every_name_of_the_published_state_dict(tmp_path):
    shapes = golden_state_shapes()
    assert len(shapes) == 640
    tensors = [
        Tensor(name, tmp_path, 0, shape, "int64" if name.endswith("tracked") else "float32")
        for name, shape in shapes.items()
    ]
    detector = RegionDetector()
    own = {name: tuple(variable.shape) for name, variable in detector.weight_names().items()}
    plan = make_plan(Checkpoint(tmp_path, tensors), own, RULES, "detector", "RegionDetector")
    assert len(plan.fills) == len(own)
    assert len(plan.dropped) == sum(name.endswith("tracked") for name in shapes)
    assert not plan.left_out
    assert not plan.initialised


def test_weights_of_another_detector_are_refused_with_everything_that_is_wrong(hub):
    state = state_dict(tiny(num_objects=7))
    state["roi_heads.mask_head.weight"] = np.zeros((2, 2), np.float32)
    del state["backbone.res3.0.conv1.weight"]
    save_file(state, hub / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        RegionDetector.from_pretrained(hub)
    message = str(caught.value)
    assert "missing: backbone.res3.0.conv1.weight" in message
    assert "shape: roi_heads.box_predictor.cls_score.weight is (8, 64)" in message
    assert "unknown: no row of the table names roi_heads.mask_head.weight" in message


# --- config.yaml ------------------------------------------------------------------------------------------------------


def read(tmp_path, text: str | bytes, **overrides) -> DetectorConfig:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return DetectorConfig.from_file(path, overrides)


def test_the_files_values_win_over_defaults_and_arguments_over_both(tmp_path):
    text = """
    min_detections: 10
    MAX_DETECTIONS: 20
    INPUT: {MIN_SIZE_TEST: 600, MAX_SIZE_TEST: 1000, FORMAT: BGR}
    ANCHOR_GENERATOR: {SIZES: [[32, 64]], ASPECT_RATIOS: [[1.0]], OFFSET: 0.5}
    roi_heads: {nms_thresh_test: 0.6, NUM_CLASSES: 3, SCORE_THRESH_TEST: 0.2}
    SOMETHING: [1, two]
    """
    config = read(tmp_path, text, max_detections=30)
    assert (config.min_detections, config.max_detections) == (10, 30)
    assert (config.min_size, config.max_size) == (600, 1000)
    assert (config.anchor_sizes, config.anchor_ratios, config.anchor_offset) == ((32, 64), (1.0,), 0.5)
    assert (config.nms_thresholds, config.num_objects) == ((0.6,), 3)
    assert (config.depth, config.rpn_pre_nms) == (101, 6000)
    config.save_pretrained(tmp_path / "again")
    again = DetectorConfig.from_file(tmp_path / "again" / "config.yaml")
    assert again.replace(extra={}) == config.replace(extra={})
    assert again.extra["SOMETHING"] == [1, "two"]
    assert again.extra["roi_heads"]["SCORE_THRESH_TEST"] == 0.2


def test_names_of_classes_are_visual_genomes_or_those_beside_the_file(tmp_path):
    config = read(tmp_path, "{}")
    assert len(config.object_names) == 1600
    assert config.object_names[0] == "yolk"
    assert config.attribute_names[0] == "gray,grey"
    (tmp_path / "objects_vocab.txt").write_text("cat\ndog\n")
    assert read(tmp_path, "ROI_HEADS: {NUM_CLASSES: 2}").object_names == ("cat", "dog")
    with pytest.raises(CheckpointError, match="there are 2 object_names, expected 1600"):
        read(tmp_path, "{}")


BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [echo]", "refused, could not determine a constructor for the tag"),
        ("a: !unknown 3", "refused, could not determine a constructor for the tag '!unknown'"),
        (BOMB, "aliases inside aliases"),
        ("a: &a [*a]", "aliases inside aliases"),
        ("a: &a 1\n" + "\n".join(f"k{i}: *a" for i in range(100)), "more than 64"),
        ("[" * 5000 + "]" * 5000, "nested deeper than 16 levels"),
        ("a: " + "x" * MAX_BYTES, f"has {MAX_BYTES + 3} bytes; at most {MAX_BYTES} are read"),
        ("a: [1, 2", "cannot be read as YAML"),
        (b"a: \xff\xfe\x00", "cannot be read as YAML"),
        ("- 1\n- 2", "holds a YAML list, expected a mapping"),
        ("", "holds a YAML NoneType, expected a mapping"),
        ("RESNETS: {DEPTH: 1000000}", "DetectorConfig.depth is 1000000, expected one of"),
        ("RESNETS: {DEPTH: [1, 2]}", "DetectorConfig.depth is"),
        ("RPN: {POST_NMS_TOPK_TEST: 99999999}", "DetectorConfig.rpn_post_nms is 99999999"),
        ("MODEL: {PIXEL_MEAN: [1, 2]}", "pixel_mean is .*, expected three finite numbers"),
        ("MODEL: {PIXEL_STD: [1, 0, 1]}", "none of them 0"),
        ("RESNETS: {NORM: GN}", "RESNETS.NORM is GN, which asks for another normalisation"),
        ("INPUT: {FORMAT: RGB}", "INPUT.FORMAT is RGB"),
        ("INPUT: {MIN_SIZE_TEST: 1000, MAX_SIZE_TEST: 600}", "max_size is 600, expected at least min_size"),
        ("{MIN_DETECTIONS: 50, MAX_DETECTIONS: 36}", "max_detections is 36, expected at least min_detections"),
        ("ROI_HEADS: {NMS_THRESH_TEST: [.nan]}", "nms_thresholds"),
        (f"MODEL: {{PIXEL_MEAN: [1, 2, {'9' * 500}]}}", "a number of 500 digits; at most 40 are read"),
    ],
)
def test_unusable_configurations_are_refused_in_one_sentence(tmp_path, text, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_a_missing_configuration_is_named(tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"config.yaml is missing; expected the detector's config.yaml"):
        RegionDetector.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "sizes"), [("lxmert", (800, 1333)), ("bottom-up", (600, 1000))])
def test_presets_are_the_sizes_of_the_published_features(saved, name, sizes):
    config = RegionDetector.from_pretrained(saved, **PRESETS[name]).config
    assert (config.min_size, config.max_size) == sizes


@pytest.mark.parametrize("changes", [{"box_source": "both"}, {"nothing": 1}, {"roi_size": 0}, {"max_size": 10**9}])
def test_impossible_options_are_refused(saved, changes):
    with pytest.raises(CheckpointError, match="DetectorConfig"):
        RegionDetector.from_pretrained(saved, **changes)


def test_a_detector_is_imported_without_tensorflow_until_it_is_used():
    code = "import sys, tfvl.detector.config, tfvl.detector.weights; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_tiny_sizes_are_unequal():
    """Or a swapped axis could not be seen."""
    assert len({SIZES[name] for name in ("num_objects", "num_attributes", "roi_size", "rpn_hidden_channels")}) == 4
