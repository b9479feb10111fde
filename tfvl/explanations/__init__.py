"""Why a model gives an answer: `tfvl.explain(model, processor, image=…, text=…)`. Imports the families and below.

`maps` collects the attention maps of a forward pass, `propagation` carries them through the layers, `chosen` says which
answer is explained, `scores` joins the three in a graph; `explaining` is the function for Python.
"""

from tfvl.explanations.drawing import attention_grid
from tfvl.explanations.explainer import METHODS
from tfvl.explanations.explaining import explain
from tfvl.explanations.explanation import Explanation

__all__ = ["METHODS", "Explanation", "attention_grid", "explain"]
