"""Makes the training examples of each bundled model's task from drawn scenes."""

from typing import Any, NamedTuple

import numpy as np

from tfvl import shapes
from tfvl.modeling.losses import IGNORED
from tfvl.preprocessing.regions.regions import CORNERS
from tfvl.training.data.masking import WordMasker, example_generator
from tfvl.training.tasks.entities import region_matches

CAPTIONS, PROMPTS, PHRASES = 10, 10, 8  # of a scene
SENTENCES = 3  # of a pair model, for each scene and round; each with `shapes.PAIRS` pairs
FALSE_TEXTS, CHANGED = 15, 5  # with each true one (ViLT, section 4.3), of which are changed by a word
TWO_PHRASES = 2  # at most, in a sentence


class Examples(NamedTuple):
    """Arrays with a row for each example.

    Attributes:
        inputs: the model's inputs without the visual ones.
        labels: the labels that the model class takes.
        places: (N,), the index of each row's scene in the list, or (N, 2) for two scenes.
    """

    inputs: dict[str, np.ndarray]
    labels: Any
    places: np.ndarray


def encode(processor, texts: list, length: int, pairs: list | None = None) -> dict[str, np.ndarray]:
    return processor(text=texts, text_pair=pairs, padding="max_length", max_length=length, return_tensors="np")


def mlm(scenes: list, processor, settings, seed: int, visual: dict) -> Examples:
    """Makes captions with words hidden, and as many without, which are true or false of their scene.

    If both were learnt from the same rows, hidden words would give away that a caption is true (the authors'
    `compute_itm` hides nothing either).
    """
    masker = WordMasker.from_tokenizer(processor.tokenizer, whole_words=True)
    told, texts, matched, places = [], [], [], []
    every = [shapes.captions(scene, CAPTIONS) for scene in scenes]
    for turn in range(settings.rounds):
        rng = np.random.default_rng([seed, turn, 1])
        for place, (scene, captions) in enumerate(zip(scenes, every, strict=True)):
            for caption in captions:
                true = rng.random() < 0.5
                told.append(caption)
                texts.append(caption if true else false_caption(scene, caption, every, rng))
                matched.append(int(true))
                places.append(place)
    hidden, shown = (encode(processor, each, settings.length) for each in (told, texts))
    ids, words = zip(
        *(masker(row, example_generator(seed, 0, number, "words")) for number, row in enumerate(hidden["input_ids"])),
        strict=True,
    )
    hidden["input_ids"] = np.stack(ids)
    nothing = np.full_like(shown["input_ids"], IGNORED)
    return Examples(
        {name: np.concatenate([hidden[name], shown[name]]) for name in hidden},
        {
            "labels": np.concatenate([np.stack(words), nothing]),
            "matched_label": np.array([IGNORED] * len(matched) + matched, np.int32),
        },
        np.array(places * 2, np.int32),
    )


def false_caption(scene, caption: str, every: list, rng) -> str:
    """Returns a caption that is false of the scene: one changed by a word, or another scene's."""
    changed = shapes.false_captions(scene, caption)
    if changed and rng.random() < 0.6:
        return changed[int(rng.integers(len(changed)))]
    while True:
        others = every[int(rng.integers(len(every)))]
        other = others[int(rng.integers(len(others)))]
        if not shapes.fits(other, scene):
            return other


def retrieval(scenes: list, processor, settings, seed: int, visual: dict) -> Examples:
    """Makes a true caption and 15 false ones of each scene; the true one is the first."""
    every = [shapes.captions(scene, CAPTIONS) for scene in scenes]
    texts, places = [], []
    for turn in range(settings.rounds):
        rng = np.random.default_rng([seed, turn, 2])
        for place, (scene, captions) in enumerate(zip(scenes, every, strict=True)):
            caption = captions[int(rng.integers(len(captions)))]
            changed = shapes.false_captions(scene, caption)
            chosen = [changed[number] for number in rng.permutation(len(changed))[:CHANGED]]
            others = [false_caption(scene, caption, every, rng) for _ in range(FALSE_TEXTS - len(chosen))]
            texts += [caption, *chosen, *others]
            places.append(place)
    encoded = encode(processor, texts, settings.length)
    shaped = {name: value.reshape(len(places), FALSE_TEXTS + 1, -1) for name, value in encoded.items()}
    return Examples(shaped, np.zeros(len(places), np.int32), np.array(places, np.int32))


def nlvr2(scenes: list, processor, settings, seed: int, visual: dict) -> Examples:
    """Makes sentences about two scenes, half of them true."""
    count = SENTENCES * settings.scenes * settings.rounds // shapes.PAIRS
    sentences = list(shapes.pair_sentences(count, "train", settings.scenes, seed))
    place = {scene.seed: number for number, scene in enumerate(scenes)}
    return Examples(
        encode(processor, [each.text for each in sentences], settings.length),
        np.array([each.label for each in sentences], np.int32),
        np.array([[place[scene.seed] for scene in each.scenes] for each in sentences], np.int32),
    )


def choice(scenes: list, processor, settings, seed: int, visual: dict) -> Examples:
    """Makes prompts with texts to choose from; the label is the index of the right one."""
    drawn = [(place, each) for place, scene in enumerate(scenes) for each in shapes.choices(scene, PROMPTS)]
    drawn *= settings.rounds
    pairs = [list(each.choices) for _, each in drawn]
    return Examples(
        encode(processor, [each.prompt for _, each in drawn], settings.length, pairs),
        np.array([each.right for _, each in drawn], np.int32),
        np.array([place for place, _ in drawn], np.int32),
    )


def phrases(scenes: list, processor, settings, seed: int, visual: dict) -> Examples:
    """Makes captions with the positions of their phrases; the labels are those of `region_shares`."""
    drawn = [(place, each) for place, scene in enumerate(scenes) for each in shapes.phrases(scene, PHRASES)]
    labels = np.stack([region_shares(each, boxes_of(visual)[place]) for place, each in drawn])
    inputs = encode(processor, [each.text for _, each in drawn], settings.length)
    inputs["region_to_phrase_position"] = np.array([positions(processor, each) for _, each in drawn], np.int32)
    return Examples(inputs, labels, np.array([place for place, _ in drawn], np.int32))


def positions(processor, sentence) -> list[int]:
    """Returns the position of each phrase's last token, -1 where there is no phrase."""
    words = ["[CLS]", *sentence.text.split()]
    first = words.index(sentence.phrases[0].split()[-1])
    places = [first] + [len(words) - 1] * (len(sentence.phrases) - 1)
    return places + [-1] * (TWO_PHRASES - len(places))


def boxes_of(visual: dict) -> np.ndarray:
    """Returns boxes (scenes, regions, 4), which are the last 4 features of VisualBERT's regions."""
    return visual["visual_embeds"][..., -CORNERS:]


def region_shares(sentence, boxes: np.ndarray) -> np.ndarray:
    """Returns float32 (2, regions): for each phrase, equal shares of 1 for the regions on its object, 0 elsewhere."""
    shares = np.zeros([TWO_PHRASES, len(boxes)], np.float32)
    for row, thing in enumerate(sentence.things):
        matches = region_matches(boxes * shapes.SIDE, np.array([thing.box], np.float32))
        shares[row] = matches / max(1, matches.sum())
    return shares


EXAMPLES = {each.__name__: each for each in (mlm, retrieval, nlvr2, choice, phrases)}
