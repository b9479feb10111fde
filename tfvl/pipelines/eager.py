"""Runs a checkpoint on JAX or PyTorch: calls the model itself, without a graph, and makes the answers in NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfvl.answers.arrays import Row, answer
from tfvl.answers.rows import HEADS, PAIR, Words, head_name
from tfvl.modeling.labels import flat
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Takes, empty, too_long

OF_GRAPHS = ("choices", "phrases")  # kinds of answers whose inputs only TensorFlow's graph can make


def eager(model, processor, top_k: int) -> tuple[Takes, Callable[[dict], dict]]:
    """Returns the inputs that a model takes, and a function from them to its outputs, which runs rows one by one.

    Raises:
        ValueError: the model takes choices or phrases, or needs a detector; these work with TensorFlow only.
    """
    head, tokenizer, backend = HEADS[head_name(type(model))], processor.tokenizer, keras.backend.backend()
    if head.kind in OF_GRAPHS:
        raise ValueError(
            f"{type(model).__name__} answers on TensorFlow only, but the Keras backend is {backend!r}; set "
            "KERAS_BACKEND=tensorflow, or call the model itself."
        )
    tokens = dict(enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))
    words = Words(model.config.answer_names, tokens, tokenizer.mask_token, tokenizer.mask_token_id, top_k)
    images = None
    if head.several:
        images = model.config.num_images if processor.sees == "images" else PAIR

    def row(made: dict, place: int) -> dict[str, Any]:
        text, shown = made["text"][place], visual(made, place)
        if problem := empty(text) or too_long(text):
            raise ValueError(problem)
        inputs = processor(text=[text], return_tensors="np", **shown)
        outputs = flat(model({name: value for name, value in inputs.items() if name in model.input_names}))
        outputs = {name: keras.ops.convert_to_numpy(value)[0] for name, value in outputs.items() if value is not None}
        ids = inputs["input_ids"][0][inputs["attention_mask"][0] == 1].tolist()
        listed = [each for row in shown.get("regions", ()) for each in (row if isinstance(row, list) else [row])]
        regions = sum(map(len, listed))
        return answer(head, outputs, Row(ids, text, regions=regions), words)

    def run(made: dict) -> dict:
        rows = []
        for place in range(len(made["text"])):
            try:
                rows.append(row(made, place) | {"status": ""})
            except ValueError as error:
                rows.append({"status": str(error)})
        names = dict.fromkeys(name for each in rows for name in each)
        return {name: [each.get(name) for each in rows] for name in names}

    return Takes(head.reads, images), run


def visual(made: dict, place: int) -> dict[str, list]:
    """Returns the images or regions of a row as keywords of a processor."""
    if "image" in made:
        image = made["image"][place]
        return {"images": [image if isinstance(image, bytes) else list(image)]}
    features, boxes = made["regions"][place], made.get("boxes")
    if features.ndim == 3:
        return {"regions": [[_real(each) for each in features]]}
    return {"regions": [_real(features, None if boxes is None else boxes[place])]}


def _real(features: np.ndarray, boxes: np.ndarray | None = None) -> Regions:
    """Makes `Regions` of arrays, without the rows of zeros with which a batch is padded."""
    kept = features.any(axis=-1)
    return Regions(features[kept], None if boxes is None else boxes[kept])
