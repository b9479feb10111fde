"""A checkpoint without a graph, as JAX and PyTorch run it, refuses the texts that the graph refuses."""

import pytest
from support.explained import CAT, loaded

from tfvl.pipelines.eager import eager
from tfvl.preprocessing.requests import MAX_CHARACTERS


@pytest.mark.parametrize("head", ["ViltForQuestionAnswering", "ViltForMaskedLM", "ViltForImageAndTextRetrieval"])
def test_texts_that_are_refused(head):
    _, run = eager(*loaded(head), top_k=2)
    texts = ["", " \t", "a" * (MAX_CHARACTERS + 1), "a [MASK] circle"]
    found = run({"text": texts, "image": [CAT.read_bytes()] * len(texts)})
    long = f"text: there are {MAX_CHARACTERS + 1} characters to read, at most {MAX_CHARACTERS} are"
    assert found["status"] == ["text: it is empty"] * 2 + [long, ""]
    assert [answers is None for answers in found["answers"]] == [True, True, True, False]
