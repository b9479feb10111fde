"""Scores each word and each patch or region for a model's inputs; takes tensors, and also works in a graph."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from tfvl.answers.rows import Head, Words
from tfvl.explanations import propagation
from tfvl.explanations.chosen import Chosen, choose
from tfvl.explanations.maps import ALL, REGIONS, WORDS, Pass, Recorder, passes_of
from tfvl.layers.attention import observed_attention
from tfvl.vilt.embeddings import nearest_resize

Scores = dict[str, tf.Tensor]
OF_MAPS = ("relevance", "rollout", "attention")


def scores_of_maps(
    model,
    head: Head,
    inputs: Mapping[str, tf.Tensor],
    words: Words,
    method: str = "relevance",
    target: tf.Tensor | None = None,
    place: tf.Tensor | None = None,
    layer: int = -1,
    attention_head: int | None = None,
) -> tuple[Chosen, Scores, dict]:
    """Runs a model and scores its inputs by its attention maps.

    Args:
        model: the model.
        head: its row of `tfvl.answers.rows`.
        inputs: the model's inputs for N requests, maybe with `choices` and other strings.
        words: the vocabulary.
        method: "relevance", "rollout" or "attention".
        target, place: arguments of `tfvl.explanations.chosen.choose`; None: the best answer at the first place.
        layer, attention_head: the layer and head of "attention"; LXMERT's layers are the cross-modality ones. None: the
            mean over heads.

    Returns:
        The explained answers; the scores; and the model's outputs. Scores are `token_scores` (N, L), and for ViLT
        `patch_scores` (N, [images,] rows, columns), `grid` (N, [images,] 2) int32, the rows and columns that are an
        image's own, and `image_class_score` (N, [images]); for the others `region_scores` (N, R). Padding scores 0.
    """
    of_model = {name: value for name, value in inputs.items() if name in model.input_names}
    rows = tf.shape(of_model["input_ids"])[0]
    target, place = (tf.fill([rows], -1) if each is None else tf.cast(each, tf.int32) for each in (target, place))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        recorder = Recorder(tape.watch if method == "relevance" else None)
        with observed_attention(recorder):
            outputs = model(of_model, output_attentions=True, output_hidden_states=False, training=False)
        chosen = choose(model, head, outputs, dict(inputs), words, target, place)
    maps_of: Callable = recorder.of
    if method == "relevance":
        gradients = tape.gradient(chosen.logit, recorder.maps)
        pairs = zip(recorder.maps, gradients, strict=True)
        weighed = {id(each): propagation.weighed(each, gradient) for each, gradient in pairs}
        maps_of = lambda attention: [weighed[id(each)] for each in recorder.of(attention)]  # noqa: E731
    scores = scores_of_passes(model, of_model, chosen, passes_of(model, maps_of), method, layer, attention_head)
    return chosen, scores, outputs


def scores_of_passes(
    model,
    inputs: Mapping[str, tf.Tensor],
    chosen: Chosen,
    passes: list[Pass],
    method: str,
    layer: int,
    head: int | None,
) -> Scores:
    """Scores words and patches or regions from maps; those for "relevance" come from `propagation.weighed`."""
    shares = [row_of(steps, lengths_of(model, inputs, steps), chosen, method, layer, head) for steps in passes]
    return SPLIT[model.base_model_prefix](model, inputs, chosen, shares)


def lengths_of(model, inputs: Mapping[str, tf.Tensor], steps: Pass) -> dict[str, tf.Tensor]:
    """Returns the number of positions of each stream."""
    if model.base_model_prefix == "lxmert":
        return {WORDS: tf.shape(inputs["input_ids"])[1], REGIONS: tf.shape(inputs["visual_feats"])[1]}
    return {ALL: tf.shape(propagation.any_map(steps))[-1]}


def row_of(steps: Pass, lengths, chosen: Chosen, method: str, layer: int, attention_head: int | None) -> dict:
    """Returns the shares of all positions in the one that the head reads: (N, positions) for each stream."""
    read = next(iter(lengths))  # words come first
    if method == "attention":
        shares = attention(steps, layer, attention_head)
    else:
        shares = getattr(propagation, method)(steps, lengths)
    rows = {}
    for stream, length in lengths.items():
        shape = [tf.shape(chosen.row)[0], length]
        of_stream = shares.get((read, stream))
        rows[stream] = (
            tf.zeros(shape)
            if of_stream is None
            else tf.gather_nd(of_stream, tf.stack([chosen.row, chosen.position], 1))
        )
    return rows


def attention(steps: Pass, layer: int, attention_head: int | None) -> dict:
    """Returns the maps of one layer; for LXMERT those of a cross-modality layer, over regions and over words."""
    layers = [dict(step) for step in steps if (ALL, ALL) in step]
    crossing = [number for number, step in enumerate(steps) if (WORDS, REGIONS) in step]
    layers += [dict(steps[number]) | dict(steps[number + 1]) for number in crossing]
    if not -len(layers) <= layer < len(layers):
        raise ValueError(f"layer is {layer}, but there are {len(layers)}, from 0 to {len(layers) - 1}")
    found = {}
    for streams, maps in layers[layer].items():
        heads = maps.shape[1]
        if attention_head is None:
            found[streams] = propagation.mean_of_heads(maps)
        elif -heads <= attention_head < heads:
            found[streams] = tf.cast(maps[:, attention_head], tf.float32)
        else:
            raise ValueError(f"head is {attention_head}, but there are {heads}, from 0 to {heads - 1}")
    return found


# --- by family: the parts of the rows --------------------------------------------------------------------------------


def of_words(inputs: Mapping[str, tf.Tensor], chosen: Chosen, scores: tf.Tensor) -> tf.Tensor:
    """Cuts scores (N, positions) to the words, and sets padding to 0."""
    mask = flat(inputs.get("attention_mask"), chosen)
    length = tf.shape(inputs["input_ids"])[-1]
    scores = scores[:, :length]
    return scores if mask is None else tf.where(mask > 0, scores, 0.0)


def flat(values: tf.Tensor | None, chosen: Chosen) -> tf.Tensor | None:
    """Takes each request's row of values (N, …), or of (N, choices, …) that of the explained choice."""
    if values is None:
        return None
    rows = tf.shape(chosen.row)[0]
    return tf.gather(values, chosen.answer, axis=1, batch_dims=1) if values.shape.rank == 3 else values[:rows]


def of_patches(model, inputs, chosen, shares) -> Scores:
    length = tf.shape(inputs["input_ids"])[-1]
    mask, several = inputs.get("pixel_mask"), inputs["pixel_values"].shape.rank == 5
    grids, grid_sizes, image_class = [], [], []
    embeddings = getattr(model, model.base_model_prefix, model).embeddings
    in_place = embeddings.static_shapes and model.config.max_image_length < 0  # padding stays in place
    rows, columns = (
        tf.shape(inputs["pixel_values"])[axis] // size
        for axis, size in zip((-3, -2), model.config.patch_shape, strict=True)
    )
    for number, share in enumerate(shares):
        own = None if mask is None else mask[:, number] if several else mask
        size = own_grid(own, tf.shape(chosen.row)[0], rows, columns)
        width = columns if in_place else size[:, 1]
        grids.append(on_grid(share[ALL][:, length + 1 :], size, rows, columns, width))
        grid_sizes.append(size)
        image_class.append(share[ALL][:, length])
    words = of_words(inputs, chosen, tf.add_n([share[ALL][:, :length] for share in shares]))
    parts = {"patch_scores": grids, "grid": grid_sizes, "image_class_score": image_class}
    return {"token_scores": words} | {
        name: tf.stack(values, axis=1) if several else values[0] for name, values in parts.items()
    }


def own_grid(mask: tf.Tensor | None, count, rows, columns) -> tf.Tensor:
    """Returns the numbers of rows and columns of patches that are the image's own, int32 (N, 2)."""
    if mask is None:
        return tf.tile(tf.stack([rows, columns])[None], [count, 1])
    sampled = nearest_resize(tf.cast(mask, tf.int32), rows, columns)  # (N, rows, columns)
    return tf.stack([tf.reduce_sum(sampled[:, :, 0], axis=1), tf.reduce_sum(sampled[:, 0], axis=1)], axis=1)


def on_grid(scores: tf.Tensor, size: tf.Tensor, rows, columns, width) -> tf.Tensor:
    """Lays scores (N, patches) out on the grid (N, rows, columns), with zeros for padding.

    Args:
        scores: the scores, row by row.
        size: (N, 2), the rows and columns that are an image's own.
        rows, columns: the size of the grid.
        width: (N,), or one number for all: the patches in a row of `scores`.
    """
    row, column = tf.range(rows)[:, None], tf.range(columns)[None]  # (rows, 1), (1, columns)
    heights, widths = (tf.reshape(each, [-1, 1, 1]) for each in tf.unstack(size, axis=1))
    place = row * tf.reshape(width, [-1, 1, 1]) + column  # (N, rows, columns)
    own = (row < heights) & (column < widths) & (place < tf.shape(scores)[1])
    place = tf.where(own, place, tf.zeros_like(place))
    flat_scores = tf.gather(scores, tf.reshape(place, [tf.shape(scores)[0], -1]), axis=1, batch_dims=1)
    return tf.where(own, tf.reshape(flat_scores, tf.shape(place)), 0.0)


def of_regions(model, inputs, chosen, shares) -> Scores:
    (share,) = shares
    length = tf.shape(inputs["input_ids"])[-1]
    words = share[WORDS] if WORDS in share else share[ALL][:, :length]
    regions = share[REGIONS] if REGIONS in share else share[ALL][:, length:]
    mask = inputs.get("visual_attention_mask")
    if mask is not None:
        regions = tf.where(flat(mask, chosen) > 0, regions, 0.0)
    return {"token_scores": of_words(inputs, chosen, words), "region_scores": regions}


SPLIT = {"vilt": of_patches, "visual_bert": of_regions, "lxmert": of_regions}
