"""Explains answers: `tfvl.explain(model, processor, image=…, text=…)`. Imports the families and below.

`maps` collects the attention maps of a forward pass, `propagation` combines those of all layers, `chosen` selects the
answer that is explained, and `scores` uses the three in a graph; `explaining` has the Python function.
"""

from tfvl.explanations.drawing import attention_grid
from tfvl.explanations.explainer import METHODS
from tfvl.explanations.explaining import explain
from tfvl.explanations.explanation import Explanation

__all__ = ["METHODS", "Explanation", "attention_grid", "explain"]
