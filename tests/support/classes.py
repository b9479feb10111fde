"""The public model classes side by side: a tiny model of each, its inputs and labels, and the reference in PyTorch."""

import atexit
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfvl
from support import lxmert, vilt, visual_bert
from tfvl.modeling.base import PreTrainedModel
from tfvl.modeling.configuration import Config
from tfvl.modeling.optimizers import AdamW
from tfvl.porting.rules import Table

CLASSES = [
    name
    for name in tfvl.__all__
    if isinstance(getattr(tfvl, name), type) and issubclass(getattr(tfvl, name), PreTrainedModel)
]
RETRIEVAL = "ViltForImageAndTextRetrieval"
TEXTS = 2  # for each image, where retrieval is trained

# A bare model has no loss of its own. It is trained with the mean squared error on these outputs, each of which says
# the same in both frameworks (what ViLT's padding patches hold is nobody's business).
BARE = {
    "ViltModel": {"pooler_output": (3, 24)},
    "VisualBertModel": {"last_hidden_state": (3, 12, 24), "pooler_output": (3, 24)},
    "LxmertModel": {"language_output": (3, 7, 24), "vision_output": (3, 5, 24), "pooled_output": (3, 24)},
}
LAYERS = {
    "vilt": ("num_hidden_layers",),
    "visual_bert": ("num_hidden_layers",),
    "lxmert": ("l_layers", "x_layers", "r_layers"),
}
HELPERS = {"vilt": vilt, "visual_bert": visual_bert, "lxmert": lxmert}


def family(head: str) -> str:
    return getattr(tfvl, head).config_class.model_type


def inputs_of(head: str) -> dict[str, np.ndarray]:
    match family(head):
        case "vilt":
            return vilt.vilt_inputs(head)
        case "visual_bert":
            return visual_bert.visual_bert_inputs(head)
        case _:
            return lxmert.lxmert_inputs()


def training_example(head: str) -> tuple[dict, dict]:
    """Makes inputs and labels to train the class with; among the words are those whose embeddings are never trained."""
    inputs, rng = inputs_of(head), np.random.default_rng(1)
    inputs["input_ids"][0, ..., 2:4] = 0, 1
    if head in BARE:
        return inputs, {name: rng.normal(size=shape).astype("float32") for name, shape in BARE[head].items()}
    if head == RETRIEVAL:
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            inputs[name] = np.stack([inputs[name], inputs[name][::-1]], axis=1)  # (batch, texts, length)
        return inputs, {"labels": rng.integers(0, TEXTS, len(inputs["input_ids"]))}
    if head == "ViltForPreTraining":
        return inputs, {"labels": vilt.HEADS["ViltForMaskedLM"](rng), "matched_label": rng.integers(0, 2, 3)}
    match family(head):
        case "vilt":
            return inputs, {"labels": vilt.HEADS[head](rng)}
        case "visual_bert":
            return inputs, visual_bert.labels_of(head)
        case _:
            return inputs, lxmert.lxmert_labels(head)


def compiled(model: keras.Model) -> keras.Model:
    """Compiles a model with the paper's loss and metrics, or a bare model with a loss of the user's.

    The optimizer's update is one operation for each weight; tracing that of Keras' Adam takes as long as the model.
    """
    loss = dict.fromkeys(BARE.get(type(model).__name__, ()), "mse") or None
    model.compile(AdamW(3e-3), loss=loss)
    return model


def dataset(head: str) -> tf.data.Dataset:
    """Makes a dataset of one batch for `fit`: labels are a tensor if the class has one kind, else a dict."""
    inputs, labels = training_example(head)
    alone = getattr(tfvl, head).label_names == ("labels",)
    return tf.data.Dataset.from_tensors((inputs, labels["labels"] if alone else labels))


def small_config(head: str, **changes) -> Config:
    """Makes a configuration with one block of each kind and no dropout."""
    sizes = HELPERS[family(head)].SIZES | dict.fromkeys(LAYERS[family(head)], 1)
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return getattr(tfvl, head).config_class(**sizes | changes)


def small_model(head: str, **changes) -> keras.Model:
    """Makes a model of `small_config` with fresh weights, which are always the same."""
    keras.utils.set_random_seed(0)
    return getattr(tfvl, head)(small_config(head, **changes))


@cache
def directory_of(head: str) -> Path:
    """Makes a directory for the class, which is removed when the process ends."""
    directory = Path(tempfile.mkdtemp(prefix=f"tfvl-{head}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


# ── against PyTorch ─────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def pair(head: str):
    """Makes the reference with random weights, and loads its saved directory as a tfvl model, without a warning."""
    from support.reference import reference_model

    reference = reference_model(head)
    reference.save_pretrained(directory_of(head))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return reference, getattr(tfvl, head).from_pretrained(directory_of(head))


def reference_loss(head: str, reference, inputs: dict, labels: dict):
    """Computes the loss in PyTorch, by upstream's own if it has one."""
    from support.reference import to_torch, torch

    functional = torch.nn.functional
    if head in BARE:
        outputs = reference(**to_torch(inputs))
        return sum(functional.mse_loss(outputs[name], value) for name, value in to_torch(labels).items())
    if head == RETRIEVAL:  # upstream scores one text for each image
        texts = ("input_ids", "attention_mask", "token_type_ids")
        ones = [inputs | {name: inputs[name][:, text] for name in texts} for text in range(TEXTS)]
        scores = torch.cat([reference(**to_torch(one)).logits for one in ones], dim=1)
        return functional.cross_entropy(scores, to_torch(labels)["labels"])
    return reference(**to_torch(inputs | labels))["loss"]


def loss_of(head: str, model, inputs: dict, labels: dict):
    if head not in BARE:
        return model(inputs | labels)["loss"]
    compiled(model)
    return model.compute_loss(inputs, labels, model(inputs))


def sources_of(model, path: str) -> tuple:
    """Returns the porting rule that fills the variable at `path`, and the names of its sources in the reference."""
    name = path.removeprefix(f"{model.base_model_prefix}/")
    rule, numbers = next(row for row in Table(model.weight_rules).by_target(name) if not row[0].fallback)
    prefix = f"{model.base_model_prefix}." if name != path else ""
    return rule, [prefix + source.format(**numbers) for source in rule.sources]


def difference(ours, theirs, largest: bool = False) -> float:
    """Returns the largest difference, relative to 1 + the reference's value, or 1 + its `largest` value.

    It is infinite if shapes differ or a value is not a number.
    """
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    if ours.shape != theirs.shape:
        return np.inf
    scale = 1 + (np.abs(theirs).max() if largest else np.abs(theirs))
    return float(np.nan_to_num(np.abs(ours - theirs) / scale, nan=np.inf).max(initial=0.0))


def differences(ours: dict, theirs: dict) -> dict[str, float]:
    """Returns the `difference` of every tensor in two equal structures of dicts, lists and tuples."""
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    return {name: difference(value, theirs[name]) for name, value in ours.items()}


def flat(outputs) -> dict[str, np.ndarray]:
    """Flattens outputs to a dict of arrays by name, through dicts, lists and tuples, without those that are None."""
    if outputs is None:
        return {}
    if isinstance(outputs, (list, tuple)):
        outputs = dict(enumerate(outputs))
    if not isinstance(outputs, dict):
        return {"": outputs.detach().numpy() if hasattr(outputs, "detach") else np.asarray(outputs)}
    return {f"{name}/{inner}": value for name, part in outputs.items() for inner, value in flat(part).items()}
