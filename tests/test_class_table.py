"""README's table of the classes: it is complete, and tools/make_class_table.py notices where it is not the results'."""

import sys
from pathlib import Path

import pytest
from helpers_classes import CLASSES

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import make_class_table as tool  # noqa: E402

RESULTS = """<testsuites><testsuite>
<testcase classname="tests.test_classes" name="test_forward[A]">
  <properties><property name="difference" value="1.4e-06"/></properties></testcase>
<testcase classname="tests.test_classes" name="test_fit[A]"/>
<testcase classname="tests.test_classes" name="test_fit[B]"><failure message="no"/></testcase>
<testcase classname="tests.test_classes" name="test_port[A]"><skipped message="no torch"/></testcase>
<testcase classname="tests.test_elsewhere" name="test_loss[A]"/>
</testsuite></testsuites>"""


def test_the_readme_has_every_cell():
    cells = tool.parse(tool.section(tool.README.read_text(encoding="utf-8")))
    assert cells.keys() == {(name, column) for name in CLASSES for column in tool.COLUMNS}
    assert len(cells) == 16 * 8
    assert {cell: content for cell, content in cells.items() if tool.mark(content) != tool.PASSED} == {}


def test_every_column_is_a_test():
    source = tool.TESTS.read_text(encoding="utf-8")
    assert [test for test in tool.COLUMNS.values() if f"@every_class\ndef {test}(head" not in source] == []


def test_results_become_cells(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text(RESULTS)
    cells = tool.read(path)
    assert cells == {
        ("A", "forward"): "✓ 1.4e-6",
        ("A", "fit"): "✓",
        ("B", "fit"): "✗ fails",
        ("A", "port"): "not run",
    }
    table = tool.make_table(["A", "B"], cells)
    assert tool.parse(table) == dict.fromkeys(((n, c) for n in "AB" for c in tool.COLUMNS), "not run") | cells


@pytest.mark.parametrize("first", ["✓ 1.0e-06", "not run", "✗ fails"])
def test_the_results_of_two_runs(first):
    cell = ("A", "fit")
    others = {"✓": "✗ fails" if "✗" in first else "✓", "not run": first, "✗ fails": "✗ fails"}
    for second, both in others.items():
        assert tool.mark(tool.merged([{cell: first}, {cell: second}])[cell]) == tool.mark(both)
        assert tool.mark(tool.merged([{cell: second}, {cell: first}])[cell]) == tool.mark(both)


def test_a_readme_that_says_something_else():
    right = {("A", "fit"): "✓ 1.0e-06", ("B", "fit"): "✓"}
    assert tool.compare(right, right | {("A", "fit"): "✓ 2.0e-06"}) == []
    assert tool.compare(right, right | {("B", "fit"): "✗ fails"}) == [
        "B fit: ✗ fails",
        "B fit: README says '✓', the tests '✗ fails'",
    ]
    assert tool.compare({("A", "fit"): "✓"}, right) == ["B fit: README says 'no such cell', the tests '✓'"]
    assert tool.compare(right | {("C", "fit"): "✓"}, right)


def test_no_results_are_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="holds no results of pytest"):
        tool.read(tmp_path / "missing.xml")
