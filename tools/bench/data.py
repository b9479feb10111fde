"""Shows that the readers need no more memory for a larger data set: peak memory and questions per second.

Writes the two files of VQA v2 (ten answers to each question, two questions about each image) for each number of
questions into a temporary directory, and reads them in a process of their own: as a stream (`stream`), and as the
store that training draws from (`examples`), which keeps some 30 bytes for each. Run from the project's root:

    python tools/bench/data.py --counts 100000,1000000
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = ("yes", "no", "2", "red", "a dog", "blue", "tennis", "kitchen")
PER_IMAGE = 2


def question(number: int) -> dict:
    image = 9 + number // PER_IMAGE
    return {"image_id": image, "question": f"What is thing number {number} made of?", "question_id": number}


def annotation(number: int) -> dict:
    given = [ANSWERS[(number + place // 4) % len(ANSWERS)] for place in range(10)]
    answers = [{"answer": one, "answer_confidence": "yes", "answer_id": place} for place, one in enumerate(given, 1)]
    return {
        "question_type": "what is",
        "multiple_choice_answer": given[0],
        "answers": answers,
        "image_id": 9 + number // PER_IMAGE,
        "answer_type": "other",
        "question_id": number,
    }


def write(directory: Path, count: int) -> None:
    """Writes the two files of a training split, each as one line of JSON, as they are published."""
    files: dict[str, tuple[str, Callable[[int], dict]]] = {
        "v2_OpenEnded_mscoco_train2014_questions.json": ("questions", question),
        "v2_mscoco_train2014_annotations.json": ("annotations", annotation),
    }
    directory.mkdir()
    for name, (key, make) in files.items():
        with open(directory / name, "w", encoding="utf-8") as file:
            file.write(f'{{"info": {{"year": 2017}}, "data_subtype": "train2014", "{key}": [')
            file.writelines((", " if number else "") + json.dumps(make(number)) for number in range(count))
            file.write("]}")


def stream(directory: Path) -> int:
    from tfvl.training.data.examples import Report
    from tfvl.training.tasks.table import TASKS

    return sum(1 for _ in TASKS["vqa"].read(directory, "train", Report(strict=True)))


def store(directory: Path) -> int:
    from tfvl.training.tasks.table import TASKS

    return len(TASKS["vqa"].examples(directory, "train", strict=True))


READERS = {"stream": stream, "examples": store}


def memory(name: str) -> int:
    """Returns this process's memory in bytes: VmRSS is that of now, VmHWM the most since it was reset."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def read(reader: str, directory: Path) -> None:
    """Prints what reading costs, as JSON: bytes of memory before it and at most, number of questions, seconds."""
    import tfvl.training.tasks.table  # noqa: F401  # what importing costs is not the data's

    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, start = memory("VmRSS"), time.perf_counter()
    count = READERS[reader](directory)
    print(json.dumps([before, memory("VmHWM"), count, time.perf_counter() - start]))


def main(counts: Annotated[str, typer.Option(help="Numbers of questions.")] = "100000,1000000") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("questions", "files", "reader", "peak", "for the data", "per second"):
        table.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory() as temporary:
        for count in map(int, counts.split(",")):
            directory = Path(temporary, str(count))
            write(directory, count)
            size = sum(path.stat().st_size for path in directory.iterdir())
            for reader in READERS:
                arguments = [sys.executable, __file__, reader, str(directory)]
                environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
                done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
                before, peak, found, seconds = json.loads(done.stdout)
                assert found == count
                cells = f"{peak / 1e6:.0f} MB", f"{(peak - before) / 1e6:.0f} MB", f"{count / seconds:,.0f}"
                table.add_row(f"{count:,}", f"{size / 1e6:,.0f} MB", reader, *cells)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in READERS:
        read(sys.argv[1], Path(sys.argv[2]))
    else:
        typer.run(main)
