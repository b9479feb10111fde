"""Every argument that upstream's documentation names of tokenizers, image processor and processor changes the result.

`data/upstream_arguments.json` is the list of them; test_upstream_arguments.py has the models' and what is left out.
"""

import dataclasses
import inspect

import numpy as np
import pytest
from support.classes import flat
from support.images import noise
from support.upstream_docs import PAGES, differ, left_out, taken

import tfvl

TOKENIZERS = ["LxmertTokenizer", "LxmertTokenizerFast"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [
    *SPECIAL,
    *(f"<{name[1:-1].lower()}>" for name in SPECIAL),
    *"a cafe café cafÉ Cafe 中 国 中国 un ##a".split(),
]
SENTENCE = "A CAFE Café 中国 una xyz [MASK]"
OTHER_OPTIONS = {
    "do_lower_case": False,
    "never_split": ["una"],
    "tokenize_chinese_chars": False,
    "strip_accents": False,
    **{f"{token[1:-1].lower()}_token": f"<{token[1:-1].lower()}>" for token in SPECIAL},
}


def encoded(name: str, **options) -> list:
    tokenizer = getattr(tfvl, name)(VOCABULARY, **options)
    ids = tokenizer(SENTENCE, padding="max_length", max_length=30)["input_ids"].numpy().tolist()
    return [ids, tokenizer.mask_token_id]


@pytest.mark.parametrize(("name", "argument"), taken("constructor", TOKENIZERS))
def test_every_argument_of_a_tokenizer(name, argument):
    parameter = inspect.signature(getattr(tfvl, name)).parameters[argument]
    assert parameter.default == PAGES[name]["constructor"][argument]
    assert encoded(name, **{argument: OTHER_OPTIONS[argument]}) != encoded(name)


UNKNOWN = [
    (name, argument) for name in TOKENIZERS for argument in PAGES[name]["constructor"] if left_out(name, argument)
]


@pytest.mark.parametrize(("name", "argument"), [pair for pair in UNKNOWN if pair[1] != "**kwargs"])
def test_what_a_tokenizer_leaves_out_is_refused_by_its_name(name, argument):
    with pytest.raises(TypeError, match=argument):
        getattr(tfvl, name)(VOCABULARY, **{argument: None})


@pytest.mark.parametrize("name", [name for name, entry in PAGES.items() if "methods" in entry])
def test_methods_take_what_is_documented(name):
    for method, arguments in PAGES[name]["methods"].items():
        ours = getattr(getattr(tfvl, name), "__call__" if method == "preprocess" else method)
        parameters = list(inspect.signature(ours).parameters)
        if name == "ViltImageProcessor":  # `**overrides` are the fields
            parameters += [field.name for field in dataclasses.fields(tfvl.ViltImageProcessor)]
        missing = [argument for argument in arguments if argument not in parameters and not left_out(name, argument)]
        assert missing == []


IMAGE_OPTIONS = {
    "do_resize": False,
    "size": {"shortest_edge": 64},
    "size_divisor": 7,
    "resample": 0,
    "do_rescale": False,
    "rescale_factor": 0.01,
    "do_normalize": False,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": 0.25,
    "do_pad": False,
}


@pytest.mark.parametrize(("name", "argument"), taken("constructor", ["ViltImageProcessor"]))
def test_every_option_of_the_image_processor(name, argument):
    fields = {field.name: field.default for field in dataclasses.fields(tfvl.ViltImageProcessor)}
    if isinstance(PAGES[name]["constructor"][argument], (bool, int, float)):
        assert fields[argument] == pytest.approx(PAGES[name]["constructor"][argument])
    plain, other = (
        tfvl.ViltImageProcessor(**{"size": {"shortest_edge": 96}} | options)
        for options in ({}, {argument: IMAGE_OPTIONS[argument]})
    )
    if argument == "do_pad":  # images of one size need no padding
        sizes = [noise(70, 100, 3), noise(100, 70, 3)]
        assert plain(sizes)["pixel_values"].shape == (2, 128, 128, 3)
        with pytest.raises(ValueError, match="do_pad"):
            other(sizes)
        return
    assert differ(flat(other([noise(70, 100, 3)])), flat(plain([noise(70, 100, 3)])))


# what is beside `images` and `text`, for a processor that cuts at 20 tokens
CALL_OPTIONS = {
    "images": noise(70, 100, 3, seed=1),
    "text": "a cafe",
    "add_special_tokens": False,
    "padding": "max_length",
    "max_length": 5,
    "pad_to_multiple_of": 5,
    "return_token_type_ids": False,
    "return_attention_mask": False,
    "return_special_tokens_mask": True,
    "return_length": True,
}


@pytest.mark.parametrize(("name", "argument"), taken("call", ["ViltProcessor", "ViltFeatureExtractor"]))
def test_every_argument_of_the_processor(name, argument):
    inputs = {"images": noise(70, 100, 3), "text": SENTENCE}
    if name == "ViltFeatureExtractor":
        processor, inputs = tfvl.ViltFeatureExtractor(size=64), {"images": inputs["images"]}
    else:
        tokenizer = tfvl.BertTokenizer(VOCABULARY, model_max_length=20)
        processor = tfvl.ViltProcessor(tfvl.ViltImageProcessor(size=64), tokenizer)
    if argument == "return_tensors":
        assert isinstance(processor(**inputs, return_tensors="np")["input_ids"], np.ndarray)
    elif argument == "truncation":
        assert processor(**inputs, truncation="only_first", max_length=4)["input_ids"].shape == (1, 4)
        with pytest.raises(ValueError, match="token"):
            processor(**inputs, truncation=False, max_length=4)
    else:
        assert differ(flat(processor(**inputs | {argument: CALL_OPTIONS[argument]})), flat(processor(**inputs)))
