"""Helpers of the papers' metrics, which give the official evaluators' numbers, in plain NumPy."""

from collections.abc import Sequence

import numpy as np

RECALLS = (1, 5, 10)


def accuracies(right: np.ndarray, groups: Sequence[str], prefix: str = "accuracy/") -> dict[str, float]:
    """Returns the mean of `right` (N,) as `accuracy`, and that of each group under the prefix and its name."""
    by_group = mean_by_group(right, groups)
    return {"accuracy": float(right.mean()), **{f"{prefix}{name}": value for name, value in by_group.items()}}


def mean_by_group(values: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Returns the mean of `values` (N,) for each name in `groups`, sorted by name: VQA's and GQA's results by type."""
    check_lengths(values=values, groups=groups)
    names, places = np.unique(np.array(list(groups)), return_inverse=True)
    means = np.bincount(places, np.asarray(values, np.float64)) / np.bincount(places)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def check_lengths(**sequences: Sequence | np.ndarray) -> None:
    """Raises ValueError unless all sequences have the same length, which is not 0."""
    lengths = {name: len(values) for name, values in sequences.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the lengths differ: {listed}; expected one entry per example in each")
    if not all(lengths.values()):
        raise ValueError(f"{', '.join(lengths)} are empty; there is nothing to evaluate")
