"""One interface to a model of tfvl or of transformers, for the list of `test_expected_behaviour` in modeling."""

import numpy as np
import tensorflow as tf

import tfvl
from support.classes import HELPERS, LAYERS, family

SMALL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def sizes(head: str, changes: dict) -> dict:
    """Returns sizes with one block of each kind and no dropout."""
    kind = family(head)
    return HELPERS[kind].SIZES | dict.fromkeys(LAYERS[kind], 1) | SMALL | changes


class Ours:
    """A model of tfvl."""

    def __init__(self, head: str, model=None, **changes):
        model_class = getattr(tfvl, head)
        self.head = head
        self.model = model or model_class(model_class.config_class(**sizes(head, changes)))

    @classmethod
    def load(cls, head: str, directory, **options):
        return cls(head, getattr(tfvl, head).from_pretrained(directory, **options))

    def call(self, inputs: dict, **options) -> dict:
        return arrays(self.model(inputs, **options))

    def embedded(self, ids) -> np.ndarray:
        return self.model.get_input_embeddings()(ids).numpy()

    def weights(self) -> dict[str, np.ndarray]:
        return {name: weight.numpy().astype("float32") for name, weight in self.model.weight_names().items()}

    def dtypes(self) -> set[str]:
        return {weight.dtype for weight in self.model.weights}

    def gradient(self, inputs: dict) -> np.ndarray:
        """Returns the gradient of the loss with respect to the word embeddings."""
        table = self.model.get_input_embeddings().embeddings
        with tf.GradientTape() as tape:
            loss = self.model(inputs)["loss"]
        return tf.convert_to_tensor(tape.gradient(loss, table.value)).numpy()


class Theirs:
    """A model of transformers."""

    def __init__(self, head: str, model=None, **changes):
        from support import reference

        name = next(name for name in reference.SIZES if head.startswith(name))
        config = getattr(reference.transformers, f"{name}Config")(**sizes(head, changes))
        config._attn_implementation = "eager"
        self.head = head
        self.model = (model or getattr(reference.transformers, head)(config)).eval()

    @classmethod
    def load(cls, head: str, directory, **options):
        from support import reference

        options = {"attn_implementation": "eager"} | options
        return cls(head, getattr(reference.transformers, head).from_pretrained(directory, **options))

    def call(self, inputs: dict, **options) -> dict:
        from support import reference

        with reference.torch.no_grad():
            return arrays(dict(self.model(**reference.to_torch(inputs), **options)))

    def embedded(self, ids) -> np.ndarray:
        from support import reference

        return self.model.get_input_embeddings()(reference.tensor(ids)).detach().numpy()

    def weights(self) -> dict[str, np.ndarray]:
        return {name: weight.detach().float().numpy() for name, weight in self.model.named_parameters()}

    def dtypes(self) -> set[str]:
        return {str(weight.dtype).removeprefix("torch.") for weight in self.model.parameters()}

    def gradient(self, inputs: dict) -> np.ndarray:
        from support import reference

        self.model(**reference.to_torch(inputs)).loss.backward()
        return self.model.get_input_embeddings().weight.grad.numpy()


def arrays(value):
    """Converts tensors of either library to arrays, in the same nesting, without those that are None."""
    if isinstance(value, dict):
        return {name: arrays(part) for name, part in value.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [arrays(part) for part in value]
    value = value.detach().float() if hasattr(value, "detach") else value
    return np.asarray(value)
