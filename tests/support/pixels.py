"""Region models and a detector that fit each other: tiny, with random weights, from pixels to answers."""

import functools
import io

import keras
import numpy as np
from PIL import Image

import tfvl
from support.checkpoint import VOCABULARY
from support.detector import pictures, tiny
from support.export_regions import family_of, region_model

LABELS = {index: f"label {index}" for index in range(7)}
DETECTED = {"VisualBert": {"visual_embedding_dim": 68}, "Lxmert": {"visual_feat_dim": 64}}  # boxes are four numbers
IMAGE_SIZES = ((64, 90), (70, 60), (33, 50))
NOTHING = {"rpn_min_size": 1e6}  # no proposal is so large


@functools.cache
def detector() -> "tfvl.RegionDetector":
    return tiny()


@functools.cache
def blind() -> "tfvl.RegionDetector":
    """Makes a detector that finds nothing."""
    return tiny(**NOTHING)


def pixel_model(class_name: str) -> keras.Model:
    """Makes a model with large random weights, so that rows differ clearly."""
    model = region_model(class_name, id2label=LABELS, **DETECTED[family_of(class_name)])
    generator = np.random.default_rng(len(class_name))
    for variable in model.weights:
        scale = (
            0.2 if variable.path.endswith(("visn_fc/kernel", "visual_projection/kernel")) else 0.5
        )  # features are large
        variable.assign(generator.normal(0.3 if "gamma" in variable.path else 0.0, scale, variable.shape))
    return model


def pixel_processor(class_name: str, with_detector=None):
    family = family_of(class_name)
    (size,) = DETECTED[family].values()
    found_by = with_detector or detector()
    return getattr(tfvl, f"{family}Processor")(tfvl.BertTokenizer(VOCABULARY, model_max_length=16), size, found_by)


def arrays() -> list[np.ndarray]:
    return pictures(*IMAGE_SIZES)


def png(levels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "png")
    return file.getvalue()


def answered(outputs: dict) -> np.ndarray:
    """Returns the output that decides what a head answers."""
    names = ("question_answering_score", "logits", "pooled_output", "pooler_output", "prediction_logits")
    return np.asarray(outputs[next(name for name in names if name in outputs)])
