"""Converts names in transformers' TensorFlow weight files (`tf_model.h5`) to those of its PyTorch state dicts.

`tf_lxmert_model/lxmert/encoder/layer_._0/output/dense/kernel:0` is `lxmert.encoder.layer.0.output.dense.weight`,
transposed: the model's own name is left out, `_._` stands before a number, and kernels lie (in, out).
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from tfvl.porting.tensors import Tensor

_VARIABLE = re.compile(r"tf_\w+/(.+)/(\w+):\d+")
_LAST_PARTS = {"kernel": "weight", "embeddings": "weight"}


def as_state_dict(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames tensors to PyTorch's names and transposes kernels; changes nothing unless all names are TensorFlow's."""
    matches = {name: _VARIABLE.fullmatch(name) for name in tensors}
    if not tensors or not all(matches.values()):
        return dict(tensors)
    renamed = {}
    for name, match in matches.items():
        stem, last = match.groups()
        stem = stem.replace("_._", "/").replace("/", ".")
        renamed[f"{stem}.{_LAST_PARTS.get(last, last)}"] = (
            _transposed(tensors[name]) if last == "kernel" else tensors[name]
        )
    return renamed


def _transposed(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=tensor.shape[::-1], strides=tensor.steps[::-1])
