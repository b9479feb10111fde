"""Finds a checkpoint by a bundled name, a local path, or a repository of the Hugging Face hub."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError, OutOfReachError
from tfvl.porting.formats import WEIGHT_FILES
from tfvl.porting.originals.reading import config_values, is_alone

BUNDLED_DIRECTORY = Path(__file__).parent.parent / "bundled"
BUNDLED_DETECTOR = "shapes-detector"

# The vocabulary that all three models were trained with is bundled too, under its names on the hub.
VOCABULARY = "bert-base-uncased"
VOCABULARY_NAMES = (VOCABULARY, f"google-bert/{VOCABULARY}")
VOCABULARY_SIZE = 30522

# The files that are downloaded of a repository: the small ones, and the weights in the first format that it has.
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "config.yaml",  # of a detector, with the names of its classes
    "objects_vocab.txt",
    "attributes_vocab.txt",
)
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt")
WEIGHT_PATTERNS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("tf_model.h5",),
)

# the options of a download: arguments of `resolve` that every `from_pretrained` takes
OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "subfolder")

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits the keywords of a `from_pretrained` into those for the hub and the others."""
    of_hub = {name: value for name, value in options.items() if name in OPTIONS}
    return of_hub, {name: value for name, value in options.items() if name not in OPTIONS}


def resolve(
    src: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
    weights: bool = True,
) -> Path:
    """Returns the directory, or the single weight file, that `src` names; downloads it if it is on the hub.

    Args:
        src: a bundled model (`shapes-vilt`), a directory or file, or a hub id such as `dandelin/vilt-b32-mlm`. If
            `weights` is False, `bert-base-uncased` is also bundled, with its vocabulary.
        revision: branch, tag or commit of the hub repository.
        token: hub token for gated and private repositories; None takes the one that `hf auth login` stored.
        cache_dir: where the hub's files are kept; None is the hub's own cache.
        local_files_only: do not use the network, as `HF_HUB_OFFLINE=1` forbids it everywhere.
        subfolder: the folder of the repository, or of a directory, that has the files.
        weights: fetch the weights too; processors and configurations need only the small files.

    Raises:
        CheckpointError: nothing has this name, or the hub refused it; the sentence says what to do.
    """
    bundled = {path.name: path for path in BUNDLED_DIRECTORY.glob("shapes-*")}
    path = bundled.get(str(src), Path(src).expanduser())
    if path.exists() and src != "":
        return _below(path, subfolder)
    if src in VOCABULARY_NAMES and not weights and revision is None:
        return BUNDLED_DIRECTORY / VOCABULARY
    if not isinstance(src, str) or not HUB_ID.fullmatch(src) or src.startswith("."):
        raise CheckpointError(
            f"{src}: there is no such directory or file, and a hub id looks like `owner/name`; "
            f"bundled models are {', '.join(sorted(bundled))}."
        )
    options = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    return _from_hub(src, weights, subfolder, **options)


def _below(path: Path, subfolder: str) -> Path:
    """Returns the subfolder of a directory. Raises CheckpointError if the directory has none of this name."""
    found = path / (subfolder or "")
    if not found.exists() or not found.resolve().is_relative_to(path.resolve()):
        raise CheckpointError(f"{path}: there is no subfolder {subfolder!r} in it.")
    return found


def tokenizer_directory(src: str | Path, **hub_options) -> Path:
    """Returns the directory of a checkpoint's tokenizer: its own, or else that of the bundled vocabulary.

    The repositories `uclanlp/visualbert-*` hold no vocabulary; transformers' documentation takes bert-base-uncased's.
    It is taken if the model has as many words, by `config.json`, or by the weights of an original without that file.

    Args:
        src: as in `resolve`; a weight file stands for its directory.
        **hub_options: those of `OPTIONS`.

    Raises:
        CheckpointError: there is no such checkpoint, or its `config.json` is damaged.
    """
    path = resolve(src, weights=False, **hub_options)
    directory = path if path.is_dir() else path.parent
    has_vocabulary = any((directory / name).is_file() for name in VOCABULARY_FILES)
    if has_vocabulary or not (is_alone(path) or (directory / "config.json").is_file()):
        return directory
    size = config_values(path, heads=1).get("vocab_size", VOCABULARY_SIZE)  # does not depend on the number of heads
    return BUNDLED_DIRECTORY / VOCABULARY if size == VOCABULARY_SIZE else directory


def _from_hub(repo: str, weights: bool, subfolder: str, **options) -> Path:
    """Downloads a repository, with weights in its best format; returns its snapshot in the hub's cache."""
    directory, start = None, f"{subfolder}/" if subfolder else ""
    for patterns in WEIGHT_PATTERNS if weights else ((),):
        snapshot = _snapshot(repo, [f"{start}{name}" for name in (*SMALL_FILES, *patterns)], **options)
        directory = _below(snapshot, subfolder)
        if not weights or any((directory / name).is_file() for name in WEIGHT_FILES):
            return directory
    raise CheckpointError(
        f"{repo}: neither the repository nor its copy in the cache ({directory}) has any of {', '.join(WEIGHT_FILES)}."
    )


def _snapshot(repo: str, patterns: list[str], **options) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = f"{repo} (revision {options['revision']})" if options["revision"] else repo
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, **options))
    except errors.HFValidationError as error:
        raise CheckpointError(f"{repo}: no such directory, and not a valid hub id ({_line(error)}).") from None
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{at}: the repository is gated; accept its terms on huggingface.co/{repo}, then pass token= or run "
            "`hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{at}: no such local directory and no such repository on the hub; if it is private, pass token= or run "
            "`hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repo}: the repository has no revision {options['revision']!r}.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError):
        raise OutOfReachError(
            f"{at}: no such local directory, not in the hub's cache, and the hub is out of reach or offline mode is on "
            "(HF_HUB_OFFLINE, local_files_only); download it once with a connection, or give a directory."
        ) from None
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"{at}: the hub refused it: {_line(error)}.") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
