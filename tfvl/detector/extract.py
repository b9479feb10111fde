"""Extracts region features of many images to a `RegionStore`, part by part, so that an interrupted run can go on.

The parts are in a directory beside the future store: each is a store of a few images, which appears when it is
complete, with the digests of these images' files. A run takes the regions of unchanged files from there, extracts the
rest, writes the store and removes the parts.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from tfvl.files.digest import digest_of_files
from tfvl.files.json_file import read_json, write_json
from tfvl.files.quiet import quiet_tensorflow
from tfvl.files.reading import read_file
from tfvl.preprocessing.image.limits import MAX_FILE_BYTES
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore

IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
IN_A_PART = 16  # images in a part, the most that a worker loses when it is killed
SETTINGS = "settings.json"


class Extraction(NamedTuple):
    """The result of an extraction.

    Attributes:
        images: the number of images in the store.
        resumed: the number of them that an earlier run had extracted.
        unreadable: a sentence for each file that could not be used.
    """

    images: int
    resumed: int
    unreadable: tuple[str, ...]


class StorePart(NamedTuple):
    """The images that a worker extracts in one piece, and the path of the store that it writes."""

    detector: str
    overrides: tuple[tuple[str, Any], ...]
    images: tuple[tuple[str, Path], ...]
    path: Path
    dtype: str


def extract(
    images: Mapping[str, Path],
    target: str | os.PathLike,
    detector: str | os.PathLike,
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
    dtype: str = "float32",
    on_error: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Writes the regions that a detector finds in images to the store `target`.

    Args:
        images: the file of each image by id, as from `named_images`.
        target: the `.h5` or `.tfrecord` file; it appears when all is done.
        detector: hub id, directory or bundled name.
        overrides: fields of the detector's configuration, such as `PRESETS["bottom-up"]`.
        workers: number of processes, each with a detector of its own.
        dtype: how features are stored, "float32" or "float16".
        on_error: called with one sentence for each file that cannot be used; the others are extracted all the same.
        on_progress: called with the number of images that are done, and the number of all.

    Raises:
        ValueError: no image could be used, or the parts of an earlier run were made with another detector or options.
        CheckpointError: the detector cannot be loaded.
    """
    target = Path(target).absolute()
    overrides = tuple(sorted((overrides or {}).items()))
    parts = parts_of(target)
    open_parts(parts, {"detector": fingerprint(detector), "overrides": list(map(list, overrides)), "dtype": dtype})
    where = extracted(parts, images)
    resumed = len(where)
    left = [(name, path) for name, path in images.items() if name not in where]
    chunks = [tuple(left[start : start + IN_A_PART]) for start in range(0, len(left), IN_A_PART)]
    first = 1 + max((int(part.stem) for part in parts.glob("*.h5") if part.stem.isdigit()), default=0)
    left_parts = [
        StorePart(str(detector), overrides, chunk, parts / f"{number:08d}.h5", dtype)
        for number, chunk in enumerate(chunks, start=first)
    ]
    unreadable: list[str] = []
    done = resumed
    on_progress(done, len(images))
    for part, problems in run(left_parts, workers):
        for sentence in problems:
            unreadable.append(sentence)
            on_error(sentence)
        where |= dict.fromkeys(stored_ids(part.path), part.path)
        done += len(part.images)
        on_progress(done, len(images))
    if not where:
        if not any(parts.glob("*.h5")):
            shutil.rmtree(parts)
        raise ValueError(f"none of the {len(images)} images could be used; the first: {unreadable[0]}")
    count = RegionStore.write(target, stored(images, where), dtype=dtype)
    shutil.rmtree(parts)
    return Extraction(count, resumed, tuple(unreadable))


def named_images(paths: Iterable[str | os.PathLike]) -> dict[str, Path]:
    """Returns the file of each image by id (its name without the suffix), from files and directories of images.

    Raises:
        ValueError: there is no such file, a directory has no images, or two files have one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: no such file or directory.")
        for file in in_directory(path) if path.is_dir() else [path]:
            if found.setdefault(file.stem, file) != file:
                raise ValueError(f"{found[file.stem]} and {file} would both be image {file.stem!r}; rename one.")
    return found


def in_directory(directory: Path) -> list[Path]:
    """Returns the images below a directory, without those in whose path a name starts with a dot."""
    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(directory).parts)]
    if not files:
        raise ValueError(f"{directory}: the directory has no images; expected {', '.join(IMAGES)} files.")
    return files


def fingerprint(detector: str | os.PathLike) -> str:
    """Returns a digest of the detector's files, which distinguishes its parts from those of other detectors."""
    from tfvl.porting.hub import resolve

    return digest_of_files(resolve(detector), (".safetensors", ".bin", ".pkl", ".yaml"))


def open_parts(parts: Path, settings: dict) -> None:
    """Makes the directory of the parts, or checks that a run with these settings can go on with its parts."""
    file, found = parts / SETTINGS, None
    with contextlib.suppress(ValueError):  # the file does not exist, or is damaged
        found = read_json(file)
    if found is None:
        for part in parts.glob("*.h5"):  # the settings of these parts are not known
            part.unlink()
    elif any(parts.glob("*.h5")) and found != settings:
        raise ValueError(
            f"{parts} is of an earlier run with another detector or other options; go on with those, or remove it."
        )
    if found != settings:
        write_json(file, settings)


def parts_of(target: Path) -> Path:
    """Returns the directory with the parts of a store."""
    return target.with_name(f".{target.name}.parts")


def remove_finished(target: Path) -> None:
    """Removes the parts of a store that is complete, if its run was killed before it removed them."""
    parts = parts_of(target)
    if target.exists() and parts.is_dir():
        newest = max((path.stat().st_mtime_ns for path in parts.iterdir()), default=0)
        if newest <= target.stat().st_mtime_ns:
            shutil.rmtree(parts)


def extracted(parts: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Returns the images whose regions an earlier run extracted, each with its part; damaged parts are removed.

    Images count only if the content of their files has not changed since.
    """
    found: dict[str, Path] = {}
    for part in sorted(parts.glob("*.h5")):
        try:
            digests = read_json(digests_of(part))
            with RegionStore(part) as store:
                names = [regions.image_id for regions in map(store.__getitem__, store)]  # reads all, to find damage
        except ValueError:
            part.unlink()
            continue
        same = [name for name in names if name in images and digest_of(images[name]) == digests.get(name)]
        found |= dict.fromkeys(same, part)
    return found


def digests_of(part: Path) -> Path:
    """Returns the file with the digests of a part's images, which is written before the part."""
    return part.with_suffix(".json")


def digest_of(path: Path) -> str | None:
    """Returns a digest of an image file's content, or None if the file cannot be read."""
    try:
        return hashlib.sha256(read_file(path, MAX_FILE_BYTES)).hexdigest()
    except (OSError, ValueError):
        return None


def stored_ids(part: Path) -> list[str]:
    """Returns the ids of a part's images; there is no part, and there are no ids, if none of its files was readable."""
    if not part.exists():
        return []
    with RegionStore(part) as store:
        return list(store)


def stored(images: Iterable[str], where: Mapping[str, Path]) -> Iterator[Regions]:
    """Yields the regions of the images that are in one of the parts, in the order of `images`."""
    opened = functools.lru_cache(maxsize=8)(RegionStore)
    for name in images:
        if name in where:
            yield opened(where[name])[name]


def run(parts: Sequence[StorePart], workers: int) -> Iterator[tuple[StorePart, list[str]]]:
    """Extracts the parts; yields each one when it is done, with a sentence for each file that could not be used."""
    if workers == 1 or len(parts) < 2:
        yield from ((part, extract_part(part)) for part in parts)
        return
    workers = min(workers, len(parts))
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    with ProcessPoolExecutor(workers, spawn, initializer=limit_threads, initargs=(threads,)) as pool:
        running = {pool.submit(extract_part, part): part for part in parts}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BrokenProcessPool:
            raise ValueError(
                "a worker was killed, perhaps for want of memory; run the command again with fewer workers, "
                "and it goes on where it was."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def limit_threads(threads: int) -> None:
    """Limits the threads of this process, which shares the cores with other workers."""
    quiet_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


@functools.cache
def loaded(detector: str, overrides: tuple):
    from tfvl.detector.model import RegionDetector

    return RegionDetector.from_pretrained(detector, **dict(overrides))


def extract_part(part: StorePart) -> list[str]:
    """Writes one part; returns a sentence for each file that could not be used."""
    detector = loaded(part.detector, part.overrides)
    found, digests, problems = [], {}, []
    for name, path in part.images:
        try:
            contents = read_file(path, MAX_FILE_BYTES)
            found += detector.regions(contents, [name])
            digests[name] = hashlib.sha256(contents).hexdigest()
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except ValueError as error:
            sentence = str(error).removeprefix("images[0]: ")
            problems.append(sentence if str(path) in sentence else f"{path}: {sentence}")
    if found:
        write_json(digests_of(part.path), digests)
        RegionStore.write(part.path, found, dtype=part.dtype)
    return problems
