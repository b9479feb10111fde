"""Converts texts, images and regions to the inputs of a `.tflite` file, row by row, in the file's sizes."""

from collections.abc import Sequence

import numpy as np

from tfvl.answers.arrays import Row
from tfvl.preprocessing.regions.regions import BOX_TOLERANCE, Regions, widened
from tfvl.preprocessing.requests import Request

TEXT = ("input_ids", "token_type_ids", "attention_mask")
FEATURES = ("visual_embeds", "visual_feats")


def prepare(preparer, requests: Sequence[Request]) -> tuple[list[Row], dict[str, list[np.ndarray]]]:
    """Returns, for each request, the `Row` that its answer is about and its inputs by name.

    Errors as `Runner.__call__`.
    """
    see, visual = (of_images if preparer.image_processor else of_regions), preparer.takes.visual
    rows, inputs = [], []
    for number, request in enumerate(requests):
        try:
            seen, regions = see(preparer, request.visuals)
        except ValueError as error:
            raise ValueError(f"{visual}[{number}]: {error}") from None
        encoded, ids, start = of_text(preparer, request.text, request.choices, request.phrases)
        rows.append(Row(ids, request.text, request.choices, request.phrases, regions, start))
        # half a surrogate pair is not UTF-8; whatever reads the text leaves it out
        raw = np.array(request.text.encode("utf-8", "surrogatepass"))
        inputs.append(seen | encoded | {"text": raw})
    return rows, {name: [each[name] for each in inputs] for name in preparer.inputs}


def of_text(
    preparer, text: str, choices: Sequence[str] = (), phrases: Sequence[str] = ()
) -> tuple[dict, list[int], int]:
    """Returns the text inputs of a row, the ids of its text, and the position in the inputs at which these begin."""
    shape = preparer.ids_shape
    limit = preparer.file.description["tokenizer"]["model_max_length"]
    length = limit if shape[-1] == -1 else shape[-1]
    encode = preparer.tokenizer.encode
    encoded = [encode(text, choice, length=length) for choice in choices] or [encode(text, length=length)]
    longest = max(len(ids) for ids, _ in encoded) if shape[-1] == -1 else length
    ids, types, mask = (np.zeros([len(encoded), longest], np.int32) for _ in TEXT)
    ids += preparer.tokenizer.pad_id
    starts = [longest - len(each) if preparer.tokenizer.padding_side == "left" else 0 for each, _ in encoded]
    for row, ((each, kinds), start) in enumerate(zip(encoded, starts, strict=True)):
        place = slice(start, start + len(each))
        ids[row, place], types[row, place], mask[row, place] = each, kinds, 1
    tensors = dict(zip(TEXT, (ids, types, mask), strict=True))
    if choices:
        tensors = {name: filled(value, shape[1], "choices") for name, value in tensors.items()}
    else:
        tensors = {name: value[0] for name, value in tensors.items()}
    if phrases:
        found = [locate(phrase, encoded[0][0], preparer.tokenizer) for phrase in phrases]
        places = starts[0] + np.array(found, np.int32)
        tensors["region_to_phrase_position"] = filled(
            places, preparer.inputs["region_to_phrase_position"][1], "phrases", blank=-1
        )
    return tensors, encoded[0][0], starts[0]


def filled(values: np.ndarray, count: int, name: str, blank: int | None = None) -> np.ndarray:
    """Pads the rows, by blanks or copies of the first, to the number of rows of the file."""
    if count == -1 or len(values) == count:
        return values
    if len(values) > count:
        raise ValueError(f"got {len(values)} {name}, but the file takes at most {count}; export it with more")
    rest = np.repeat(values[:1], count - len(values), axis=0)
    return np.concatenate([values, rest if blank is None else np.full_like(rest, blank)])


def locate(phrase: str, ids: Sequence[int], tokenizer) -> int:
    """Finds the index of a phrase's last token in [CLS] text [SEP], where the phrase first stands as whole words."""
    wanted, text = tokenizer(phrase), list(ids[1:-1])
    for start in range(len(text) - len(wanted) + 1):
        end = start + len(wanted)
        within_word = end < len(text) and tokenizer.tokens[text[end]].startswith("##")
        if wanted and text[start:end] == wanted and not within_word:
            return end  # the place in `ids`, whose first is [CLS]
    raise ValueError(f"the phrase {phrase!r} is not in the text, or beyond the file's length")


def of_images(preparer, images: Sequence) -> tuple[dict[str, np.ndarray], int]:
    """Returns pixels and mask of a row, and 0 for its number of regions."""
    pixels, masks = zip(*(preparer.image_processor(image) for image in images), strict=True)
    if preparer.takes.images is None:
        return {"pixel_values": pixels[0], "pixel_mask": masks[0]}, 0
    if len({each.shape for each in pixels}) > 1:  # without fixed sizes: pad to the largest
        raise ValueError("the images of a row differ in size; export the file with fixed sizes for such pairs")
    return {"pixel_values": np.stack(pixels), "pixel_mask": np.stack(masks)}, 0


def of_regions(preparer, items: Sequence[Regions]) -> tuple[dict[str, np.ndarray], int]:
    """Returns features, boxes, mask and types of a row, and its number of regions."""
    name = next(name for name in FEATURES if name in preparer.inputs)
    shape = preparer.inputs[name]
    if "visual_pos" not in preparer.inputs:  # the model may read the corners behind the features (VisualBertProcessor)
        items = [widened(each, shape[2]) for each in items]
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
    if "visual_pos" in preparer.inputs:
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
