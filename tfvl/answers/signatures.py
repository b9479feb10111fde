"""Infers the kind of an exported model's answers from its signatures."""

from collections.abc import Mapping
from typing import Any

Signatures = Mapping[str, Mapping[str, Mapping[str, Any]]]
# The outputs that only one kind of answer has, and this kind.
_TELLING = {"region_ids": "phrases", "tokens": "tokens", "match": "pretraining", "filled": "masks"}


def kind_of_signatures(signatures: Signatures) -> str:
    """Returns the kind of an exported model's answers, one of `rows.KINDS`.

    Args:
        signatures: by name, their `inputs` and `outputs`, which are specs with a `shape`, by name; `serving_default` is
            one of them.
    """
    served = signatures["serving_default"]
    inputs, outputs = served["inputs"], served.get("outputs", {})
    if telling := next((kind for name, kind in _TELLING.items() if name in outputs), None):
        return telling
    if "answers" not in outputs:
        return "pooled"
    logits = signatures.get("tensors", {}).get("outputs", {}).get("logits") or outputs["answers"]
    is_match = logits.shape is not None and logits.shape[-1] == 1  # a classifier has several labels
    return "choices" if "choices" in inputs else "match" if is_match else "labels"
