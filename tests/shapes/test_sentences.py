"""Captions, choices, phrases, sentences about two scenes: true where they say so, worthless without the picture."""

import itertools
from collections import Counter

import numpy as np
import pytest

from tfvl import shapes

SCENES = 300


@pytest.fixture(scope="module")
def scenes() -> list[shapes.Scene]:
    return [shapes.draw_scene(seed) for seed in range(SCENES)]


def center(thing: shapes.Thing) -> tuple[float, float]:
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2


def named(scene: shapes.Scene, name: str) -> list[shapes.Thing]:
    """Returns the objects that a name fits, by its words alone."""
    words = set(name.replace("the ", "").replace("an ", "").replace("a ", "").split()) - {"object", "objects"}
    words = {word.removesuffix("s") for word in words}
    return [thing for thing in scene.things if words <= {thing.shape, thing.color}]


def stands(relation: str, one: shapes.Thing, other: shapes.Thing) -> bool:
    """Returns whether a relation holds by pixels: the centres are as far apart as those of neighbouring cells."""
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[relation]
    return sign * (center(other)[axis] - center(one)[axis]) > shapes.SIZES[0] / 2 and one.cell[axis] != other.cell[axis]


def test_captions_are_true_and_the_same_on_every_call(scenes):
    for scene in scenes:
        said = shapes.captions(scene, 8)
        assert said == shapes.captions(scene, 8)
        assert len(set(said)) == len(said) >= 1
        for caption in said:
            assert shapes.fits(caption, scene), (scene.seed, caption)
            for relation in shapes.RELATIONS:
                if f" is {relation} the " in caption:
                    one, _, other = caption.partition(f" is {relation} ")
                    assert stands(relation, *named(scene, one), *named(scene, other))


def test_the_numbers_of_a_seed_are_frozen():
    """The shipped models were trained on these."""
    scene = shapes.draw_scene(0)
    assert shapes.captions(scene, 3) == [
        "there are 2 red objects",
        "the purple object is above the yellow circle",
        "the circle is below the purple square",
    ]
    sentence = next(shapes.pair_sentences(1, "train"))
    assert (sentence.text, sentence.label) == ("there is a blue object in the left image", True)


def test_changed_captions_are_false_where_they_are_called_so(scenes):
    for scene in scenes[:100]:
        for caption in shapes.captions(scene, 4):
            false = shapes.false_captions(scene, caption)
            assert false
            for each in false:
                assert sum(a != b for a, b in zip(each.split(), caption.split(), strict=True)) in (1, 2)  # "a", "an"
                assert not shapes.fits(each, scene)


def test_hidden_words_follow_from_the_rest(scenes):
    hidden = Counter()
    for scene in scenes:
        for caption in shapes.captions(scene, 4):
            rows = shapes.changed_captions(caption)
            for place in shapes.hidden_words(scene, caption):
                hidden[caption.split()[place]] += 1
                assert not any(shapes.fits(each, scene) for each in rows[place])
    assert hidden.keys() >= {*shapes.COLORS, *shapes.SHAPES, "left", "right", "above", "below", "top", "bottom", "2"}
    assert max(hidden.values()) < 0.2 * hidden.total()  # so the most frequent word is a poor guess


def test_a_sentence_of_another_form_is_refused():
    with pytest.raises(ValueError, match="'what color is it' is no caption of drawn scenes"):
        shapes.fits("what color is it", shapes.draw_scene(0))


def test_one_choice_is_true(scenes):
    places = Counter()
    for scene in scenes:
        for choice in shapes.choices(scene, 3):
            assert len(set(choice.choices)) == shapes.CHOICES_OF_A_PROMPT
            places[choice.right] += 1
            subject = choice.prompt.removesuffix("?")
            for place, text in enumerate(choice.choices):
                if subject.startswith("where is "):
                    relation = next(relation for relation in shapes.RELATIONS if text.startswith(f"{relation} "))
                    (one,) = named(scene, subject.removeprefix("where is "))
                    others = named(scene, text.removeprefix(f"{relation} "))
                    true = any(stands(relation, one, other) for other in others if other is not one)
                else:
                    relation = next(each for each in shapes.RELATIONS if subject.startswith(f"what is {each} "))
                    (other,) = named(scene, subject.removeprefix(f"what is {relation} "))
                    true = any(stands(relation, one, other) for one in named(scene, text) if one is not other)
                assert true == (place == choice.right), (scene.seed, choice)
    assert max(places.values()) < 0.35 * places.total()


def test_phrases_name_their_objects(scenes):
    for scene in scenes:
        for each in shapes.phrases(scene, 3):
            assert shapes.fits(each.text, scene)
            assert 1 <= len(each.phrases) == len(each.things) <= 2
            for phrase, thing in zip(each.phrases, each.things, strict=True):
                assert phrase in each.text
                assert named(scene, phrase) == [thing]


def test_a_sentence_about_two_scenes_is_true_of_half_of_its_pairs():
    sentences = list(shapes.pair_sentences(300, "test", scenes=200))
    assert sentences == list(shapes.pair_sentences(300, "test", scenes=200))
    labels = np.array([each.label for each in sentences]).reshape(-1, shapes.PAIRS)
    assert (labels.sum(axis=1) == shapes.PAIRS // 2).all()
    for each in sentences:
        fact, _, side = each.text.partition(" in ")
        left, right = (fits_fact(fact, scene) for scene in each.scenes)
        truth = {
            "the left image": left,
            "the right image": right,
            "both images": left and right,
            "one image": left != right,
        }
        assert truth[side] == each.label, each.text
    assert {each.scenes[0].split for each in sentences} == {"test"}


def test_sentences_about_two_scenes_are_in_turn_true_and_false(scenes):
    for left, right in itertools.pairwise(scenes[:20]):
        drawn = shapes.sentences_about(left, right, 6)
        assert drawn == shapes.sentences_about(left, right, 6)
        assert [each.label for each in drawn] == [True, False] * 3
        for each in drawn:
            fact, _, side = each.text.partition(" in ")
            shown = [fits_fact(fact, scene) for scene in (left, right)]
            assert each.label == {"the left image": shown[0], "the right image": shown[1]}.get(
                side, all(shown) if side == "both images" else shown[0] != shown[1]
            )


def fits_fact(fact: str, scene: shapes.Scene) -> bool:
    if fact.startswith("there are"):
        _, _, count, name = fact.split(" ")
        return len(named(scene, name)) == int(count)
    return bool(named(scene, fact.removeprefix("there is ")))


def test_every_word_is_in_the_vocabulary(scenes):
    vocabulary = shapes.caption_vocabulary()
    assert len(set(vocabulary)) == len(vocabulary)
    assert vocabulary[: len(shapes.vocabulary())] == shapes.vocabulary()
    texts = [caption for scene in scenes for caption in shapes.captions(scene, 6)]
    texts += [text for scene in scenes for each in shapes.choices(scene, 2) for text in (each.prompt, *each.choices)]
    texts += [each.text for each in shapes.pair_sentences(200)]
    assert {word for text in texts for word in text.replace("?", " ?").split()} <= set(vocabulary)


def test_held_out_sentences_are_of_the_test_split():
    pairs = shapes.held_out(shapes.captions, 50, per_scene=2)
    assert len(pairs) == 50
    assert {scene.split for scene, _ in pairs} == {"test"}
