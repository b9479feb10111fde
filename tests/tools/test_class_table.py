"""README's table of the classes: it is complete, and its maker notices where it is not the results'."""

import pytest
from support.classes import CLASSES
from support.paths import tool

class_table = tool("check/class_table")
COLUMNS = class_table.COLUMNS

RESULTS = """<testsuites><testsuite>
<testcase classname="tests.modeling.test_classes" name="test_forward[A]">
  <properties><property name="difference" value="1.4e-06"/></properties></testcase>
<testcase classname="tests.modeling.test_classes" name="test_fit[A]"/>
<testcase classname="tests.modeling.test_classes" name="test_fit[B]"><failure message="no"/></testcase>
<testcase classname="tests.modeling.test_classes" name="test_port[A]"><skipped message="no torch"/></testcase>
<testcase classname="tests.test_elsewhere" name="test_loss[A]"/>
</testsuite></testsuites>"""


def test_the_readme_has_every_cell():
    cells = class_table.parse(class_table.section(class_table.README.read_text(encoding="utf-8")))
    assert cells.keys() == {(name, column) for name in CLASSES for column in class_table.COLUMNS}
    assert len(cells) == 16 * 10
    assert {cell: content for cell, content in cells.items() if class_table.mark(content) != class_table.PASSED} == {}


def test_every_column_is_a_test():
    source = "".join(path.read_text(encoding="utf-8") for path in class_table.TESTS)
    assert [test for test in class_table.COLUMNS.values() if f"@every_class\ndef {test}(head" not in source] == []


def test_results_become_cells(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text(RESULTS)
    cells = class_table.read(path)
    assert cells == {
        ("A", "forward"): "✓ 1.4e-6",
        ("A", "fit"): "✓",
        ("B", "fit"): "✗ fails",
        ("A", "port"): "not run",
    }
    table = class_table.make_table(["A", "B"], cells)
    assert class_table.parse(table) == dict.fromkeys(((n, c) for n in "AB" for c in COLUMNS), "not run") | cells


@pytest.mark.parametrize("first", ["✓ 1.0e-06", "not run", "✗ fails"])
def test_the_results_of_two_runs(first):
    cell = ("A", "fit")
    others = {"✓": "✗ fails" if "✗" in first else "✓", "not run": first, "✗ fails": "✗ fails"}
    for second, both in others.items():
        assert class_table.mark(class_table.merged([{cell: first}, {cell: second}])[cell]) == class_table.mark(both)
        assert class_table.mark(class_table.merged([{cell: second}, {cell: first}])[cell]) == class_table.mark(both)


def test_a_readme_that_says_something_else():
    right = {("A", "fit"): "✓ 1.0e-06", ("B", "fit"): "✓"}
    assert class_table.compare(right, right | {("A", "fit"): "✓ 2.0e-06"}) == []
    assert class_table.compare(right, right | {("B", "fit"): "✗ fails"}) == [
        "B fit: ✗ fails",
        "B fit: README says '✓', the tests '✗ fails'",
    ]
    assert class_table.compare({("A", "fit"): "✓"}, right) == ["B fit: README says 'no such cell', the tests '✓'"]
    assert class_table.compare(right | {("C", "fit"): "✓"}, right)


def test_no_results_are_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="holds no results of pytest"):
        class_table.read(tmp_path / "missing.xml")
