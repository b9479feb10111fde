"""The detector's configuration, and its `config.yaml` in the layout of `unc-nlp/frcnn-vg-finetuned`."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tfvl.errors import CheckpointError
from tfvl.files.reading import read_text_file, reason, shown
from tfvl.files.whole import write_text
from tfvl.files.yaml_file import read_yaml, write_yaml
from tfvl.modeling.fields import (
    check_fields,
    checked,
    choice,
    flag,
    is_number,
    is_positive,
    is_share,
    limit,
    number,
    numbers,
    positive,
    probability,
    share,
    size,
)

CONFIG_NAME = "config.yaml"
MAX_SIDE = 2**14  # stops a hostile configuration before it asks for gigabytes
MAX_REGIONS = 2**16

# Blocks per stage, res2 to res5. 14 and 26 are for small detectors, the others are upstream's.
DEPTHS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Sizes and options of the region detector; the defaults are those of bottom-up attention on Visual Genome.

    Sides and boxes are in pixels of the resized image. `YAML_KEYS` has the key of each field in `config.yaml`.

    Attributes:
        min_size, max_size: images are resized so that the shortest edge is `min_size`, and the longest at most
            `max_size`; see `PRESETS`.
        pixel_mean, pixel_std: mean and deviation of blue, green and red levels, 0 to 255.
        max_pixels: an image with more is refused before it is decoded.
        depth: depth of the ResNet, a key of `DEPTHS`.
        stem_out_channels, res2_out_channels, width_per_group: channels of the stem, of the first stage, and inside
            its blocks; the latter two double from stage to stage.
        max_pool: whether the stem pools as Caffe does: without padding, and with a last window that may pass the edge.
        stride_in_1x1: whether a stage's stride is in its first 1×1 convolution, and not in the 3×3 one.
        anchor_sizes, anchor_ratios: sides of square anchors, and ratios of height to width. Anchors that a checkpoint
            stores replace those computed from these.
        anchor_offset: the place in its cell at which an anchor is centred, 0 to 1.
        rpn_hidden_channels: channels of the proposal head; -1: as many as the backbone has.
        rpn_bbox_weights, roi_bbox_weights: divisors of the predicted (dx, dy, dw, dh).
        rpn_min_size: a proposal must be wider and higher than this.
        rpn_nms_threshold: overlap above which the weaker of two proposals is dropped.
        rpn_pre_nms, rpn_post_nms: the largest numbers of proposals before and after this suppression.
        num_objects, num_attributes: numbers of classes, without "background" and "no attribute".
        roi_size: cells per side into which a region is pooled.
        halve_res5: whether the last stage has stride 2 and no dilation, as in plain Faster R-CNN.
        class_agnostic_boxes: whether a region has one box instead of one for each class.
        nms_thresholds: overlaps that are tried in this order, until `min_detections` regions are left.
        min_detections, max_detections: smallest and largest number of regions of an image.
        norm_eps: added to the variance in batch norms.
        box_source: "regressed": a region's box is the one predicted for its class; "proposal": it is the box from which
            its features were pooled, as in the features that LXMERT published. The suppression uses the same boxes.
        object_names, attribute_names: a name per class; None: those of Visual Genome if the number fits, else numbers.
        extra: the content of the file, whose other keys are written back.

    Raises:
        ValueError: a value is outside its range; the sentence names the field, the value and the range.
    """

    min_size: int = size(800, MAX_SIDE)
    max_size: int = size(1333, MAX_SIDE)
    pixel_mean: tuple[float, ...] = numbers((102.9801, 115.9465, 122.7717), "three finite numbers", is_number, 3)
    pixel_std: tuple[float, ...] = numbers(
        (1.0, 1.0, 1.0), "three numbers, none of them 0", lambda value: is_number(value) and value != 0, 3
    )
    max_pixels: int = number(89_478_485, 1)
    depth: int = checked(101, lambda value: value in list(DEPTHS), f"one of {list(DEPTHS)}")
    stem_out_channels: int = size(64, 4096)
    res2_out_channels: int = size(256, 4096)
    width_per_group: int = size(64, 4096)
    max_pool: bool = flag(True)
    stride_in_1x1: bool = flag(True)
    anchor_sizes: tuple[float, ...] = numbers((64, 128, 256, 512), "numbers above 0", is_positive)
    anchor_ratios: tuple[float, ...] = numbers((0.5, 1.0, 2.0), "numbers above 0", is_positive)
    anchor_offset: float = probability(0.0)
    rpn_hidden_channels: int = limit(512)
    rpn_bbox_weights: tuple[float, ...] = numbers((1.0,) * 4, "four numbers above 0", is_positive, 4)
    rpn_min_size: float = number(0, 0)
    rpn_nms_threshold: float = share(0.7)
    rpn_pre_nms: int = size(6000, MAX_REGIONS)
    rpn_post_nms: int = size(300, MAX_REGIONS)
    num_objects: int = size(1600, MAX_REGIONS)
    num_attributes: int = size(400, MAX_REGIONS)
    roi_size: int = size(14, 64)
    halve_res5: bool = flag(False)
    class_agnostic_boxes: bool = flag(False)
    roi_bbox_weights: tuple[float, ...] = numbers((10.0, 10.0, 5.0, 5.0), "four numbers above 0", is_positive, 4)
    nms_thresholds: tuple[float, ...] = numbers((0.5, 0.6, 0.7, 0.8, 0.9), "numbers in (0, 1]", is_share)
    min_detections: int = size(36, MAX_REGIONS)
    max_detections: int = size(36, MAX_REGIONS)
    box_source: str = choice("regressed", ("regressed", "proposal"))
    object_names: tuple[str, ...] | None = None
    attribute_names: tuple[str, ...] | None = None
    norm_eps: float = positive(1e-5)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        if self.max_size < self.min_size:
            raise ValueError(f"max_size is {self.max_size}, expected at least min_size, which is {self.min_size}.")
        if self.max_detections < self.min_detections:
            raise ValueError(
                f"max_detections is {self.max_detections}, expected at least min_detections, {self.min_detections}."
            )
        for names, count in (("object_names", self.num_objects), ("attribute_names", self.num_attributes)):
            object.__setattr__(self, names, checked_names(names, getattr(self, names), count))

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """The numbers of blocks in the stages res2 to res5."""
        return DEPTHS[self.depth]

    @property
    def feature_size(self) -> int:
        """The width of a region's features."""
        return 8 * self.res2_out_channels

    def replace(self, **changes) -> Self:
        """Returns a copy with `changes`; if a number of classes changes, names that are not given are default ones."""
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"DetectorConfig has no field {', '.join(sorted(unknown))}.")
        for names, count in (("object_names", "num_objects"), ("attribute_names", "num_attributes")):
            if changes.get(count, getattr(self, count)) != getattr(self, count):
                changes = {names: None} | changes
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Reads a `config.yaml`, and the names of the classes from the two `*_vocab.txt` beside it, if they are there.

        Raises:
            CheckpointError: the file is missing, is not plain YAML, or holds an impossible value; the message names it.
        """
        document = read_yaml(path, "the detector's config.yaml beside its weights")
        try:
            values = from_document(document)
            names = {field: _names_beside(path, file) for field, file in VOCABULARIES.items()}
            changes = {name: value for name, value in names.items() if value is not None} | dict(overrides or {})
            return cls(**values, extra=document).replace(**changes)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {reason(error)}") from None

    def save_pretrained(self, directory: str | os.PathLike) -> None:
        """Writes `config.yaml` and the names of the classes into `directory` (made if missing)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_yaml(directory / CONFIG_NAME, to_document(self))
        for field, file in VOCABULARIES.items():
            write_text(directory / file, "\n".join(getattr(self, field)) + "\n")


# Sizes to which `from_pretrained(src, **PRESETS[name])` resizes images.
PRESETS = {"lxmert": {"min_size": 800, "max_size": 1333}, "bottom-up": {"min_size": 600, "max_size": 1000}}


def preset_overrides(preset: str | None) -> dict[str, int]:
    """Returns the fields that a preset changes, none for None. Raises ValueError for an unknown preset."""
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS.get(preset, {})


VOCABULARIES = {"object_names": "objects_vocab.txt", "attribute_names": "attributes_vocab.txt"}
MAX_VOCABULARY_BYTES = 1 << 20

YAML_KEYS = {
    "min_size": "INPUT.MIN_SIZE_TEST",
    "max_size": "INPUT.MAX_SIZE_TEST",
    "pixel_mean": "MODEL.PIXEL_MEAN",
    "pixel_std": "MODEL.PIXEL_STD",
    "max_pixels": "TFVL.MAX_PIXELS",
    "depth": "RESNETS.DEPTH",
    "stem_out_channels": "RESNETS.STEM_OUT_CHANNELS",
    "res2_out_channels": "RESNETS.RES2_OUT_CHANNELS",
    "width_per_group": "RESNETS.WIDTH_PER_GROUP",
    "max_pool": "MODEL.MAX_POOL",
    "stride_in_1x1": "RESNETS.STRIDE_IN_1X1",
    "anchor_sizes": "ANCHOR_GENERATOR.SIZES",
    "anchor_ratios": "ANCHOR_GENERATOR.ASPECT_RATIOS",
    "anchor_offset": "ANCHOR_GENERATOR.OFFSET",
    "rpn_hidden_channels": "PROPOSAL_GENERATOR.HIDDEN_CHANNELS",
    "rpn_bbox_weights": "RPN.BBOX_REG_WEIGHTS",
    "rpn_min_size": "PROPOSAL_GENERATOR.MIN_SIZE",
    "rpn_nms_threshold": "RPN.NMS_THRESH",
    "rpn_pre_nms": "RPN.PRE_NMS_TOPK_TEST",
    "rpn_post_nms": "RPN.POST_NMS_TOPK_TEST",
    "num_objects": "ROI_HEADS.NUM_CLASSES",
    "num_attributes": "ROI_BOX_HEAD.NUM_ATTRS",
    "roi_size": "ROI_BOX_HEAD.POOLER_RESOLUTION",
    "halve_res5": "ROI_BOX_HEAD.RES5HALVE",
    "class_agnostic_boxes": "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
    "roi_bbox_weights": "ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
    "nms_thresholds": "ROI_HEADS.NMS_THRESH_TEST",
    "min_detections": "MIN_DETECTIONS",
    "max_detections": "MAX_DETECTIONS",
    "box_source": "TFVL.BOX_SOURCE",
    "norm_eps": "TFVL.NORM_EPS",
}
PER_LEVEL = ("anchor_sizes", "anchor_ratios")  # lists of lists in the file, one per level of the backbone

# Options of upstream of which only one value is supported here, and what any other value would ask for.
ONLY = {
    "RESNETS.NORM": ("BN", "another normalisation"),
    "RESNETS.NUM_GROUPS": (1, "grouped convolutions"),
    "RESNETS.OUT_FEATURES": (["res4"], "another level of the backbone"),
    "RPN.IN_FEATURES": (["res4"], "another level of the backbone"),
    "ROI_HEADS.IN_FEATURES": (["res4"], "another level of the backbone"),
    "ROI_BOX_HEAD.ATTR": (True, "a detector without attributes"),
    "INPUT.FORMAT": ("BGR", "another order of colours"),
    "SIZE_DIVISIBILITY": (0, "another padding"),
    "PAD_VALUE": (0, "another padding"),
}


def from_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that a `config.yaml` sets; the case of its keys is ignored.

    Raises:
        ValueError: the document asks for something that this detector does not support.
    """
    for key, (known, meaning) in ONLY.items():
        if (value := _look_up(document, key)) not in (None, known):
            raise ValueError(f"{key} is {str(value)[:80]}, which asks for {meaning}; expected {known}.")
    values = {field: _look_up(document, key) for field, key in YAML_KEYS.items()}
    values = {field: value for field, value in values.items() if value is not None}
    for field in PER_LEVEL:
        levels = values.get(field)
        if isinstance(levels, list) and len(levels) == 1 and isinstance(levels[0], list):
            values[field] = levels[0]
    if is_number(values.get("nms_thresholds")):
        values["nms_thresholds"] = [values["nms_thresholds"]]
    return values


def to_document(config: DetectorConfig) -> dict[str, Any]:
    """Returns the content of `config.yaml`: upstream's keys, and `config.extra` unchanged."""
    values = {key: getattr(config, field) for field, key in YAML_KEYS.items()} | {k: v for k, (v, _) in ONLY.items()}
    values |= {YAML_KEYS[field]: [list(getattr(config, field))] for field in PER_LEVEL}
    document = {key: dict(value) if isinstance(value, dict) else value for key, value in config.extra.items()}
    for key, value in values.items():
        *section, name = key.split(".")
        target = document
        for part in section:
            target = target.setdefault(_spelling(target, part), {})
        target[_spelling(target, name)] = list(value) if isinstance(value, tuple) else value
    return document


def _look_up(document: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(_spelling(document, part))
    return document


def _spelling(mapping: Mapping, name: str) -> str:
    """Returns the key of `mapping` that equals `name` except for case, or else `name`, upstream's spelling."""
    return next((key for key in mapping if isinstance(key, str) and key.upper() == name), name)


def checked_names(field: str, names: Any, count: int) -> tuple[str, ...]:
    """Returns `names` after checking that they are `count` texts; for None, Visual Genome's names, or else numbers."""
    if names is None:
        names = read_names(Path(__file__).parent / VOCABULARIES[field])
        return names if len(names) == count else tuple(str(index) for index in range(count))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field} is {shown(names)}, expected a list of names.")
    if len(names) != count:
        raise ValueError(f"there are {len(names)} {field}, expected {count}, one for each class.")
    return tuple(names)


def read_names(path: Path) -> tuple[str, ...]:
    """Reads the classes of a vocabulary file, one on each line; a line with several names, split by commas, is kept.

    Raises:
        ValueError: the file is too large for names, or is not UTF-8; the message names the file.
    """
    return tuple(line.strip() for line in read_text_file(path, MAX_VOCABULARY_BYTES).splitlines())


def _names_beside(path: Path, name: str) -> tuple[str, ...] | None:
    file = path.with_name(name)
    return read_names(file) if file.is_file() else None
