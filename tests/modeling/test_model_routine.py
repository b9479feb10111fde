"""What keras-hub asks of each of its models, in the routines of its test case: a configuration that makes the model
again, and layers that all keep to the model's dtype policy. Saving is in `test_classes.py`, quantization in
`tests/export/test_changed_layers.py`.
"""

import json

import keras
import numpy as np
import pytest
from support.classes import CLASSES, inputs_of, small_config

import tfvl

every_class = pytest.mark.parametrize("head", CLASSES)
PHRASES = "VisualBertForRegionToPhraseAlignment"  # masks its scores by a number that is no float16
POLICIES = ["mixed_float16", "mixed_bfloat16", "bfloat16"]


@every_class
def test_a_configuration_makes_the_model_again(head):
    """keras-hub's `run_serialization_test`: by itself, as JSON, and as a serialized object."""
    model = getattr(tfvl, head)(small_config(head), name="mine", dtype="mixed_bfloat16")
    config = model.get_config()
    assert json.loads(json.dumps(config)) == config
    again = type(model).from_config(config)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    for other in (again, revived):
        assert other.get_config() == config
        assert [(each.path, each.shape, each.dtype) for each in other.weights] == [
            (each.path, each.shape, each.dtype) for each in model.weights
        ]


@every_class
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_that_of_every_layer(head, policy):
    """keras-hub's `run_precision_test`: weights, layers and outputs have the dtypes of the model's policy."""
    model, inputs = getattr(tfvl, head)(small_config(head), dtype=policy), inputs_of(head)
    dtypes = keras.DTypePolicy(policy)
    assert {each.dtype for each in model.trainable_weights} == {dtypes.variable_dtype}
    assert {each.dtype_policy.name for each in model._flatten_layers()} == {policy}
    outputs = keras.tree.flatten(model(inputs))
    floats = [each for each in outputs if keras.backend.is_float_dtype(keras.backend.standardize_dtype(each.dtype))]
    assert floats
    expected = "float32" if head == PHRASES else dtypes.compute_dtype
    assert {keras.backend.standardize_dtype(each.dtype) for each in floats} == {expected}
    assert all(np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))).all() for each in floats)
