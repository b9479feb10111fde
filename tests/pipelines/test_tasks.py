"""Each task: found from the head, what its answers hold, and the sentence for a head that cannot do it."""

import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint import LABELS, save_tiny, tiny_model, tiny_processor
from support.explained import ASKED, CAT, REGIONS, ROCKET, answers, saved
from support.once import once
from support.region_models import some_regions

import tfvl
from tfvl import shapes
from tfvl.answers.rows import HEADS
from tfvl.pipelines.results import TASKS, TASKS_OF_KINDS

TOLERANCE = 1e-5  # other graphs sum in other orders
MORE = {"phrase-grounding": {"phrase", "box"}, "token-classification": {"token"}}


def test_every_head_that_answers_is_asked():
    assert set(ASKED) == {name for name, head in HEADS.items() if TASKS_OF_KINDS[head.kind]}
    assert {task for tasks in TASKS_OF_KINDS.values() for task in tasks} <= TASKS.keys()


@pytest.mark.parametrize("head", ASKED)
def test_every_head(head):
    task, _ = ASKED[head]
    pipe = tfvl.pipeline(saved(head))
    assert pipe.task == task
    found = answers(head)
    assert found
    assert all(each.keys() == {"answer", "score"} | MORE.get(task, set()) for each in found)
    if task not in MORE:
        assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    for other in TASKS.keys() - set(pipe.tasks):
        with pytest.raises(ValueError, match=f"cannot do {other}; it can do {', '.join(pipe.tasks)}"):
            pipe.task = other


@pytest.mark.parametrize("head", ["ViltForImageAndTextRetrieval", "ViltForQuestionAnswering", "ViltForMaskedLM"])
def test_the_task_of_an_exported_model_follows_from_its_signatures(head):
    def export(path):
        tfvl.export.saved_model(*tfvl.auto.load(saved(head)), path, top_k=1)

    exported, (task, asked) = tfvl.pipeline(once(f"pipelines/{head}-1/1", export)), ASKED[head]
    assert exported.task == task
    (answer,) = exported(**asked, top_k=3)
    expected = answers(head)[0]
    assert answer["answer"] == expected["answer"]
    assert answer["score"] == pytest.approx(expected["score"], abs=TOLERANCE)


def test_rank_is_the_matrix_of_scores():
    pipe, texts = tfvl.pipeline(saved("ViltForImageAndTextRetrieval")), ["a red circle", "a square", "how many"]
    matrix = pipe.rank([CAT, ROCKET], texts)
    assert matrix.shape == (2, 3)
    assert matrix.dtype == np.float32
    model, processor = tiny_model("ViltForImageAndTextRetrieval"), tiny_processor()
    for row, image in zip(matrix, (CAT, ROCKET), strict=True):
        expected = [float(model(processor([image.read_bytes()], [text]))["logits"][0, 0]) for text in texts]
        np.testing.assert_allclose(row, expected, rtol=0, atol=TOLERANCE)
    assert pipe.rank(CAT, "a square").shape == (1, 1)
    streamed = pipe.rank(iter([CAT, ROCKET]), (text for text in texts), batch_size=np.int64(4))
    np.testing.assert_allclose(streamed, matrix, rtol=0, atol=TOLERANCE)
    contents = tf.data.Dataset.from_tensor_slices([CAT.read_bytes(), ROCKET.read_bytes()])
    of_data = pipe.rank(contents, tf.data.Dataset.from_tensor_slices(texts))
    np.testing.assert_allclose(of_data, matrix, rtol=0, atol=TOLERANCE)
    for wrong in (-1, 0, "2", 1.5, True):
        with pytest.raises(ValueError, match=f"batch_size is {wrong!r}, expected a whole number from 1 on"):
            pipe.rank([CAT], texts, batch_size=wrong)
    with pytest.raises(ValueError, match="no such file"):
        pipe.rank([CAT, "nothing.png"], texts)
    with pytest.raises(ValueError, match="rank is for the task image-text-retrieval"):
        tfvl.pipeline(saved("ViltForMaskedLM")).rank([CAT], texts)


def test_rank_of_a_pretraining_model():
    pipe = tfvl.pipeline(saved("VisualBertForPreTraining"), "image-text-retrieval")
    regions = [some_regions(3), some_regions(5)]
    matrix = pipe.rank(regions=regions, texts=["a red circle", "is"])
    (answer,) = pipe(regions=regions[1], text="is")
    assert matrix[1, 1] == pytest.approx(answer["score"], abs=TOLERANCE)
    assert answer["answer"] == "is"


def test_lxmert_answers_questions_where_it_is_asked_to():
    pipe = tfvl.pipeline(saved("LxmertForPreTraining"), "visual-question-answering")
    assert {each["answer"] for each in pipe(regions=REGIONS, question="how many?")} == set(LABELS.values())


def test_regions_are_detected():
    pipe = tfvl.pipeline("shapes-detector")
    assert pipe.task == "region-detection"
    found = pipe(shapes.draw_scene(23).image())
    assert {"answer", "score", "attribute", "box"} == found[0].keys()
    good, bad = pipe([CAT, b"torn"])
    assert "error" in bad[0]
    assert "error" not in (good or [{}])[0]


@pytest.mark.parametrize(
    ("src", "task", "sentence"),
    [
        ("shapes-vilt", "fill-mask", "shapes-vilt cannot do fill-mask; it can do visual-question-answering"),
        ("shapes-vilt", "region-detection", "it can do visual-question-answering"),
        ("shapes-detector", "fill-mask", "it can do region-detection"),
        ("shapes-vilt", "captioning", "task is 'captioning', expected one of visual-question-answering, "),
    ],
)
def test_tasks_that_a_source_cannot_do(src, task, sentence):
    with pytest.raises(ValueError, match=sentence):
        tfvl.pipeline(src, task)


def test_a_model_without_a_head(tmp_path):
    with pytest.raises(ValueError, match="no head that answers"):
        tfvl.pipeline(save_tiny(tmp_path, "ViltModel"))
