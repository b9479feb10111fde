"""Flickr30k Entities: its files, hostile ones, its batches, its recalls."""

import numpy as np
import pytest
from support import datasets, tasks
from support.prepared import stub
from support.tasks import make_loader, pipeline_of

import tfvl
from tfvl.training.data.examples import Phrase, Report
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.tasks.entities import (
    Entities,
    alignment_targets,
    box_ious,
    entities_recalls,
    parse_sentence,
    phrase_matches,
    read_boxes,
    region_matches,
)
from tfvl.training.tasks.table import TASKS

EXACT = {"rtol": 1e-12}  # a few float64 operations


# --- files ----------------------------------------------------------------------------------------------------------


def test_sentences_of_entities():
    sentence, mentions = parse_sentence("A [/EN#12/people/other big man] , [/EN#0/notvisual it] .")
    assert sentence == "A big man , it ."
    assert mentions == [("12", 1, 2), ("0", 4, 4)]


def test_entities(tmp_path):
    examples = list(Entities().read(datasets.write_entities(tmp_path), "val", Report()))
    assert [example.id for example in examples] == ["36979#0", "36979#2", "65567#0", "65567#2"]
    assert examples[0].text == "A young man in a blue shirt near the sea ."
    man = Phrase(0, 2, ((10.0, 10.0, 50.0, 90.0), (60.0, 10.0, 90.0, 90.0)))  # entity 1 has two boxes
    shirt = Phrase(4, 6, ((10.0, 30.0, 50.0, 60.0),))
    assert examples[0].phrases == (man, shirt)  # the sea is a scene without a box
    assert examples[1].phrases == (Phrase(1, 2, ((60.0, 10.0, 90.0, 90.0),)),)


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
    assert {example.images[0] for example in Entities().read(tmp_path, "val", report)} == {"65567"}
    assert sentence in report.sentences[0]


def test_ids_that_lead_elsewhere_are_skipped(tmp_path):
    datasets.write_entities(tmp_path)
    (tmp_path / "val.txt").write_text("../../secret\n65567\n")
    report = Report()
    assert len(list(Entities().read(tmp_path, "val", report))) == 2
    assert "'../../secret' is no id of an image" in report.sentences[0]


# --- batches --------------------------------------------------------------------------------------------------------


def test_phrases_are_read_at_their_last_token(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment")
    inputs, targets, _ = loader(np.array([0, 1]), 0)
    positions = inputs["region_to_phrase_position"]
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"]]
    read = [[tokens[row][place] for place in positions[row] if place >= 0] for row in (0, 1)]
    assert read == [["man", "shirt"], ["people"]]
    assert positions[1, 1] == -1
    for row, place in enumerate((0, 1)):
        example = loader.examples[place]
        matches = phrase_matches(example.phrases, loader.visual.get(example.images[0]))
        expected = matches / np.maximum(matches.sum(axis=1, keepdims=True), 1)
        np.testing.assert_array_equal(targets[row, : len(matches), : matches.shape[1]], np.float32(expected))


def test_phrases_match_regions_in_pixels():
    boxes = np.float32([[10, 10, 50, 90], [60, 10, 90, 95], [0, 0, 5, 5]]) / 100
    regions = tfvl.Regions(np.ones((3, 2)), boxes, width=100, height=100)
    phrases = [Phrase(0, 0, ((10, 10, 50, 90), (60, 10, 90, 90))), Phrase(1, 1, ((40, 40, 50, 50),))]
    assert phrase_matches(phrases, regions).tolist() == [[True, True, False], [False] * 3]
    with pytest.raises(ValueError, match="need boxes, and the image's width and height"):
        phrase_matches(phrases, tfvl.Regions(np.ones((3, 2)), boxes))


def test_phrases_that_are_cut_off_have_no_target(data_sets):
    short = tasks.tokenizer(8)  # [CLS] a young man in a blue [SEP]
    loader = make_loader(data_sets, short, "entities", "VisualBertForRegionToPhraseAlignment")
    boxes = np.float32([[10, 10, 50, 90], [10, 30, 50, 60]]) / 100  # of the man and of his shirt
    regions = tfvl.Regions(np.ones((2, datasets.FEATURE_SIZE)), boxes, width=100, height=100)
    loader.visual.store = {"36979": regions}
    inputs, targets, _ = loader(np.array([0]), 0)
    assert inputs["region_to_phrase_position"].tolist() == [[3, -1]]
    assert targets.tolist() == [[[1, 0], [0, 0]]]


def test_targets_of_phrases_share_among_regions():
    matches = [np.array([[True, False, True], [False, False, False]]), np.array([[False, True]])]
    expected = [[[0.5, 0, 0.5, 0], [0, 0, 0, 0]], [[0, 1, 0, 0], [0, 0, 0, 0]]]
    np.testing.assert_array_equal(alignment_targets(matches, 2, 4), np.float32(expected))


# --- recalls --------------------------------------------------------------------------------------------------------


def test_ious_by_hand():
    ious = box_ious([[0, 0, 2, 2], [5, 5, 5, 5]], [[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [5, 5, 5, 5]])
    np.testing.assert_allclose(ious, [[1, 2 / 6, 0, 0], [0, 0, 0, 0]], **EXACT)


def test_a_region_matches_one_box():
    regions = [[0, 0, 10, 10], [0, 0, 30, 10], [0, 0, 20, 10], [0, 0, 21, 10]]
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10]]
    # IoU with the first box: 1, 1/3, 1/2, 10/21
    assert region_matches(regions, boxes).tolist() == [True, False, True, False]


def test_recalls_and_upper_bound():
    scores = [np.array([[3.0, 2, 1], [1, 2, 3]]), np.array([[1.0, 2.0]]), np.zeros((1, 12))]
    matches = [
        np.array([[True, False, True], [True, False, False]]),
        np.array([[False, False]]),
        np.array([[False] * 10 + [True, False]]),
    ]
    # ranks: 0; 2; none; the eleventh of equal scores
    expected = {"recall@1": 1 / 4, "recall@5": 2 / 4, "recall@10": 2 / 4, "upper_bound": 3 / 4}
    assert entities_recalls(scores, matches) == expected


def test_phrases(data_sets, tokenizer):
    """The regions' scores are the targets of all phrases but the first, which likes a wrong region most."""
    pipeline = pipeline_of(data_sets, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment", batch_size=4)
    _, labels, _ = pipeline.batch(0, 0)
    found = evaluate(
        stub("VisualBertForRegionToPhraseAlignment", lambda inputs: {"logits": labels}), pipeline, TASKS["entities"]
    )
    phrases = 2 * (2 + 1)  # two images, with a sentence of two phrases and one of one
    upper = np.count_nonzero(labels.max(axis=2)) / phrases
    assert 0 < upper < 1
    assert found.metrics == {"recall@1": upper, "recall@5": upper, "recall@10": upper, "upper_bound": upper}
    worst = evaluate(
        stub("VisualBertForRegionToPhraseAlignment", lambda inputs: {"logits": -labels}), pipeline, TASKS["entities"]
    )
    assert worst.metrics["recall@1"] == 0
    assert worst.metrics["upper_bound"] == upper
