"""The options of ViLT's image processor: their ranges, and the files that hold them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.json_file import read_json, write_json
from tfvl.files.reading import reason
from tfvl.preprocessing.image.resize import FILTERS, NEAREST

CONFIG_NAME = "preprocessor_config.json"
PROCESSOR_NAME = "processor_config.json"  # where transformers 5 nests the image processor's options
SWITCHES = ("do_resize", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb", "do_center_crop")
MAX_EDGE = 2**14  # stops a hostile configuration before it asks for gigabytes


@dataclasses.dataclass(frozen=True, eq=False)
class ImageOptions:
    """The options of `ViltImageProcessor`, whose docstring describes them."""

    do_resize: bool = True
    size: Any = 384  # int | Mapping[str, int]; the constructor makes a mapping of a number
    size_divisor: int = 32
    resample: int = 3
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Any = (0.5, 0.5, 0.5)
    image_std: Any = (0.5, 0.5, 0.5)
    do_pad: bool = True
    do_convert_rgb: bool | None = None
    crop_size: int | Sequence[int] | Mapping[str, int] | None = None
    do_center_crop: bool | None = None
    pad_size: int | Sequence[int] | Mapping[str, int] | None = None
    max_pixels: int = 89_478_485

    def __post_init__(self):
        size = self.size if isinstance(self.size, Mapping) else {"shortest_edge": self.size}
        shortest_edge = size.get("shortest_edge")
        if not isinstance(self.size_divisor, int) or self.size_divisor < 1:
            raise ValueError(f"size_divisor={self.size_divisor!r} must be a whole number, at least 1")
        if not isinstance(shortest_edge, int) or not self.size_divisor <= shortest_edge <= MAX_EDGE:
            raise ValueError(
                f'size={self.size!r} must be {{"shortest_edge": length}} with a whole number of pixels, '
                f"from size_divisor={self.size_divisor} to {MAX_EDGE}"
            )
        if self.resample not in FILTERS and self.resample != NEAREST:
            raise ValueError(f"resample={self.resample!r} is not a Pillow filter; use one of 0 to 5 (3 is bicubic)")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool | None):
                raise ValueError(f"{name}={getattr(self, name)!r} must be true or false")
        for name in ("image_mean", "image_std"):
            values = np.broadcast_to(np.asarray(getattr(self, name), np.float64), [3])
            if not np.isfinite(values).all() or (name == "image_std" and not values.all()):
                raise ValueError(f"{name}={getattr(self, name)!r} must be finite, and image_std not zero")
            self._set(name, tuple(values.tolist()))
        self._set("size", {"shortest_edge": shortest_edge})
        self._set("resample", int(self.resample))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds options from the contents of preprocessor_config.json; keys that are no option of ViLT are ignored.

        Args:
            options: the contents of the file.
            **overrides: options of the class in place of the file's.

        Raises:
            ValueError: an override is not known, or an option is out of its range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        read = cls(**{name: value for name, value in options.items() if name in names and value is not None})
        return read.replace(**overrides)

    def replace(self, **overrides: Any) -> Self:
        """Returns a copy with other options. Raises ValueError for one that is not known or out of its range."""
        names = [field.name for field in dataclasses.fields(self)]
        if unknown := overrides.keys() - set(names):
            raise ValueError(
                f"ViltImageProcessor has no option {', '.join(sorted(unknown))}; it takes {', '.join(names)}"
            )
        return dataclasses.replace(self, **overrides)

    @classmethod
    def from_pretrained(cls, src: str | os.PathLike, **options: Any) -> Self:
        """Reads preprocessor_config.json, or the `image_processor` part of transformers 5's processor_config.json.

        Args:
            src: a directory, a hub id or the name of a bundled model.
            **options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`; and those of the class, in
                place of the file's.

        Raises:
            CheckpointError: there is neither file, or its options cannot be used.
            ValueError: an option is not known or out of its range.
        """
        from tfvl.porting.hub import resolve, split_options

        hub_options, overrides = split_options(options)
        path = resolve(src, weights=False, **hub_options)
        directory = path.parent if path.is_file() else path
        file = directory / PROCESSOR_NAME
        written = read_json(file).get("image_processor") if file.is_file() else None
        if not isinstance(written, dict):
            file = directory / CONFIG_NAME
            written = read_json(file)
        try:
            read = cls.from_dict(written)
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{file}: the image processor's options cannot be used: {reason(error)}") from error
        return read.replace(**overrides)

    def to_dict(self) -> dict[str, Any]:
        """Returns the options under upstream's names, as preprocessor_config.json holds them."""
        options = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        del options["max_pixels"]
        return {"image_processor_type": "ViltImageProcessor", **options}

    def save_pretrained(self, directory: str | os.PathLike) -> None:
        """Writes preprocessor_config.json, which transformers reads too."""
        write_json(Path(directory, CONFIG_NAME), self.to_dict())
