"""Occlusion: how much the answer's logit falls when a word, patch or region is hidden. Slow; needs no gradients."""

from collections.abc import Callable, Mapping

import numpy as np

Inputs = Mapping[str, np.ndarray]  # a model's inputs for one row
BATCH = 16


def occlusion(
    logits_of: Callable[[Inputs], np.ndarray], inputs: Inputs, skipped: set[int], mask_id: int, patch
) -> dict:
    """Returns how much the logit falls for each word, patch or region, under the names that `scores_of_maps` uses.

    A word is hidden by [MASK], a patch by grey, which is 0 to the model, a region by its mask.

    Args:
        logits_of: a function from inputs of several rows to the logits of the explained answer (rows,).
        inputs: the inputs of one request, without padding.
        skipped: ids that are not hidden, such as [CLS]; they score 0.
        mask_id: the id of [MASK].
        patch: height and width of a patch, in pixels; not read for models of regions.
    """
    ids = inputs["input_ids"]
    words = [index for index in np.ndindex(ids.shape) if int(ids[index]) not in skipped]
    variants = [("input_ids", index, mask_id) for index in words]
    if "pixel_values" in inputs:
        pixels, (height, width) = inputs["pixel_values"], patch
        own = grids_of(inputs, patch)
        variants += [
            ("pixel_values", (*image, slice(y * height, (y + 1) * height), slice(x * width, (x + 1) * width)), 0)
            for image, (rows, columns) in own.items()
            for y in range(rows)
            for x in range(columns)
        ]
        shape = (*pixels.shape[:-3], pixels.shape[-3] // height, pixels.shape[-2] // width)
    else:
        mask = inputs["visual_attention_mask"]
        variants += [("visual_attention_mask", index, 0) for index in np.ndindex(mask.shape) if mask[index]]
        shape = mask.shape
    whole = logits_of(inputs)[0]
    falls = np.concatenate([whole - logits for logits in in_batches(logits_of, inputs, variants)] or [np.zeros(0)])
    tokens, seen = np.zeros(ids.shape, np.float32), np.zeros(shape, np.float32)
    for (name, index, _), fall in zip(variants, falls, strict=True):
        if name == "pixel_values":
            *image, rows, columns = index
            seen[(*image, rows.start // patch[0], columns.start // patch[1])] = fall
        else:
            (tokens if name == "input_ids" else seen)[index] = fall
    return {"token_scores": tokens, ("patch_scores" if "pixel_values" in inputs else "region_scores"): seen}


def grids_of(inputs: Inputs, patch) -> dict[tuple[int, ...], tuple[int, int]]:
    """Returns the rows and columns of each image's own patches, by the image's index (0,), or (0, number) in a pair."""
    mask = inputs["pixel_mask"]
    return {
        image: (int(mask[image][:, 0].sum()) // patch[0], int(mask[image][0].sum()) // patch[1])
        for image in np.ndindex(mask.shape[:-2])
    }


def in_batches(logits_of, inputs: Inputs, variants: list):
    """Computes the logits of variants of the inputs, `BATCH` rows at a time."""
    for start in range(0, len(variants), BATCH):
        some = variants[start : start + BATCH]
        rows = {name: np.repeat(value, len(some), axis=0) for name, value in inputs.items()}
        for row, (name, index, value) in enumerate(some):
            rows[name][(row, *index[1:])] = value
        yield logits_of(rows)
