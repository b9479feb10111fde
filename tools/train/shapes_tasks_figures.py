"""Measures each bundled model on scenes of the held-out split; all figures are shares from 0 to 1."""

from collections import defaultdict
from collections.abc import Callable

import keras
import numpy as np
from shapes_tasks_data import boxes_of, positions, region_shares

from tfvl import shapes

RANKED = 100  # scenes that retrieval ranks
ROWS = 250  # in a batch


def predicted(model, processor, see: Callable, text_only: bool) -> Callable:
    """Returns a function from scenes and texts to the model's outputs; with `text_only`, all pictures are blank.

    `measure(scenes, texts, pairs, **inputs)` takes a scene (or a pair of scenes) and a text for each row, in `pairs`
    the texts to choose from, and more inputs of the model.
    """

    def measure(scenes: list, texts: list, pairs: list | None = None, **inputs):
        once = {scene: place for place, scene in enumerate(dict.fromkeys(np.ravel(np.array(scenes, object)).tolist()))}
        places = [[once[each] for each in row] if isinstance(row, tuple) else once[row] for row in scenes]
        visual = see(list(once))
        visual = blank(visual) if text_only else visual
        visual = together({name: values[places] for name, values in visual.items()})
        encoded = processor(text=texts, text_pair=pairs, return_tensors="np")
        return model.predict(encoded | visual | inputs, batch_size=ROWS, verbose=0)

    measure.processor, measure.see = processor, see
    return measure


def together(visual: dict) -> dict:
    """Puts the regions of two scenes, (rows, 2, regions, …), into one row, as VisualBERT reads them.

    Its token types tell the pictures apart: 0 for the regions of the first, 1 for those of the second. Other inputs
    (of one scene, or pixels) are returned as they are.
    """
    if "visual_embeds" not in visual or len(visual["visual_embeds"].shape) < 4:
        return visual
    visual = visual | {"visual_token_type_ids": visual["visual_token_type_ids"] - np.array([[1], [0]], np.int32)}
    return {name: keras.ops.reshape(each, (each.shape[0], -1, *each.shape[3:])) for name, each in visual.items()}


def blank(visual: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the inputs with all pixels or features set to 0, so that there is nothing to see."""
    return {name: np.zeros_like(each) if each.dtype == np.float32 else each for name, each in visual.items()}


def mlm(measure, count: int) -> dict[str, float]:
    """Returns the shares of hidden words found, and of captions (true, or changed by a word) that are judged rightly.

    The hidden words follow from the picture and the rest of the caption. A word is right if it makes a true caption.
    """
    tokenizer = measure.processor.tokenizer
    asked = [
        (scene, caption, place)
        for scene, caption in shapes.held_out(shapes.captions, count)
        for place in shapes.hidden_words(scene, caption)[:1]
    ]
    hidden = [shapes.with_word(caption, at, tokenizer.mask_token) for _, caption, at in asked]
    logits = measure([scene for scene, *_ in asked], hidden)["prediction_logits"]
    words = tokenizer.convert_ids_to_tokens(
        [int(row[at + 1].argmax()) for row, (*_, at) in zip(logits, asked, strict=True)]
    )
    right = [
        is_true(scene, shapes.with_word(caption, at, word))
        for word, (scene, caption, at) in zip(words, asked, strict=True)
    ]
    pairs = []
    for number, (scene, caption) in enumerate(shapes.held_out(shapes.captions, count)):
        false = shapes.false_captions(scene, caption)
        pairs.append(
            (scene, caption if number % 2 or not false else false[number * 7 % len(false)], number % 2 or not false)
        )
    matched = measure([scene for scene, *_ in pairs], [text for _, text, _ in pairs])["cross_relationship_score"]
    others = [len(shapes.changed_captions(caption)[at]) for _, caption, at in asked]
    return {
        "masked words": np.mean(right),
        "masked words, chance": np.mean([1 / (1 + each) for each in others]),
        "match": np.mean(matched.argmax(-1) == [bool(true) for *_, true in pairs]),
    }


def is_true(scene, text: str) -> bool:
    """Returns whether a text is a caption that is true of the scene; "object" may stand for "circle"."""
    try:
        return shapes.fits(text, scene)
    except ValueError:
        return False


def retrieval(measure, count: int) -> dict[str, float]:
    """Returns recall@1 among `RANKED` scenes and a caption of each; a caption is right if it is true of the scene."""
    rows = [(scene, shapes.captions(scene)[0]) for scene, _ in shapes.held_out(shapes.captions, RANKED)]
    scenes, texts = zip(*rows, strict=True)
    scores = measure([scene for scene in scenes for _ in texts], list(texts) * RANKED)["logits"].reshape(RANKED, RANKED)
    true = np.array([[shapes.fits(text, scene) for text in texts] for scene in scenes])
    return {
        "image finds text, recall@1": np.mean(true[np.arange(RANKED), scores.argmax(1)]),
        "text finds image, recall@1": np.mean(true[scores.argmax(0), np.arange(RANKED)]),
        "chance": true.mean(),
    }


def nlvr2(measure, count: int) -> dict[str, float]:
    """Returns accuracy, consistency, and the accuracy of each kind of sentence."""
    asked = list(shapes.pair_sentences(count // shapes.PAIRS, "test"))
    logits = measure([each.scenes for each in asked], [each.text for each in asked])["logits"]
    right = logits.argmax(-1) == [each.label for each in asked]
    by_sentence, by_kind = defaultdict(list), defaultdict(list)
    for each, hit in zip(asked, right, strict=True):
        by_sentence[each.number].append(hit)
        by_kind[each.text.partition(" in ")[2]].append(hit)
        by_kind[each.text[: len("there is")]].append(hit)
    kinds = {kind: np.mean(hits) for kind, hits in by_kind.items()}
    return {"accuracy": right.mean(), "consistency": np.mean([all(hits) for hits in by_sentence.values()])} | kinds


def choice(measure, count: int) -> dict[str, float]:
    """Returns accuracy, and that of each kind of prompt."""
    asked = shapes.held_out(shapes.choices, count)
    texts, pairs = [each.prompt for _, each in asked], [list(each.choices) for _, each in asked]
    right = measure([scene for scene, _ in asked], texts, pairs)["logits"].argmax(-1) == [
        each.right for _, each in asked
    ]
    where = np.array([text.startswith("where") for text in texts])
    return {"accuracy": right.mean(), "where": right[where].mean(), "what": right[~where].mean()}


def phrases(measure, count: int) -> dict[str, float]:
    """Returns the share of phrases whose best region overlaps the object by one half or more."""
    asked, processor = shapes.held_out(shapes.phrases, count), measure.processor
    places = np.array([positions(processor, each) for _, each in asked], np.int32)
    scenes = [scene for scene, _ in asked]
    boxes = boxes_of(measure.see(scenes))
    logits = measure(scenes, [each.text for _, each in asked], region_to_phrase_position=places)["logits"]
    shares = np.stack([region_shares(each, found) for found, (_, each) in zip(boxes, asked, strict=True)])
    best = np.take_along_axis(shares, logits.argmax(-1)[..., None], axis=-1)[..., 0]
    there = places >= 0
    return {
        "accuracy": (best[there] > 0).mean(),
        "a right region was found": shares.any(-1)[there].mean(),
        "chance": (shares > 0).mean(-1)[there].mean(),
    }


FIGURES = {each.__name__: each for each in (mlm, retrieval, nlvr2, choice, phrases)}
