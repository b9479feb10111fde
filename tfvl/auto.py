"""Load a checkpoint without naming its class: `model, processor = tfvl.auto.load("dandelin/vilt-b32-mlm")`."""

import importlib
from pathlib import Path

import tfvl
from tfvl.errors import CheckpointError
from tfvl.families import FAMILIES
from tfvl.modeling.base import PreTrainedModel
from tfvl.porting import hub
from tfvl.porting.originals.reading import config_values

BUNDLED_DETECTOR = "shapes-detector"


def load(src: str | Path, *, architecture: str | None = None, dtype: str | None = None, detector=None, **hub_options):
    """The model and the processor of a checkpoint, of the classes that its config.json names.

    Args:
        src: hub id, bundled name or directory, as in `from_pretrained`.
        architecture: name of the model class, where config.json does not say it or another head is wanted.
        dtype: Keras dtype policy of the model, e.g. "bfloat16"; the global one where None.
        detector: for VisualBERT and LXMERT, the `RegionDetector` or its source, so that the processor takes images.
        **hub_options: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns: `(model, processor)`.

    Raises:
        CheckpointError: a file is missing or damaged, or config.json names nothing that tfvl has.
        ValueError: the detector's features are of another size than the model's, or the model takes no regions.
    """
    path = hub.resolve(src, **hub_options)
    model_class, processor_class = classes_of(path, architecture)
    options = {} if detector is None else {"detector": detector}
    if options and processor_class.sees == "images":
        raise ValueError(f"{src} is a {model_class.__name__}, which reads images itself; leave the detector out")
    processor = processor_class.from_pretrained(path, **options)
    return model_class.from_pretrained(path, dtype=dtype), processor


def default_detector(src: str | Path) -> str | None:
    """The bundled detector, for a bundled model of regions; None for others, whose detector only their maker knows."""
    path = hub.BUNDLED_DIRECTORY / str(src)
    is_bundled = path.parent == hub.BUNDLED_DIRECTORY and (path / "config.json").is_file()
    return BUNDLED_DETECTOR if is_bundled and classes_of(path)[1].sees == "regions" else None


def classes_of(path: Path, architecture: str | None = None) -> tuple[type[PreTrainedModel], type]:
    """The model class and the processor class for the checkpoint at `path`, a directory or a weight file in one."""
    config = config_values(path)
    file = directory_of(path) / "config.json"
    module, processor = _choose(config.get("model_type"), FAMILIES, f"model_type in {file}")
    models = {
        name: model
        for model in vars(importlib.import_module(module)).values()
        if isinstance(model, type) and issubclass(model, PreTrainedModel) and model.__name__ in tfvl.__all__
        for name in (model.__name__, *model.architecture_aliases)
    }
    named = config.get("architectures")
    if architecture is not None:
        model = _choose(architecture, models, "the model class")
    else:
        model = _choose(named[0] if isinstance(named, list) and named else None, models, f"architectures in {file}")
    return model, getattr(tfvl, processor)


def directory_of(path: Path) -> Path:
    """The directory whose small files belong to the checkpoint at `path`."""
    return path if path.is_dir() else path.parent


def _choose(value, table: dict, what: str):
    if not isinstance(value, str) or value not in table:
        raise CheckpointError(f"{what} is {value!r}, expected one of {', '.join(table)}")
    return table[value]
