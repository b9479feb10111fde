"""JSON files that cannot be read, and large ones that are read in bounded memory."""

import functools
import subprocess
import sys

import pytest
from support import datasets
from support.regions import traced

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Report
from tfvl.training.tasks.vqa import Vqa

# How far the peak of memory may grow for ten times the questions, in bytes: the parser's buffers, and what other
# threads of the process need. The 9,000 questions more would take 9.7 MB.
STREAM_SLACK = 300_000

# Peak memory of a process that reads a million questions, above one that reads none, in MB. Measured: 88.
MILLION_MEGABYTES = 150


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"questions": [{"question_id": 1, "image_id": 1, "question": "a"}, {"questi', "not valid JSON or torn"),
        ('{"annotations": []}', "no list 'questions', or it is empty"),
        ('{"questions": []}', "no list 'questions', or it is empty"),
        ('{"questions": [3]}', "entry 0 of 'questions' is 3, expected a JSON object"),
        ("", "not valid JSON or torn"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, sentence):
    (tmp_path / "v2_test2015_questions.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        list(Vqa().read(tmp_path, "test", Report()))


DEEP = "[" * 20_000 + "]" * 20_000
WIDE = "[" + "[]," * json_stream.MAX_RECORD_VALUES + "0]"


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (f'{{"question_id": 3, "x": {DEEP}}}', "after 2 records, is nested deeper than 64 levels"),
        (DEEP, "after 2 records, is nested deeper than 64 levels"),
        (f'{{"question_id": 3, "x": {WIDE}}}', "after 2 records, has a record of more than 131072 values"),
    ],
)
def test_records_without_bound(tmp_path, record, sentence):
    path = tmp_path / "questions.json"
    path.write_text(f'{{"questions": [{{"question_id": 1}}, {{"question_id": 2}}, {record}]}}')
    found = json_stream.stream_list(path, "questions")
    assert [next(found), next(found)] == [{"question_id": 1}, {"question_id": 2}]
    with traced() as peak_of, pytest.raises(ValueError, match=rf"questions\.json, {sentence}"):
        next(found)
    assert peak_of() < 20_000_000  # of 50 MB in the widest, gigabytes where it is longer
    path.write_text(f'{{"1": {{}}, "2": {{}}, "3": {record}}}')
    found = json_stream.stream_object(path)
    assert [next(found), next(found)] == [("1", {}), ("2", {})]
    with pytest.raises(ValueError, match=sentence):
        next(found)


def test_brackets_in_texts_are_no_depth(tmp_path, monkeypatch):
    """Whatever the chunks in which a file is read: texts, escapes and many records are no depth and no values."""
    monkeypatch.setattr(json_stream, "MAX_RECORD_VALUES", 9)
    texts = ["[" * 100, '"' + "{" * 100, "\\" * 3 + '"[' * 70, "\\", "é\n\\", ",,,,,,,,,,,,,,"]
    records = [{"x": [text, {'\\"': text}]} for text in texts * 2]
    path = datasets.dump(tmp_path / "a.json", {"skipped": records, "list": records, "kind": "[", "last": records})
    assert list(json_stream.stream_list(path, "list")) == records
    assert json_stream.find_value(path, "kind") == "["
    assert json_stream.find_value(path, "last") is json_stream.find_value(path, "none") is None
    for size in (1, 2, 3, 7, 50):
        with open(path, "rb") as file:
            read = functools.partial(json_stream._Bounded(file, between=2).read, size)
            assert b"".join(iter(read, b"")) == path.read_bytes()


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"no\.json cannot be read: No such file"):
        list(json_stream.stream_object(tmp_path / "no.json"))


def peak(count: int, directory) -> int:
    data = directory / str(count)
    datasets.write_vqa(data, count)
    list(zip(range(10), Vqa().read(data, "train", Report()), strict=False))  # imports and caches
    with traced() as peak_of:
        assert sum(1 for _ in Vqa().read(data, "train", Report())) == count
        return peak_of()


def test_memory_does_not_grow_with_the_number_of_questions(tmp_path):
    assert peak(10_000, tmp_path) < peak(1_000, tmp_path) + STREAM_SLACK


def test_memory_does_not_grow_where_annotations_come_in_another_order(tmp_path):
    records = [{"question_id": number, "text": "x" * 1000} for number in range(5_000)]
    with traced() as peak_of:
        reversed_records = ({"question_id": number, "text": "x" * 1000} for number in range(4_999, -1, -1))
        pairs = json_stream.join(iter(records), reversed_records, "question_id")
        assert all(first["question_id"] == second["question_id"] for first, second in pairs)
        assert peak_of() < 1_000_000  # of 5 MB


MILLION = """
import sys
from pathlib import Path
from tfvl.training.tasks.table import TASKS
if sys.argv[1] != "none":
    assert len(TASKS["vqa"].examples(Path(sys.argv[1]), "train")) == 1_000_000
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory before exec
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_a_million_questions_stream_in_bounded_memory(tmp_path):
    datasets.write_vqa(tmp_path, 1_000_000)
    none, million = (
        int(
            subprocess.run(
                [sys.executable, "-c", MILLION, str(what)], capture_output=True, text=True, check=True
            ).stdout
        )
        for what in ("none", tmp_path)
    )
    print(f"peak memory: {million} MB, {million - none} MB above that of the imports")
    assert million - none < MILLION_MEGABYTES
