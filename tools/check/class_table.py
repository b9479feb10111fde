"""Makes README's table of the public model classes from the results of test_classes.py and
test_backends.py in tests/modeling/.

    python tools/check/class_table.py                          # runs the tests and writes the table into README.md
    python tools/check/class_table.py --check                  # runs the tests; fails where README says something else
    python tools/check/class_table.py --check --junit a.xml --junit b.xml    # takes results that are there already

Run it where torch, transformers and JAX are installed, or give results of such runs as well: a cell whose test was
skipped in all of them is "not run". The check is of the marks, not of the differences' digits.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "tests" / "README.md"
TESTS = tuple(ROOT / "tests" / "modeling" / name for name in ("test_classes.py", "test_backends.py"))
MARKERS = ("<!-- made by tools/check/class_table.py -->", "<!-- end of what tools/check/class_table.py made -->")
COLUMNS = {  # title: test in one of `TESTS`
    "forward": "test_forward",
    "loss": "test_loss",
    "gradient": "test_gradient",
    "port": "test_port",
    "round trip": "test_round_trip",
    "fit": "test_fit",
    ".keras": "test_keras_file",
    "SavedModel": "test_saved_model",
    "JAX": "test_on_jax",
    "PyTorch": "test_on_torch",
}
PASSED, FAILED, NOT_RUN = "✓", "✗ fails", "not run"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where README is wrong")
    parser.add_argument("--junit", action="append", type=Path, help="results of pytest's --junitxml; may be repeated")
    arguments = parser.parse_args()
    cells = merged([read(path) for path in arguments.junit] if arguments.junit else [run()])
    table, text = make_table(public_classes(), cells), README.read_text(encoding="utf-8")
    if not arguments.check:
        text = replaced(text, table)
        README.write_text(text, encoding="utf-8")
    problems = compare(parse(section(text)), parse(table))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(parse(table))} cells, {len(problems)} of them failing, not run or wrong in README.md")
    return 1 if problems else 0


def compare(in_readme: dict[tuple[str, str], str], by_tests: dict[tuple[str, str], str]) -> list[str]:
    """Returns the problems, a line each: cells that do not pass, and cells that README states differently."""
    problems = []
    for cell in by_tests | in_readme:
        expected, written = (mark(cells.get(cell, "no such cell")) for cells in (by_tests, in_readme))
        if expected != PASSED:
            problems.append(f"{' '.join(cell)}: {expected}")
        if written != expected:
            problems.append(f"{' '.join(cell)}: README says {written!r}, the tests {expected!r}")
    return problems


def public_classes() -> list[str]:
    """Returns the names of the model classes of `tfvl.__all__`, in its order."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from support.classes import CLASSES

    return CLASSES


def run() -> dict[tuple[str, str], str]:
    """Runs the tests; returns the cells."""
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory) / "results.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            *map(str, TESTS),
            "-q",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={results}",
        ]
        subprocess.run(command, cwd=ROOT, check=False)
        return read(results)


def read(path: Path) -> dict[tuple[str, str], str]:
    """Returns the cells by (class, column), from pytest's XML. Raises SystemExit for any other file."""
    columns = {test: column for column, test in COLUMNS.items()}
    try:
        cases = ElementTree.parse(path).getroot().iter("testcase")
    except (OSError, ElementTree.ParseError) as error:
        raise SystemExit(f"{path} holds no results of pytest ({error}).") from error
    cells = {}
    for case in cases:
        test = re.fullmatch(r"(\w+)\[(\w+)\]", case.get("name", ""))
        if test and test[1] in columns and case.get("classname", "").endswith(tuple(path.stem for path in TESTS)):
            cells[test[2], columns[test[1]]] = cell_of(case)
    return cells


def cell_of(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    if case.find("skipped") is not None:
        return NOT_RUN
    difference = case.find("properties/property[@name='difference']")
    if difference is None:
        return PASSED
    number = f"{float(difference.get('value')):.1e}" if float(difference.get("value")) else "0"
    return f"{PASSED} {number.replace('e-0', 'e-')}"


def merged(results: list[dict]) -> dict[tuple[str, str], str]:
    """Merges the cells of several runs: a test that failed anywhere fails, one that ran anywhere is not skipped."""
    cells = {}
    for cell, content in ((cell, content) for each in results for cell, content in each.items()):
        rank = (NOT_RUN, PASSED, FAILED).index
        if cell not in cells or rank(mark(content)) >= rank(mark(cells[cell])):
            cells[cell] = content
    return cells


def mark(content: str) -> str:
    """Returns a cell's mark, without its number."""
    return PASSED if content.startswith(PASSED) else content


def make_table(classes: list[str], cells: dict[tuple[str, str], str]) -> str:
    rows = [["class", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    rows += [[f"`{name}`", *(cells.get((name, column), NOT_RUN) for column in COLUMNS)] for name in classes]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace(" --- ", "---")


def parse(table: str) -> dict[tuple[str, str], str]:
    """Reads a table that `make_table` has written; returns the cells by (class, column)."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    if not rows:
        return {}
    header, _, *body = rows
    return {
        (row[0].strip("`"), column): cell for row in body for column, cell in zip(header[1:], row[1:], strict=False)
    }


def section(text: str) -> str:
    """Returns the text between the markers of README. Raises SystemExit where they are missing."""
    start, end = (text.find(marker) for marker in MARKERS)
    if not 0 <= start < end:
        raise SystemExit(f"{README} has no table between {MARKERS[0]} and {MARKERS[1]}.")
    return text[start + len(MARKERS[0]) : end].strip()


def replaced(text: str, table: str) -> str:
    section(text)  # the markers are there
    start, end = text.index(MARKERS[0]) + len(MARKERS[0]), text.index(MARKERS[1])
    return f"{text[:start]}\n\n{table}\n\n{text[end:]}"


if __name__ == "__main__":
    sys.exit(main())
