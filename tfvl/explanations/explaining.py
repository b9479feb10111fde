"""`explain`, which explains a model's answer to an image and a text as an `Explanation`."""

from typing import Any

from tfvl.explanations.explainer import Explainer
from tfvl.explanations.explanation import Explanation
from tfvl.explanations.lite_explainer import LiteExplainer
from tfvl.lite.runner import Runner
from tfvl.preprocessing.requests import ARRAY_AXES, is_one, is_whole_number, requests_of
from tfvl.processors.base import Processor


def explain(
    model,
    processor: Processor | None = None,
    *,
    image: Any = None,
    text: Any = None,
    images: Any = None,
    texts: Any = None,
    regions: Any = None,
    boxes: Any = None,
    choices: Any = None,
    phrases: Any = None,
    word: str | int | None = None,
    method: str = "relevance",
    target: Any = None,
    layer: int | None = None,
    head: int | None = None,
) -> Explanation | list[Explanation]:
    """Explains a model's answer by a score for each word piece, and for each patch or region.

        one = tfvl.explain(model, processor, image="cat.jpg", text="what color is the cat?")
        one.save("why.png")

    Methods:
        relevance: gradient-weighted attention of all layers together (Chefer, Gur & Wolf, ICCV 2021).
        rollout: attention of all layers together (Abnar & Zuidema, ACL 2020); the same for every answer.
        attention: the attention of the position that the head reads, in one layer.
        occlusion: how much the answer's logit falls when a word, patch or region is hidden; slow.
        alignment: for ViLT, the patches that words move to by optimal transport (section 4.1); explains no answer.

    Args:
        model: a model of tfvl whose head answers; or the `tfvl.lite.Runner` of a `.tflite` file, which has no
            gradients: "occlusion", and "rollout" and "attention" where it was exported with `explain=True`.
        processor: the processor of the same checkpoint, with a detector if VisualBERT or LXMERT get images; None for a
            file.
        image, images: one image or a list, in the processor's forms; a head that compares two takes lists of two.
        text, texts: one text or a list. One text goes with every image, one image with every text.
        regions, boxes: regions in place of images, in the processor's forms.
        choices, phrases: lists of texts for each text, for the heads that read them.
        word: the word whose label, the phrase whose region, or the mask whose word is explained; for "alignment", the
            word whose patches are scored. A text, or the index of a token. None: the first one; for "alignment", all.
        method: see above.
        target: the answer to explain, by its text or its index, or a list with one for each; None: the best one.
        layer, head: the layer and head of "attention", counted from 0, or from the end by negative numbers; None: the
            last layer, and the mean over heads. LXMERT's layers are those of the cross-modality encoder.

    Returns: an `Explanation`; for lists a list of them.

    Raises:
        ValueError: the head gives no answers, the method cannot explain it, there is no such answer or word, or an
            input cannot be used.
    """
    layer, head = checked_index("layer", layer), checked_index("head", head)
    word = checked_word(word)
    kind = LiteExplainer if isinstance(model, Runner) else Explainer
    explainer = kind(model, processor, method, -1 if layer is None else layer, head)
    if method != "attention" and (layer is not None or head is not None):
        raise ValueError(f'layer and head are for method="attention", not {method!r}; leave them out')
    given = {"images": (image, images), "text": (text, texts)}
    for name, pair in given.items():
        if all(each is not None for each in pair):
            raise ValueError(f"{name} is given twice; give the singular or the plural")
    asked = {name: first if first is not None else second for name, (first, second) in given.items()}
    asked |= {"regions": regions, "boxes": boxes, "choices": choices, "phrases": phrases}
    visual = "regions" if regions is not None else "images"
    takes = explainer.takes(visual)
    requests = requests_of(asked, takes, explainer.name)
    targets = list(target) if isinstance(target, list | tuple) else [target] * len(requests)
    if len(targets) != len(requests):
        raise ValueError(f"got {len(targets)} targets for {len(requests)} texts; give one for each, or one for all")
    found = [explainer(request, each, word) for request, each in zip(requests, targets, strict=True)]
    alone = isinstance(asked["text"], str | bytes) and is_one(asked[visual], takes.images or 1, ARRAY_AXES[visual])
    return found[0] if alone else found


def checked_index(name: str, value: Any) -> int | None:
    """Returns the index of a layer or head as an int, or None. Raises ValueError if it is no whole number."""
    if value is None or is_whole_number(value):
        return None if value is None else int(value)
    raise ValueError(
        f"{name} is {value!r:.40}, expected a whole number: count from 0, or from the end by negative numbers"
    )


def checked_word(word: Any) -> str | int | None:
    """Returns a word as it is, the index of one as an int, or None. Raises ValueError if it is neither."""
    if word is None or isinstance(word, str):
        return word
    if is_whole_number(word):
        return int(word)
    raise ValueError(f"word is {word!r:.40}, expected a word of the text, or the index of one as a whole number")
