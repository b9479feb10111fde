"""Reads a detector's files: `config.yaml` and weights as on the hub, or the authors' pickle of NumPy arrays."""

from collections.abc import Mapping
from pathlib import Path

from tfvl.detector.config import CONFIG_NAME, DetectorConfig
from tfvl.errors import CheckpointError
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.numpy_pickle import is_numpy_pickle, read_numpy_pickle
from tfvl.porting.tensors import Checkpoint


def open_weights(path: Path) -> Checkpoint:
    """Opens the tensors of a directory or weight file in any format, without reading them yet."""
    if path.is_file() and is_numpy_pickle(path):
        return Checkpoint(path, read_numpy_pickle(path))
    return open_checkpoint(path)


def read_config(path: Path, overrides: Mapping) -> DetectorConfig:
    """Reads the configuration beside the weights; the authors' pickle without one has the default configuration."""
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if path.is_file() and is_numpy_pickle(path) and not file.is_file():
        try:
            return DetectorConfig(**overrides)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from None
    return DetectorConfig.from_file(file, overrides)
