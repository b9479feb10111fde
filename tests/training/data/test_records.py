"""The readers, on small copies of the published files: what they give, what they refuse, and that they stream."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import datasets
from support.regions import traced

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Phrase, Report
from tfvl.training.data.records import read_gqa, read_karpathy, read_nlvr2, read_vcr, read_vqa
from tfvl.training.tasks.entities import parse_sentence, read_boxes, read_entities

# How far the peak of memory may grow for ten times the questions, in bytes: the parser's buffers, and what other
# threads of the process need. The 9,000 questions more would take 9.7 MB.
STREAM_SLACK = 300_000
# Peak memory of a process that reads a million questions, above one that reads none, in MB. Measured: 88.
MILLION_MEGABYTES = 150


# --- what the readers give ------------------------------------------------------------------------------------------


def test_vqa(tmp_path):
    report = Report()
    examples = list(read_vqa(*datasets.write_vqa(tmp_path), report))
    assert len(examples) == 24
    assert str(report) == "skipped: nothing"
    assert examples[3] == Example(
        id="10003",
        images=("COCO_train2014_000000000010",),
        text="is thing 3 really really really red?",
        answers=("red",) * 4 + ("odd 3",) * 6,
        group="other",
    )


def test_vqa_without_annotations_and_subtype(tmp_path):
    path = datasets.dump(
        tmp_path / "q.json", {"questions": [{"image_id": "scene-7", "question": "why?", "question_id": 5}]}
    )
    assert list(read_vqa(path, None, Report())) == [Example(id="5", images=("scene-7",), text="why?")]
    questions, _ = datasets.write_vqa(tmp_path / "test", 2)
    questions.write_text(questions.read_text().replace("train2014", "test-dev2015"))
    assert next(read_vqa(questions, None, Report())).images == ("COCO_test2015_000000000009",)


def test_vqa_annotations_in_another_order(tmp_path):
    questions, annotations = datasets.write_vqa(tmp_path)
    expected = list(read_vqa(questions, annotations, Report()))
    content = json.loads(annotations.read_text())
    np.random.default_rng(0).shuffle(content["annotations"])
    datasets.dump(annotations, content)
    assert list(read_vqa(questions, annotations, Report(strict=True))) == expected


def test_gqa(tmp_path):
    examples = list(read_gqa(datasets.write_gqa(tmp_path), Report()))
    assert len(examples) == 6
    assert examples[1] == Example(id="01", images=("2000",), text="Is item 1 red?", answers=("red",), group="query")


def test_nlvr2(tmp_path):
    examples = list(read_nlvr2(datasets.write_nlvr2(tmp_path), Report()))
    assert examples[2] == Example(
        id="dev-0-1-0", images=("dev-0-1-img0", "dev-0-1-img1"), text="There are 2 dogs.", label=1
    )
    assert [example.label for example in examples] == [1, 0] * 4


def test_karpathy(tmp_path):
    path = datasets.write_karpathy(tmp_path)
    train = list(read_karpathy(path, "train", Report()))
    assert len(train) == 10 * 5  # with the images of restval
    assert train[6] == Example(
        id="6", images=("COCO_val2014_000000000001",), text="A photo 1 of embeddings and things ."
    )
    assert [example.id for example in read_karpathy(path, "val", Report())] == ["50", "51", "52", "53", "54"]


def test_vcr_names_people(tmp_path):
    (first, *_) = read_vcr(datasets.write_vcr(tmp_path), "answer", Report())
    assert first == Example(
        id="val-0",
        images=("lsmdc_FILM/FILM_00",),
        text="Does Casey see the car near Riley Casey ?",
        choices=("Yes .", "No Jessie does not .", "Casey sleeps .", "Jessie left ."),
        label=1,
    )
    (first, second, *_) = read_vcr(datasets.write_vcr(tmp_path), "rationale", Report())
    assert first.text == "Does Casey see the car near Riley Casey ? No Jessie does not ."
    assert first.choices[1:3] == ("Riley waves .", "Jessie left .")
    assert (first.label, second.label) == (0, 1)


def test_sentences_of_entities():
    sentence, mentions = parse_sentence("A [/EN#12/people/other big man] , [/EN#0/notvisual it] .")
    assert sentence == "A big man , it ."
    assert mentions == [("12", 1, 2), ("0", 4, 4)]


def test_entities(tmp_path):
    examples = list(read_entities(datasets.write_entities(tmp_path), "val", Report()))
    assert [example.id for example in examples] == ["36979#0", "36979#2", "65567#0", "65567#2"]
    assert examples[0].text == "A young man in a blue shirt near the sea ."
    man = Phrase(0, 2, ((10.0, 10.0, 50.0, 90.0), (60.0, 10.0, 90.0, 90.0)))  # entity 1 has two boxes
    shirt = Phrase(4, 6, ((10.0, 30.0, 50.0, 60.0),))
    assert examples[0].phrases == (man, shirt)  # the sea is a scene without a box
    assert examples[1].phrases == (Phrase(1, 2, ((60.0, 10.0, 90.0, 90.0),)),)


# --- bad input ------------------------------------------------------------------------------------------------------


def spoil(path, name, change) -> None:
    content = json.loads(path.read_text())
    change(content[name])
    datasets.dump(path, content)


@pytest.mark.parametrize(
    ("file", "change", "reason", "sentence"),
    [
        (
            0,
            lambda rows: rows.pop(5),
            "annotations without a question",
            r"question 11005 is annotated, but .*json lacks it",
        ),
        (0, lambda rows: rows.pop(), "annotations without a question", "question 20023 is annotated, but"),
        (1, lambda rows: rows.pop(5), "questions without an annotation", r"question 11005 has no annotation in .*json"),
        (0, lambda rows: rows[5].pop("image_id"), "malformed records", "question 11005, .*it has no 'image_id'"),
        (0, lambda rows: rows[5].update(question=" "), "malformed records", "question 11005, .*' ' is no text"),
        (1, lambda rows: rows[5].update(answers=[{}]), "malformed records", "question 11005, .*it has no 'answer'"),
        (1, lambda rows: rows[5].pop("answers"), "malformed records", "question 11005, .*it has no 'answers'"),
        (1, lambda rows: rows[5].update(answers=7), "malformed records", "question 11005, .*not iterable"),
    ],
)
def test_bad_vqa_records_are_skipped_and_counted_or_refused(tmp_path, file, change, reason, sentence):
    paths = datasets.write_vqa(tmp_path)
    spoil(paths[file], ("questions", "annotations")[file], change)
    report = Report()
    assert len(list(read_vqa(*paths, report))) == 23
    assert dict(report.counts) == {reason: 1}
    with pytest.raises(ValueError, match=sentence):
        list(read_vqa(*paths, Report(strict=True)))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 9, cannot be used: it is not valid JSON"),
        ("[1]", "line 9, cannot be used: list indices"),
        (
            '{"identifier": "dev-0-0-0", "sentence": "a", "label": "maybe"}',
            "line 9, .*'maybe' is neither True nor False",
        ),
        ('{"identifier": 7, "sentence": "a"}', "line 9, .*7 is no text"),
        (r'{"identifier": "dev-0-0-0", "sentence": "a \ud83d"}', "line 9, .*holds half a surrogate pair"),
    ],
)
def test_bad_lines(tmp_path, line, sentence):
    path = datasets.write_nlvr2(tmp_path)
    path.write_text(f"{path.read_text()}{line}\n\n")
    report = Report()
    assert len(list(read_nlvr2(path, report))) == 8
    assert report.counts == {"malformed records": 1}
    with pytest.raises(ValueError, match=sentence):
        list(read_nlvr2(path, Report(strict=True)))


def test_vcr_tags_and_labels_of_nothing(tmp_path):
    changes = [{"question": ["Is", [5], "?"]}, {"answer_label": 4}, {"answer_label": "1"}, {}]
    records = [datasets.vcr_record(place) | new for place, new in enumerate(changes)]
    path = datasets.dump_lines(tmp_path / "val.jsonl", records)
    report = Report()
    assert [example.id for example in read_vcr(path, "answer", report)] == ["val-3"]
    assert report.counts == {"malformed records": 3}
    assert "line 2, cannot be used: the label 4 is no place of 4 choices." in report.sentences[1]


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
    path = tmp_path / "questions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        list(read_vqa(path, None, Report()))


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"no\.json cannot be read: No such file"):
        list(read_gqa(tmp_path / "no.json", Report()))


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused(tmp_path, encoding):
    path = tmp_path / "a.xml"
    path.write_bytes(BOMB.encode(encoding))
    with pytest.raises(ValueError, match="declares a document type"):
        read_boxes(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<annotation>", "not valid XML"),
        ("<a><object><bndbox><xmin>1</xmin></bndbox></object></a>", "a box without xmin, ymin, xmax, ymax"),
    ],
)
def test_bad_annotations_are_skipped(tmp_path, content, sentence):
    datasets.write_entities(tmp_path)
    (tmp_path / "Annotations" / "36979.xml").write_text(content)
    report = Report()
    assert {example.images[0] for example in read_entities(tmp_path, "val", report)} == {"65567"}
    assert sentence in report.sentences[0]


def test_ids_that_lead_elsewhere_are_skipped(tmp_path):
    datasets.write_entities(tmp_path)
    (tmp_path / "val.txt").write_text("../../secret\n65567\n")
    report = Report()
    assert len(list(read_entities(tmp_path, "val", report))) == 2
    assert "'../../secret' is no id of an image" in report.sentences[0]


# --- memory ---------------------------------------------------------------------------------------------------------


def peak(count: int, directory) -> int:
    paths = datasets.write_vqa(directory / str(count), count)
    list(zip(range(10), read_vqa(*paths, Report()), strict=False))  # imports and caches
    with traced() as peak_of:
        assert sum(1 for _ in read_vqa(*paths, Report())) == count
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
from tfvl.training.tasks.table import open_examples
if sys.argv[1] != "none":
    assert len(open_examples("vqa", Path(sys.argv[1]), "train")) == 1_000_000
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
