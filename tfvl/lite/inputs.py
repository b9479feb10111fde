"""From texts, images and regions to the inputs of a `.tflite` file, row by row, in its sizes."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfvl.lite.answers import Row
from tfvl.preprocessing.regions.regions import BOX_TOLERANCE, Regions, with_corners

TEXT = ("input_ids", "token_type_ids", "attention_mask")
ASKED = ("images", "text", "regions", "boxes", "choices", "phrases")
FEATURES = ("visual_embeds", "visual_feats")
RANKS = {"images": 3, "regions": 2}  # axes of the array of one of them


def prepare(client, asked: Mapping[str, Any]) -> tuple[list[Row], dict[str, list[np.ndarray]]]:
    """What an answer is about, and the inputs by name, of each row; see `Runner.__call__`."""
    asked = dict.fromkeys(ASKED) | dict(asked)
    shapes, path = client.inputs, client.file.path
    features = next((name for name in FEATURES if name in shapes), None)
    visual = "regions" if features else "images"
    takes = {"text", visual}
    takes |= {"boxes"} if "visual_pos" in shapes else set()
    takes |= {"choices"} if len(client.ids_shape) == 3 else set()
    takes |= {"phrases"} if "region_to_phrase_position" in shapes else set()
    given = {name for name, value in asked.items() if value is not None}
    for name in sorted(given - takes):
        raise ValueError(f"{path} takes {' and '.join(sorted(takes))}, not {name}")
    for name in sorted(takes - given - {"boxes"}):
        raise ValueError(f"{path} takes {' and '.join(sorted(takes))}; {name} is missing")
    texts = listed_texts(asked["text"])
    shown = listed(asked[visual], client.several, RANKS[visual])
    boxes = asked["boxes"]
    boxes = [boxes] if getattr(boxes, "ndim", None) == 2 else boxes
    count = max(len(texts), len(shown))
    if not (texts and shown) or {len(texts), len(shown)} - {1, count}:
        raise ValueError(
            f"got {len(texts)} texts and {len(shown)} {visual}; give as many of one as of the other, or one of either"
        )
    if boxes is not None and len(boxes) != len(shown):
        raise ValueError(f"got {len(boxes)} arrays of boxes for {len(shown)} regions; give one for each")
    rows, inputs = [], []
    for number in range(count):
        text = decoded(texts[number if len(texts) > 1 else 0], number)
        place = number if len(shown) > 1 else 0
        try:
            if features:
                tensors, regions = of_regions(client, features, shown[place], None if boxes is None else boxes[place])
            else:
                tensors, regions = of_images(client, shown[place]), 0
        except ValueError as error:
            raise ValueError(f"{visual}[{number}]: {error}") from None
        more = {name: strings(asked[name], number, name, count) for name in ("choices", "phrases") if name in takes}
        texts_in, ids = of_text(client, text, **more)
        rows.append(Row(ids, text, regions=regions, **more))
        raw = np.array(text.encode("utf-8", "surrogatepass"))  # half a pair is no UTF-8, and left out where it is read
        inputs.append(tensors | texts_in | {"text": raw})
    names = client.inputs.keys()
    return rows, {name: [each[name] for each in inputs] for name in names}


def listed(values: Any, several: int, rank: int) -> list:
    """Images, or regions, as a list with an item for each row; an item is a list where `several` go with a text.

    An array of more than `rank` axes holds several of them.
    """
    many = isinstance(values, (list, tuple)) or getattr(values, "ndim", 0) > rank + (several > 1)
    rows = list(values) if many else [values]
    if several > 1 and rows and not isinstance(rows[0], (list, tuple)) and getattr(rows[0], "ndim", 0) <= rank:
        rows = [rows]
    for number, row in enumerate(rows):
        count = len(row) if several > 1 or isinstance(row, (list, tuple)) else 1
        if count != several:
            raise ValueError(f"row {number} has {count} images, but the file takes {several} with a text")
    return [list(row) for row in rows] if several > 1 else rows


def listed_texts(text: Any) -> list:
    try:
        return [text] if isinstance(text, (str, bytes)) else list(text)
    except TypeError:
        raise ValueError(f"text is {text!r:.40}, expected a text, or a list of them") from None


def decoded(text: Any, number: int) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text[{number}] is {text!r:.40}, expected a text that is not empty")
    return text


def strings(values: Any, number: int, name: str, count: int) -> list[str]:
    rows = [values] if all(isinstance(value, str) for value in values) else list(values)
    if len(rows) not in (1, count) or not all(isinstance(text, str) and text.strip() for row in rows for text in row):
        raise ValueError(f"{name} need one list of texts for each text, none of them empty")
    row = list(rows[number if len(rows) > 1 else 0])
    if not row:
        raise ValueError(f"{name}[{number}]: there are none")
    return row


def of_text(client, text: str, choices: Sequence[str] = (), phrases: Sequence[str] = ()) -> tuple[dict, list[int]]:
    """The text inputs of a row, and the ids of its text."""
    shape = client.ids_shape
    limit = client.file.description["tokenizer"]["model_max_length"]
    length = limit if shape[-1] == -1 else shape[-1]
    encode = client.tokenizer.encode
    encoded = [encode(text, choice, length=length) for choice in choices] or [encode(text, length=length)]
    longest = max(len(ids) for ids, _ in encoded) if shape[-1] == -1 else length
    ids, types, mask = (np.zeros([len(encoded), longest], np.int32) for _ in TEXT)
    ids += client.tokenizer.pad_id
    for row, (each, kinds) in enumerate(encoded):
        start = longest - len(each) if client.tokenizer.padding_side == "left" else 0
        place = slice(start, start + len(each))
        ids[row, place], types[row, place], mask[row, place] = each, kinds, 1
    tensors = dict(zip(TEXT, (ids, types, mask), strict=True))
    if choices:
        tensors = {name: filled(value, shape[1], "choices") for name, value in tensors.items()}
    else:
        tensors = {name: value[0] for name, value in tensors.items()}
    if phrases:
        places = start + np.array([locate(phrase, encoded[0][0], client.tokenizer) for phrase in phrases], np.int32)
        tensors["region_to_phrase_position"] = filled(
            places, client.inputs["region_to_phrase_position"][1], "phrases", blank=-1
        )
    return tensors, encoded[0][0]


def filled(values: np.ndarray, count: int, name: str, blank: int | None = None) -> np.ndarray:
    """Rows up to the file's number of them; blanks, or copies of the first, fill up."""
    if count == -1 or len(values) == count:
        return values
    if len(values) > count:
        raise ValueError(f"got {len(values)} {name}, but the file takes at most {count}; export it with more")
    rest = np.repeat(values[:1], count - len(values), axis=0)
    return np.concatenate([values, rest if blank is None else np.full_like(rest, blank)])


def locate(phrase: str, ids: Sequence[int], tokenizer) -> int:
    """The place of a phrase's last token in the ids of [CLS] text [SEP]: where it stands first, as whole words."""
    wanted, text = tokenizer(phrase), list(ids[1:-1])
    for start in range(len(text) - len(wanted) + 1):
        end = start + len(wanted)
        within_word = end < len(text) and tokenizer.tokens[text[end]].startswith("##")
        if wanted and text[start:end] == wanted and not within_word:
            return end  # the place in `ids`, whose first is [CLS]
    raise ValueError(f"the phrase {phrase!r} is not in the text, or beyond the file's length")


def of_images(client, item: Any) -> dict[str, np.ndarray]:
    images = item if isinstance(item, (list, tuple)) else [item]
    pixels, masks = zip(*(client.image_processor(image) for image in images), strict=True)
    if client.several == 1:
        return {"pixel_values": pixels[0], "pixel_mask": masks[0]}
    if len({each.shape for each in pixels}) > 1:  # without fixed sizes: pad to the largest
        raise ValueError("the images of a row differ in size; export the file with fixed sizes for such pairs")
    return {"pixel_values": np.stack(pixels), "pixel_mask": np.stack(masks)}


def of_regions(client, name: str, item: Any, boxes: Any) -> tuple[dict[str, np.ndarray], int]:
    """Features, boxes, mask and types of a row, and how many regions it has."""
    shape = client.inputs[name]
    items = [as_regions(each, boxes) for each in (item if isinstance(item, (list, tuple)) else [item])]
    if "visual_pos" not in client.inputs:  # the model may read the corners behind the features, as VisualBertProcessor
        items = [with_corners(each) if is_narrow(each, shape[2]) else each for each in items]
    features = np.concatenate([each.features for each in items])
    count, most = len(features), shape[1]
    if not count or not np.isfinite(features).all():
        raise ValueError("there are no regions" if not count else "the features are not finite (NaN or infinite)")
    if features.shape[1] != shape[2]:
        raise ValueError(f"the features are of size {features.shape[1]}, but the file takes {shape[2]}")
    if most == -1:
        most = count
    if count > most:
        raise ValueError(
            f"there are {count} regions, but the file takes at most {most}; export it with --regions {count}"
        )
    image = np.repeat(np.arange(len(items)), [len(each) for each in items])
    arrays = {
        name: features,
        "visual_attention_mask": np.ones(count, np.int32),
        "visual_token_type_ids": image.astype(np.int32) if len(items) > 1 else np.ones(count, np.int32),
    }
    if "visual_pos" in client.inputs:
        if items[0].boxes is None:
            raise ValueError("there are no boxes, and the model needs the box of each region")
        if (items[0].boxes[:, 2:] < items[0].boxes[:, :2] - BOX_TOLERANCE).any():
            raise ValueError("a box has x2 < x1 or y2 < y1; expected the corners x1, y1, x2, y2")
        arrays["visual_pos"] = items[0].boxes
    padded = {}
    for key, value in arrays.items():
        padded[key] = np.zeros((most, *value.shape[1:]), value.dtype)
        padded[key][:count] = value
    return padded, count


def is_narrow(regions: Regions, size: int) -> bool:
    """Whether the boxes of `regions` would bring their features to the size."""
    return regions.boxes is not None and regions.features.shape[1] + regions.boxes.shape[1] == size


def as_regions(item: Any, boxes: Any) -> Regions:
    if isinstance(item, Regions):
        return item
    if isinstance(item, (str, os.PathLike)):
        from tfvl.preprocessing.regions.reading import read_npz

        return read_npz(item)
    return Regions(np.asarray(item, np.float32), None if boxes is None else np.asarray(boxes, np.float32))
