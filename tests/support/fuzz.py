"""Changes files of every kind at random, each determined by a number, and finds those that are read wrongly.

PYTHONPATH=tests:. python -m support.fuzz 20000      # as TFVL_FUZZ=20000 does in tests/fuzz
"""

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.fuzz_files import Kind, kinds
from support.limited import Outcome, Worker

SEED = "16"
RENEWED_AFTER = 500  # files
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)


@dataclass
class Report:
    """Counts of outcomes, and a list of what is wrong: the file's number, its kind, and a sentence."""

    outcomes: Counter = field(default_factory=Counter)
    wrong: list[tuple[int, str, str]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


# --- changes ---------------------------------------------------------------------------------------------------------


def flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def overwrite(content: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    place = chance.randrange(max(1, len(content) - size + 1))
    value = chance.choice((chance.choice(INTERESTING), chance.getrandbits(64))) % (1 << 8 * size)
    content[place : place + size] = value.to_bytes(size, chance.choice(("little", "big")))


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def remove(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    del content[place : place + chance.randrange(1, 64)]


def repeat(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    content[place:place] = content[place : place + chance.randrange(1, 64)] * chance.choice((1, 2, 1000))


def blank(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    size = min(chance.randrange(1, 512), len(content) - place)
    content[place : place + size] = bytes([chance.choice((0, 0, 0xFF))]) * size


def number(content: bytearray, chance: random.Random) -> None:
    """Replaces a digit of the content by another number, or by no number."""
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    place = chance.choice(places)
    content[place : place + 1] = chance.choice((b"-1", b"1e999", b"99999999", b"9" * 30, b"9" * 5000, b"null", b"[]"))


def brackets(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    content[place:place] = chance.choice((b"[", b"{", b'{"a":', b"(", b"]", b"}", b'"')) * chance.choice(
        (1, 100, 20_000)
    )


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(flip, flip, flip, overwrite, overwrite, cut, remove, repeat, blank, number, brackets),
)


def changed(content: bytes, chance: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if result:
            chance.choice(CHANGES)(result, chance)
    return bytes(result)


# --- a run -----------------------------------------------------------------------------------------------------------


class Fuzzer:
    """Reads changed files by their numbers; the same number always stands for the same file."""

    def __init__(self, directory: Path):
        self.kinds, self.directory, self.report = kinds(), directory, Report()
        self._ours, self._theirs, self._read = Worker("support.readers"), Worker("support.references"), 0
        self._written = {name: self._values(kind, kind.files) for name, kind in self.kinds.items()}
        for name, outcomes in self._written.items():
            assert all(outcome.kind == "value" for outcome in outcomes), (name, outcomes)

    def _values(self, kind: Kind, files: dict[str, bytes]) -> list[Outcome]:
        for old in self.directory.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for name, content in files.items():
            (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / name).write_bytes(content)
        path = self.directory / (kind.read or next(iter(files)))
        return [self._ours.read(reader, path) for reader in kind.readers]

    def run(self, place: int, name: str = "") -> None:
        """Reads the file of this number, of a named kind or of the one whose turn it is, and reports."""
        chance = random.Random(f"{SEED} {place}")
        name = name or list(self.kinds)[place % len(self.kinds)]
        kind = self.kinds[name]
        first, content = next(iter(kind.files.items()))
        outcomes = self._values(kind, kind.files | {first: changed(content, chance)})
        for reader, outcome in zip(kind.readers, outcomes, strict=True):
            self.report.outcomes[outcome.kind] += 1
            self.report.slowest = max(self.report.slowest, outcome.seconds)
            self.report.largest = max(self.report.largest, outcome.memory)
            named = kind.read if kind.read and kind.read in outcome.text else first
            if problem := outcome.wrong(named):
                self._wrong(place, name, f"{reader}: {problem}")
        values = {outcome.value for outcome in outcomes if outcome.kind == "value"}
        if len(values) > 1:
            self._wrong(place, name, f"{' and '.join(kind.readers)} read different values")
        if kind.own and values - {outcome.value for outcome in self._written[name]}:
            self._wrong(place, name, "not what was written")
        if values and kind.reference in self._references():
            reference = self._theirs.read(kind.reference, self.directory / first)
            if reference.kind == "value" and reference.value not in values:
                self._wrong(place, name, "not what the format's own library reads")
        self._read += 1
        if self._read % RENEWED_AFTER == 0:
            self.close()

    def _references(self) -> tuple[str, ...]:
        from support.references import READERS

        return tuple(READERS)

    def _wrong(self, place: int, name: str, sentence: str) -> None:
        self.report.wrong.append((place, name, sentence[:300]))

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def main(count: int, start: int = 0, seconds: float = float("inf")) -> None:
    """Reads files until they are done or the time is over, and prints the counts."""
    began, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        fuzzer = Fuzzer(Path(name))
        for place in range(start, start + count):
            if time.monotonic() - began > seconds:
                break
            before = len(fuzzer.report.wrong)
            fuzzer.run(place)
            done += 1
            for problem in fuzzer.report.wrong[before:]:
                print(*problem, sep=" | ", flush=True)
        fuzzer.close()
    report = fuzzer.report
    print(f"{done} files of {len(fuzzer.kinds)} kinds, {dict(report.outcomes)}, {len(report.wrong)} wrong;")
    print(f"at most {report.slowest:.1f} s of processor time and {report.largest / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(int, sys.argv[2:4]))
