"""Examples, which all data sets are read into; a report on what cannot be used; and a store of examples on disk."""

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
        first, last: indices of its first and last word in the sentence split at spaces.
        boxes: one or more boxes, each the corners x1, y1, x2, y2 in pixels.
    """

    first: int
    last: int
    boxes: tuple[tuple[float, float, float, float], ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """One text about one or two images, and the truth about it.

    Attributes:
        id: the data set's id.
        images: the images' names, without suffix; files and the regions in a `RegionStore` go by them.
        text: question, sentence or caption.
        choices: texts to choose from (VCR).
        answers: the annotators' answers (VQA: ten, GQA: one); empty if they are not published.
        label: the class (NLVR2: 1 for true) or the index of the right choice; None if it is not published.
        group: the name under which results are averaged: VQA's answer type, GQA's structural type.
        phrases: the phrases that have boxes (Flickr30k Entities).
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
        strict: whether the first thing that cannot be used is an error instead.
    """

    SHOWN = 5

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self.shown: list[tuple[str, str]] = []  # (reason, sentence)

    @property
    def sentences(self) -> list[str]:
        """Returns the first `SHOWN` sentences of each reason, in the order in which they were reported."""
        return [sentence for _, sentence in self.shown]

    def skip(self, reason: str, sentence: str) -> None:
        """Counts one more under `reason`; if strict, raises ValueError(sentence)."""
        if self.strict:
            raise ValueError(sentence)
        self.counts[reason] += 1
        if self.counts[reason] <= self.SHOWN:
            self.shown.append((reason, sentence))

    def as_dict(self) -> dict[str, dict]:
        """Returns the count and the sentences of each reason, in alphabetical order."""
        return {
            reason: {"count": count, "sentences": [sentence for of, sentence in self.shown if of == reason]}
            for reason, count in sorted(self.counts.items())
        }

    def __str__(self) -> str:
        counted = ", ".join(f"{reason}: {count}" for reason, count in self.counts.items())
        return f"skipped: {counted or 'nothing'}"


class Examples:
    """A sequence of examples in a temporary file; memory holds some 30 bytes for each.

    It is safe in several threads and after a fork. The file vanishes with the object.

    Args:
        examples: the examples to store.
        usable: a function that returns None for an example that can be used, else a reason and a sentence, under which
            the example is reported and left out.
        report: counts what is left out; by default a new report, which is not strict.
        name: name of the split, for the error.

    Attributes:
        report: the argument `report`.
        lengths: int32 (N,), the number of words of each text with its longest choice.
        images: int32 (N,), a number that examples with the same images share.
        first_of_image: int64, for each of those numbers the index of an example that has it.

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
    """A context in which errors of the temporary file name its directory and the bytes that it has to hold."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}: more than {nbytes:,} bytes are needed; set TMPDIR to a directory with room"
        raise OSError(error.errno, reason, tempfile.gettempdir()) from None


def _hash(names: tuple[str, ...]) -> int:
    """Returns a 64-bit hash of names, which themselves would take ten times as much memory."""
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
