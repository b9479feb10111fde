"""Load a checkpoint without naming its class: `model, processor = tfvl.auto.load("dandelin/vilt-b32-mlm")`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfvl.answers.rows import HEADS
from tfvl.errors import CheckpointError
from tfvl.files.reading import shown
from tfvl.lxmert import heads as lxmert
from tfvl.lxmert.processor import LxmertProcessor
from tfvl.modeling import upstream_arguments
from tfvl.modeling.base import PreTrainedModel
from tfvl.porting import hub
from tfvl.porting.originals.reading import config_values
from tfvl.processors.base import Processor
from tfvl.vilt import heads as vilt
from tfvl.vilt.processor import ViltProcessor
from tfvl.visual_bert import heads as visual_bert
from tfvl.visual_bert.processor import VisualBertProcessor


class Family(NamedTuple):
    """The model classes of one `model_type`, by class name, and the class of their processor."""

    models: Mapping[str, type[PreTrainedModel]]
    processor: type[Any]


FAMILIES = {
    processor.config_class.model_type: Family(
        {name: getattr(heads, name) for name in HEADS if hasattr(heads, name)}, processor
    )
    for heads, processor in (
        (vilt, ViltProcessor),
        (visual_bert, VisualBertProcessor),
        (lxmert, LxmertProcessor),
    )
}


@dataclass(frozen=True)
class Source:
    """A checkpoint that `find` has located. It is passed on instead of its name, so that it is located only once.

    Attributes:
        name: the name that was asked for.
        path: directory of the checkpoint, or its weight file.
        config: content of its config.json; for an authors' own file, what follows from the shapes of its tensors.
        architecture: name of the model class that is wanted; None: the one that config.json names.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    architecture: str | None = None

    @property
    def family(self) -> Family:
        """The family of the checkpoint's `model_type`. Raises CheckpointError where tfvl has none of that name."""
        return _choose(self.config.get("model_type"), FAMILIES, f"model_type in {self._file}")

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The model class to load. Raises CheckpointError where the family lacks it, or config.json names none."""
        models = {
            name: model
            for model in self.family.models.values()
            for name in (model.__name__, *model.architecture_aliases)
        }
        if self.architecture is not None:
            return _choose(self.architecture, models, "the model class")
        named = self.config.get("architectures")
        named = named[0] if isinstance(named, list) and named else None
        return _choose(named, models, f"architectures in {self._file}")

    @property
    def processor_class(self) -> type[Any]:
        return self.family.processor

    @property
    def reads_regions(self) -> bool:
        """Whether the model reads regions of images, which a detector may find, instead of the images themselves."""
        return self.processor_class.sees == "regions"

    @property
    def default_detector(self) -> str | None:
        """The bundled detector, for a bundled model of regions; of others only their maker knows the detector."""
        return hub.BUNDLED_DETECTOR if self.path.parent == hub.BUNDLED_DIRECTORY and self.reads_regions else None

    def load(self, *, dtype: str | None = None, detector=None) -> tuple[PreTrainedModel, Processor]:
        """Loads the model and its processor; arguments and errors are those of the function `load`."""
        model_class, options = self.model_class, {} if detector is None else {"detector": detector}
        if options and not self.reads_regions:
            raise ValueError(
                f"{self.name} is a {model_class.__name__}, which reads images itself; leave the detector out"
            )
        processor = self.processor_class.from_pretrained(self.path, **options)
        return model_class.from_pretrained(self.path, dtype=dtype), processor

    @property
    def _file(self) -> Path:
        return (self.path if self.path.is_dir() else self.path.parent) / "config.json"


def find(src: str | Path, *, architecture: str | None = None, **hub_options) -> Source:
    """Locates the checkpoint that a hub id, a bundled name, a directory or a weight file stands for.

    Args:
        src: as in `from_pretrained`.
        architecture: name of the model class, where config.json does not say it or another head is wanted.
        **hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder` and `weights`, as in
            `hub.resolve`.

    Raises:
        CheckpointError: there is no such checkpoint, or its config.json is missing or damaged.
        ValueError: an option is not known.
    """
    upstream_arguments.refuse(hub_options, "tfvl.auto")
    if unknown := hub_options.keys() - {*hub.OPTIONS, "weights"}:
        raise ValueError(
            f"there is no option {', '.join(sorted(unknown))} of a checkpoint; options are {', '.join(hub.OPTIONS)} "
            "(those of models and processors are for their own from_pretrained)."
        )
    path = hub.resolve(src, **hub_options)
    return Source(str(src), path, config_values(path), architecture)


def load(src: str | Path, *, architecture: str | None = None, dtype: str | None = None, detector=None, **hub_options):
    """Loads the model and the processor of a checkpoint, of the classes that its config.json names.

    Args:
        src: hub id, bundled name or directory, as in `from_pretrained`.
        architecture: name of the model class, where config.json does not say it or another head is wanted.
        dtype: Keras dtype policy of the model, e.g. "bfloat16"; the global one where None.
        detector: for VisualBERT and LXMERT, the `RegionDetector` or its source, so that the processor takes images.
        **hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`.

    Returns: `(model, processor)`.

    Raises:
        CheckpointError: a file is missing or damaged, or config.json names nothing that tfvl has.
        ValueError: the detector's features are of another size than the model's, or the model takes no regions.
    """
    return find(src, architecture=architecture, **hub_options).load(dtype=dtype, detector=detector)


def _choose(value, table: Mapping, what: str):
    if not isinstance(value, str) or value not in table:
        raise CheckpointError(f"{what} is {shown(value)}, expected one of {', '.join(table)}")
    return table[value]
