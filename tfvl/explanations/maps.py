"""Collects the attention maps of a forward pass, in the order in which the layers run.

A map is float32 (batch, queries, keys), or with its heads (batch, heads, queries, keys). A step is a dict of the maps
of layers that run side by side; its keys are the streams of their queries and keys. ViLT and VisualBERT have one
stream, `ALL`: the words, then the patches or regions. LXMERT has two, `WORDS` and `REGIONS`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

import tensorflow as tf

ALL, WORDS, REGIONS = "all", "words", "regions"
PREFIX = "attention_"  # begins the names of maps among outputs

Step = Mapping[tuple[str, str], tf.Tensor]
Pass = list[Step]


class Recorder:
    """Keeps the probabilities of every attention layer; an observer for `tfvl.layers.attention.observed_attention`.

    Args:
        watch: a function that is called with the probabilities before they are used, e.g. `tf.GradientTape.watch`.
    """

    def __init__(self, watch: Callable | None = None):
        self.watch = watch
        self.found: dict[int, list[tf.Tensor]] = defaultdict(list)

    def __call__(self, layer, probabilities) -> None:
        if self.watch is not None:
            self.watch(probabilities)
        self.found[id(layer)].append(probabilities)

    def of(self, layer) -> list[tf.Tensor]:
        """Returns the probabilities of a layer, one for each time that it ran."""
        return self.found[id(layer)]

    @property
    def maps(self) -> list[tf.Tensor]:
        return [each for maps in self.found.values() for each in maps]


def passes_of(model, maps_of: Callable[[object], list[tf.Tensor]]) -> list[Pass]:
    """Returns the steps of each pass through the encoder; there are two passes if two images are read one by one.

    Args:
        model: a model of tfvl that was run with `output_attentions=True`, so that nothing was left out.
        maps_of: a function that returns the maps of an attention layer, one for each time that it ran.
    """
    base = getattr(model, model.base_model_prefix, model)
    return PASSES[model.base_model_prefix](base, maps_of)


def one_stream(base, maps_of) -> list[Pass]:
    layers = [layer.attention for layer in base.encoder.layers]
    return [[{(ALL, ALL): each} for each in maps] for maps in zip(*map(maps_of, layers), strict=True)]


def maybe_bypassed(base, maps_of) -> list[Pass]:
    """VisualBERT's steps. With `bypass_transformer`, all maps but the last are of words alone, and get padded."""
    steps = [layer.attention for layer in base.encoder.layers]
    steps = [maps_of(layer)[0] for layer in steps]
    if base.additional_layer is not None and (last := maps_of(base.additional_layer.attention)):
        count = tf.shape(last[0])[-1]
        steps = [*(padded(each, count) for each in steps), last[0]]
    return [[{(ALL, ALL): each} for each in steps]]


def padded(maps: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Pads maps with zeros so that they have `count` queries and keys."""
    missing = [0, count - tf.shape(maps)[-1]]
    return tf.pad(maps, [*[[0, 0]] * (maps.shape.rank - 2), missing, missing])


def two_streams(base, maps_of) -> list[Pass]:
    steps: Pass = [{(WORDS, WORDS): maps_of(layer.attention)[0]} for layer in base.language_encoder.layers]
    steps += [{(REGIONS, REGIONS): maps_of(layer.attention)[0]} for layer in base.vision_encoder.layers]
    for block in base.cross_encoder.layers:
        words_over_regions, regions_over_words = maps_of(block.attention)
        (words,), (regions,) = maps_of(block.language.attention), maps_of(block.vision.attention)
        steps.append({(WORDS, REGIONS): words_over_regions, (REGIONS, WORDS): regions_over_words})
        steps.append({(WORDS, WORDS): words, (REGIONS, REGIONS): regions})
    return [steps]


def names_of(passes: list[Pass]) -> dict[str, tf.Tensor]:
    """Names the maps after their pass, step and streams, as outputs of a `.tflite` file."""
    return {
        f"{PREFIX}{number}_{place:03}_{queries}_{keys}": maps
        for number, steps in enumerate(passes)
        for place, step in enumerate(steps)
        for (queries, keys), maps in step.items()
    }


def passes_of_names(outputs: Mapping[str, tf.Tensor]) -> list[Pass]:
    """Reads the passes whose maps are among outputs, by their names; empty if there are no maps."""
    passes: dict[str, dict[str, dict]] = defaultdict(lambda: defaultdict(dict))
    for name in sorted(outputs):
        if name.startswith(PREFIX):
            number, place, queries, keys = name.removeprefix(PREFIX).split("_")
            passes[number][place][queries, keys] = outputs[name]
    return [list(steps.values()) for steps in passes.values()]


PASSES = {"vilt": one_stream, "visual_bert": maybe_bypassed, "lxmert": two_streams}
