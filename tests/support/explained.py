"""Questions to each head that answers, for tests of pipelines and explanations, and tiny models of the heads."""

import json

import tfvl
from support.checkpoint import save_tiny, tiny_model, tiny_processor
from support.once import once
from support.paths import DATA
from support.region_models import save_tiny_region_model, some_regions, tiny_region_model, tiny_region_processor

CAT, ROCKET = DATA / "cat_420.jpg", DATA / "rocket.jpg"  # landscapes both
REGIONS = some_regions(3)
MASKED = "the [MASK] is red"
SEVERAL = {"ViltForImagesAndTextClassification": {"num_images": 2, "modality_type_vocab_size": 3}}
# By head: its task, and what it is asked.
ASKED = {
    "ViltForQuestionAnswering": ("visual-question-answering", {"image": CAT, "text": "how many?"}),
    "ViltForMaskedLM": ("fill-mask", {"image": CAT, "text": MASKED}),
    "ViltForPreTraining": ("fill-mask", {"image": CAT, "text": MASKED}),
    "ViltForImageAndTextRetrieval": ("image-text-retrieval", {"image": CAT, "text": "a red circle"}),
    "ViltForImagesAndTextClassification": ("visual-reasoning", {"image": [CAT, ROCKET], "text": "the circle is red"}),
    "ViltForTokenClassification": ("token-classification", {"image": CAT, "text": "a red circle"}),
    "VisualBertForPreTraining": ("fill-mask", {"regions": REGIONS, "text": MASKED}),
    "VisualBertForQuestionAnswering": ("visual-question-answering", {"regions": REGIONS, "text": "how many?"}),
    "VisualBertForMultipleChoice": (
        "multiple-choice",
        {"regions": REGIONS, "text": "what is red ?", "choices": ["a circle", "the square"]},
    ),
    "VisualBertForVisualReasoning": ("visual-reasoning", {"regions": [REGIONS, some_regions(2)], "text": "is red"}),
    "VisualBertForRegionToPhraseAlignment": (
        "phrase-grounding",
        {"regions": REGIONS, "text": "a red circle left of a square", "phrases": ["red circle", "square"]},
    ),
    "LxmertForPreTraining": ("fill-mask", {"regions": REGIONS, "text": MASKED}),
    "LxmertForQuestionAnswering": ("visual-question-answering", {"regions": REGIONS, "text": "how many?"}),
}


def saved(head: str):
    """Returns the directory of a head's tiny checkpoint."""
    make = save_tiny if head.startswith("Vilt") else save_tiny_region_model
    return once(f"heads/{head}", lambda path: make(path, head, **SEVERAL.get(head, {})))


def answers(head: str) -> list[dict]:
    """Returns the pipeline's answers to what the head is asked; it is asked once in a run of the tests."""

    def make(path):
        path.write_text(json.dumps(tfvl.pipeline(saved(head))(**ASKED[head][1])))

    return json.loads(once(f"heads/{head}.json", make).read_text())


def loaded(head: str):
    """Makes a tiny model with this head, and its processor."""
    if head.startswith("Vilt"):
        return tiny_model(head, **SEVERAL.get(head, {})), tiny_processor()
    return tiny_region_model(head), tiny_region_processor("Lxmert" if head.startswith("Lxmert") else "VisualBert")
