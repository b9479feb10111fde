"""What the bundled models of tasks learn from: inputs and labels that are true of their scenes, and no way to cheat."""

import runpy
import sys

import numpy as np
import pytest
from support.paths import ROOT

import tfvl
from tfvl import auto, shapes
from tfvl.modeling.losses import IGNORED

SCENES = 24


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "tools" / "train"))
    yield runpy.run_path(str(ROOT / "tools" / "train" / "shapes_tasks.py"))
    sys.path.pop(0)


@pytest.fixture(scope="module")
def scenes() -> list[shapes.Scene]:
    return [shapes.draw_scene(number, "train") for number in range(SCENES)]


def settings_of(script, name: str):
    return script["read_settings"](name)._replace(rounds=1, scenes=SCENES)


@pytest.fixture(scope="module")
def vilt():
    tokenizer = tfvl.BertTokenizer(list(shapes.caption_vocabulary()), model_max_length=40)
    return tfvl.ViltProcessor(auto.load("shapes-vilt")[1].image_processor, tokenizer)


@pytest.fixture(scope="module")
def visual_bert():
    return auto.load("shapes-visual-bert", detector="shapes-detector")[1]


def examples(script, name: str, scenes, processor, visual=None):
    settings = settings_of(script, name)
    return script["TASKS"][settings.task].examples(scenes, processor, settings, 0, visual or {})


def texts(processor, ids) -> list[str]:
    return processor.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_masked_captions_are_true_and_matches_are_learnt_without_masks(script, scenes, vilt):
    made = examples(script, "shapes-vilt-mlm", scenes, vilt)
    labels, matched = made.labels["labels"], made.labels["matched_label"]
    whole = np.where(labels == IGNORED, made.inputs["input_ids"], labels)
    masked = (labels != IGNORED).any(axis=1)
    assert (matched[masked] == IGNORED).all()
    assert not (made.inputs["input_ids"][~masked] == vilt.tokenizer.mask_token_id).any()
    for caption, place, hidden, match in zip(texts(vilt, whole), made.places, masked, matched, strict=True):
        assert shapes.fits(caption, scenes[place]) == (hidden or match == 1), caption
    assert 0.4 < matched[~masked].mean() < 0.6


def test_the_first_caption_alone_is_the_scenes(script, scenes, vilt):
    made = examples(script, "shapes-vilt-retrieval", scenes, vilt)
    assert made.inputs["input_ids"].shape[:2] == (SCENES, 16)
    assert not made.labels.any()
    for ids, place in zip(made.inputs["input_ids"], made.places, strict=True):
        assert [shapes.fits(text, scenes[place]) for text in texts(vilt, ids)] == [True] + [False] * 15


def test_pairs_are_of_the_drawn_scenes(script, vilt):
    scenes = [shapes.draw_scene(number, "train") for number in range(60)]
    settings = settings_of(script, "shapes-vilt-nlvr2")._replace(scenes=60)
    made = script["TASKS"]["nlvr2"].examples(scenes, vilt, settings, 0, {})
    sentences = list(shapes.pair_sentences(len(made.labels) // shapes.PAIRS, "train", 60, 0))
    assert [scenes[left] for left, _ in made.places] == [each.scenes[0] for each in sentences]
    assert [scenes[right] for _, right in made.places] == [each.scenes[1] for each in sentences]
    assert texts(vilt, made.inputs["input_ids"]) == [each.text for each in sentences]
    assert made.labels.mean() == 0.5


def test_prompts_come_with_their_choices(script, scenes, visual_bert):
    made = examples(script, "shapes-visual-bert-choice", scenes, visual_bert)
    drawn = [each for scene in scenes for each in shapes.choices(scene, 10)]
    assert made.labels.tolist() == [each.right for each in drawn]
    assert made.inputs["input_ids"].shape == (
        len(drawn),
        shapes.CHOICES_OF_A_PROMPT,
        settings_of(script, "shapes-visual-bert-choice").length,
    )
    first = visual_bert.decode(made.inputs["input_ids"][0, drawn[0].right], skip_special_tokens=True)
    assert first == f"{drawn[0].prompt} {drawn[0].choices[drawn[0].right]}"


def test_phrases_end_where_their_labels_are_read(script, scenes, visual_bert):
    scenes = scenes[:6]
    visual = script["seen"](visual_bert, scenes)
    made = examples(script, "shapes-visual-bert-phrases", scenes, visual_bert, visual)
    drawn = [each for scene in scenes for each in shapes.phrases(scene, 8)]
    assert (made.labels.sum(axis=-1) <= 1 + 1e-6).all()
    for each, ids, places, labels in zip(
        drawn, made.inputs["input_ids"], made.inputs["region_to_phrase_position"], made.labels, strict=True
    ):
        words = visual_bert.tokenizer.convert_ids_to_tokens(ids.tolist())
        assert [words[place] for place in places[: len(each.phrases)]] == [
            phrase.split()[-1] for phrase in each.phrases
        ]
        assert (places[len(each.phrases) :] == -1).all()
        assert not labels[len(each.phrases) :].any()
        assert labels[: len(each.phrases)].any()


def test_nothing_is_seen_of_a_withheld_picture(script, visual_bert):
    blank = runpy.run_path(str(ROOT / "tools" / "train" / "shapes_tasks_figures.py"))["blank"]
    visual = {"visual_embeds": np.ones((1, 2, 3), np.float32), "visual_attention_mask": np.ones((1, 2), np.int32)}
    withheld = blank(visual)
    assert not withheld["visual_embeds"].any()
    assert withheld["visual_attention_mask"].all()


def test_training_starts_from_what_is_trained(script, vilt, tmp_path):
    """The words of questions keep their embeddings, and the score of a pair starts as that of a match."""
    bundled = tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt")
    model, processor = script["START"]["mlm"](settings_of(script, "shapes-vilt-mlm"), vilt)
    path = "embeddings/text_embeddings/word_embeddings/embeddings"
    before, after = (
        next(variable.numpy() for variable in each.variables if variable.path.endswith(path))
        for each in (bundled, model)
    )
    np.testing.assert_array_equal(after[: len(before)], before)
    assert len(after) == len(shapes.caption_vocabulary()) == len(processor.tokenizer) == model.config.vocab_size
    model.save_pretrained(tmp_path)
    settings = settings_of(script, "shapes-vilt-retrieval")._replace(start=str(tmp_path))
    ranking, _ = script["START"]["retrieval"](settings, processor)
    np.testing.assert_array_equal(ranking.rank_output.kernel[:, 0], model.itm_score.kernel[:, 1])
    choosing, _ = script["START"]["choice"](settings_of(script, "shapes-visual-bert-choice"), None)
    assert choosing.config.num_labels == 2
