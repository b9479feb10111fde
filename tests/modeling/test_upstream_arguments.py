"""Arguments of transformers' `from_pretrained` that mean nothing here are refused with what to say in their place."""

import pytest

import tfvl
from tfvl.modeling.upstream_arguments import HERE

VILT = "shapes-vilt"
ENTRANCES = {
    "ViltForQuestionAnswering.from_pretrained": lambda **given: tfvl.ViltForQuestionAnswering.from_pretrained(
        VILT, **given
    ),
    "ViltProcessor.from_pretrained": lambda **given: tfvl.ViltProcessor.from_pretrained(VILT, **given),
    "LxmertProcessor.from_pretrained": lambda **given: tfvl.LxmertProcessor.from_pretrained("shapes-lxmert", **given),
    "RegionDetector.from_pretrained": lambda **given: tfvl.RegionDetector.from_pretrained("shapes-detector", **given),
    "tfvl.auto": lambda **given: tfvl.auto.load(VILT, **given),
    "tfvl.pipeline": lambda **given: tfvl.pipeline(VILT, **given),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", HERE)
def test_every_entrance_says_what_to_say_here(entrance, name):
    with pytest.raises(ValueError, match="has no") as caught:
        ENTRANCES[entrance](**{name: "auto"})
    assert str(caught.value) == f"{entrance} has no {name}; {HERE[name]}."


def test_upstreams_own_names_are_covered():
    """Those that the pages of transformers show most."""
    assert {"torch_dtype", "device_map", "from_pt", "attn_implementation", "low_cpu_mem_usage"} <= HERE.keys()


def test_the_number_of_parameters():
    model = tfvl.ViltForQuestionAnswering.from_pretrained(VILT)
    whole = sum(weight.numpy().size for weight in model.weights)
    assert model.num_parameters() == model.num_parameters(only_trainable=True) == whole
    model.freeze("encoder")
    frozen = sum(weight.numpy().size for weight in model.non_trainable_weights)
    assert frozen > 0
    assert model.num_parameters() == whole
    assert model.num_parameters(only_trainable=True) == whole - frozen
