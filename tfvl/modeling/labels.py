"""Converts the forms in which `fit` and `evaluate` take labels, weights, losses and metrics to one form.

A model's `targets` say which output each of its labels is the target of, e.g. {"labels": "logits"}. The paper's losses
and metrics read labels under their own names, those of Keras and of the user under the names of the outputs.
"""

from collections.abc import Iterable, Mapping

import keras


def renamed(values, names: Mapping[str, str]):
    """Renames the keys of a dict by `names`, where they are in it; returns anything but a dict unchanged."""
    return {names.get(name, name): value for name, value in values.items()} if isinstance(values, Mapping) else values


def by_label(values, targets: Mapping[str, str]):
    """Returns labels or their weights as a dict under the labels' names; None and a single tensor stay unchanged.

    Args:
        values: a tensor; a dict under the names of labels or of outputs; or a list in the alphabetical order of the
            outputs, as Keras takes it.
        targets: the model's `targets`.

    Raises:
        ValueError: the length of the list is not the number of outputs.
    """
    labels = {output: label for label, output in targets.items()}
    if isinstance(values, (list, tuple)) and targets:
        if len(values) != len(labels):
            raise ValueError(
                f"fit got a list of {len(values)} labels; give a dict under the names {', '.join(targets)}."
            )
        values = dict(zip(sorted(labels), values, strict=True))
    return renamed(values, labels)


def by_output(labels, outputs: Mapping, sample_weight, targets: Mapping[str, str], chosen: Iterable[str] | None):
    """Returns labels, outputs and weights as dicts under the names of outputs, as Keras' losses take them.

    Args:
        labels, sample_weight: as `fit` got them.
        outputs: what the model's call returned.
        targets: the model's `targets`; a model without any is trained on its outputs as they are.
        chosen: names of the outputs that the loss or the metrics name; None: all outputs.

    Raises:
        ValueError: it is not clear to which output the labels belong, or there are none for a chosen output.
    """
    labels, sample_weight = by_label(labels, targets), by_label(sample_weight, targets)
    if labels is None:
        return None, outputs, sample_weight
    if not isinstance(labels, Mapping):
        alone = list(chosen) if chosen is not None and len([*chosen]) == 1 else [*(targets.values() or outputs)]
        if len(alone) != 1:
            raise ValueError(f"Give the labels as a dict; they may be of the outputs {', '.join(alone)}.")
        labels = {alone[0]: labels}
    switched_off = set(targets.values()) - outputs.keys()
    labels = {name: value for name, value in renamed(labels, targets).items() if name not in switched_off}
    chosen = labels.keys() if chosen is None else chosen
    missing = {*chosen, *labels} - (labels.keys() & outputs.keys())
    if missing:
        raise ValueError(
            f"There are no labels, or is no output, for {', '.join(sorted(missing))}; labels are of "
            f"{', '.join(labels) or 'none'}, outputs are {', '.join(outputs)}."
        )
    # Keras itself ignores outputs that are not chosen, except for nested ones, which are left out here
    wanted = [name for name in labels if name in chosen or not isinstance(outputs[name], Mapping)]
    labels = {name: without_confidences(labels[name]) for name in wanted}
    if isinstance(sample_weight, Mapping):
        sample_weight = renamed(sample_weight, targets)
        sample_weight = {name: without_confidences(sample_weight.get(name)) for name in wanted}
    return labels, {name: outputs[name] for name in wanted}, sample_weight


def without_confidences(value):
    """Returns the first item of each pair in a dict of pairs (LXMERT's `obj_labels`); anything else unchanged."""
    if not isinstance(value, Mapping):
        return value
    return {name: part[0] if isinstance(part, (list, tuple)) else part for name, part in value.items()}


def weight_of(sample_weight, label: str, term: str):
    """Returns the sample weights of a term of the loss: given for all labels, for its label, or for the term itself."""
    if isinstance(sample_weight, Mapping):
        sample_weight = sample_weight.get(label)
    if isinstance(sample_weight, Mapping):
        sample_weight = sample_weight.get(term)
    return sample_weight[0] if isinstance(sample_weight, (list, tuple)) else sample_weight


def factors(loss_weights, targets: Mapping[str, str]) -> dict[str, float]:
    """Returns the factor of each label's part of the paper's loss.

    Args:
        loss_weights: as `compile` takes it: a number, a dict under the names of labels or outputs, or a list in the
            alphabetical order of the outputs.

    Raises:
        ValueError: `loss_weights` names something that is neither a label nor an output.
    """
    if loss_weights is None or isinstance(loss_weights, (int, float)):
        return dict.fromkeys(targets, 1.0 if loss_weights is None else loss_weights)
    named = by_label(loss_weights, targets)
    unknown = named.keys() - targets.keys()
    if unknown:
        raise ValueError(f"loss_weights names {', '.join(sorted(unknown))}, expected {', '.join(targets)}.")
    return dict.fromkeys(targets, 1.0) | named


def flat(values: Mapping) -> dict:
    """Flattens nested outputs (LXMERT's `visual_prediction_scores`): they get names of the form `outer_inner`."""
    paths = keras.tree.flatten_with_path(values)
    return {"_".join(map(str, path)): value for path, value in paths}
