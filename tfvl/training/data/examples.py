"""What every data set is read into: examples, a report on what could not be used, and a store of examples on disk."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A part of a sentence that names something in the image (Flickr30k Entities).

    Attributes:
        first, last: places of its words in the sentence split at spaces, both included.
        boxes: corners x1, y1, x2, y2 in pixels, one or more.
    """

    first: int
    last: int
    boxes: tuple[tuple[float, float, float, float], ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """One text about one image or two, and what is right.

    Attributes:
        id: as the data set has it.
        images: the images' names, without suffix: of files, and of regions in a `RegionStore`.
        text: question, sentence or caption.
        choices: texts to choose from (VCR).
        answers: of the annotators (VQA: ten, GQA: one); none where they are not published.
        label: class (NLVR2: 1 for true) or place of the right choice; None where it is not published.
        group: what results are counted by: VQA's answer type, GQA's structural type.
        phrases: with their boxes (Flickr30k Entities).
    """

    id: str
    images: tuple[str, ...]
    text: str
    choices: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    label: int | None = None
    group: str = ""
    phrases: tuple[Phrase, ...] = ()


class Report:
    """Counts what could not be used, by reason, and keeps the first sentences.

    Args:
        strict: refuse the first thing that cannot be used instead.
    """

    SHOWN = 5

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self.shown: list[tuple[str, str]] = []  # (reason, sentence)

    @property
    def sentences(self) -> list[str]:
        """The first `SHOWN` sentences of each reason, in the order in which they were reported."""
        return [sentence for _, sentence in self.shown]

    def skip(self, reason: str, sentence: str) -> None:
        """Counts one more under `reason`; where strict, raises ValueError(sentence)."""
        if self.strict:
            raise ValueError(sentence)
        self.counts[reason] += 1
        if self.counts[reason] <= self.SHOWN:
            self.shown.append((reason, sentence))

    def as_dict(self) -> dict[str, dict]:
        """The count and the sentences of each reason, in alphabetical order."""
        return {
            reason: {"count": count, "sentences": [sentence for of, sentence in self.shown if of == reason]}
            for reason, count in sorted(self.counts.items())
        }

    def __str__(self) -> str:
        counted = ", ".join(f"{reason}: {count}" for reason, count in self.counts.items())
        return f"skipped: {counted or 'nothing'}"


class Examples:
    """Examples in a temporary file, read by their place; memory holds some 30 bytes for each.

    Safe in several threads and after a fork. The file vanishes with the object.

    Args:
        examples: to be stored.
        usable: asked for each example; a sentence says what is wrong with it, and it is reported and left out.
        report: what was left out; a new one that refuses nothing, by default.
        name: of the split, for the error.

    Attributes:
        report: as given.
        lengths: int32 (N,), the number of words of each text with its longest choice.
        images: int32 (N,), one number for all examples with the same images.
        first_of_image: int64, for each of those numbers the place of an example.

    Raises:
        ValueError: no example is left.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        usable: Callable[[Example], tuple[str, str] | None] = lambda example: None,
        report: Report | None = None,
        name: str = "the split",
    ):
        self.report = report or Report()
        self._file = tempfile.TemporaryFile(prefix="tfvl-examples-")  # noqa: SIM115  # lives as long as the object
        offsets, lengths, hashes = array("q", [0]), array("i"), array("Q")
        digest = hashlib.sha256()
        for example in examples:
            if problem := usable(example):
                self.report.skip(*problem)
                continue
            line = json.dumps(_as_list(example), ensure_ascii=False).encode("utf-8", "surrogatepass")
            with full_disk_named(offsets[-1] + len(line)):
                self._file.write(line)
            digest.update(line)
            offsets.append(offsets[-1] + len(line))
            longest = max((choice.count(" ") + 1 for choice in example.choices), default=0)
            lengths.append(example.text.count(" ") + 1 + longest)
            hashes.append(_hash(example.images))
        with full_disk_named(offsets[-1]):
            self._file.flush()
        self.digest = digest.hexdigest()
        self._offsets, self.lengths = np.array(offsets), np.array(lengths)
        _, self.first_of_image, images = np.unique(np.array(hashes), return_index=True, return_inverse=True)
        self.images = images.astype(np.int32)
        if not len(self):
            raise ValueError(f"{name} is empty: no example can be used ({self.report}).")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> Example:
        if not 0 <= place < len(self):
            raise IndexError(f"example {place} of {len(self)}")
        start, end = self._offsets[place : place + 2].tolist()
        return _from_list(
            json.loads(os.pread(self._file.fileno(), end - start, start).decode("utf-8", "surrogatepass"))
        )

    def __reduce__(self):
        raise TypeError("Examples lie in a temporary file of this process; read the data set again in the other")


@contextlib.contextmanager
def full_disk_named(nbytes: int) -> Iterator[None]:
    """An error of the temporary file, with its directory and the bytes that it has to hold."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}: more than {nbytes:,} bytes are needed; set TMPDIR to a directory with room"
        raise OSError(error.errno, reason, tempfile.gettempdir()) from None


def _hash(names: tuple[str, ...]) -> int:
    """64 bits that stand for the names, which would take ten times as much memory."""
    text = "\0".join(names).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _as_list(example: Example) -> list:
    values = [getattr(example, field.name) for field in dataclasses.fields(example)]
    return [*values[:-1], [dataclasses.astuple(phrase) for phrase in example.phrases]]


def _from_list(listed: list) -> Example:
    values: list[Any]
    *values, phrases = (tuple(value) if isinstance(value, list) else value for value in listed)
    phrases = tuple(Phrase(first, last, tuple(tuple(box) for box in boxes)) for first, last, boxes in phrases)
    names = [field.name for field in dataclasses.fields(Example)]
    return Example(**dict(zip(names, [*values, phrases], strict=True)))
