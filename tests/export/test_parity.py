"""The whole way against transformers: one checkpoint, file bytes and text; its processor and model, our artefact."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support.checkpoint import VOCABULARY
from support.export import GOOD_IMAGES, GOOD_TEXTS, LABELS, TOP_K, artefact, requests, serve
from support.export_regions import SIZES
from support.reference import torch, transformers

pytestmark = pytest.mark.parity

# Softmaxes and sigmoids of two sharp random blocks in float32, summed in another order.
TOLERANCE = 1e-5


def reference(class_name: str, directory) -> tuple[np.ndarray, np.ndarray]:
    """Returns transformers' logits and token ids for the good requests."""
    artefact(class_name).model.save_pretrained(directory)
    artefact(class_name).processor.save_pretrained(directory)
    model = getattr(transformers, class_name).from_pretrained(directory).eval()
    processor = transformers.ViltProcessor.from_pretrained(directory)
    images = [Image.open(BytesIO(content)).convert("RGB") for content in GOOD_IMAGES]
    texts = [text.decode() for text in GOOD_TEXTS]
    options = {"padding": True, "truncation": True, "max_length": model.config.max_position_embeddings}
    inputs = processor(images=images, text=texts, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**inputs).logits, inputs["input_ids"].numpy()


def best(scores: torch.Tensor, names: list[str]) -> tuple[list, np.ndarray]:
    top = scores.topk(TOP_K)
    return [[names[index].encode() for index in row] for row in top.indices.tolist()], top.values.numpy()


def test_question_answering_says_what_transformers_says(tmp_path):
    logits, _ = reference("ViltForQuestionAnswering", tmp_path)
    answers, scores = best(logits.sigmoid(), list(LABELS.values()))
    served = serve("ViltForQuestionAnswering", image=GOOD_IMAGES, text=GOOD_TEXTS)
    assert served["answers"].tolist() == answers
    np.testing.assert_allclose(served["scores"], scores, rtol=0, atol=TOLERANCE)


def test_masks_are_filled_as_transformers_fills_them(tmp_path):
    logits, ids = reference("ViltForMaskedLM", tmp_path)
    first = torch.tensor((ids == VOCABULARY.index("[MASK]")).argmax(1))
    answers, scores = best(logits[torch.arange(len(first)), first].softmax(-1), VOCABULARY)
    served = serve("ViltForMaskedLM", image=GOOD_IMAGES, text=GOOD_TEXTS)
    assert served["answers"].tolist() == answers
    np.testing.assert_allclose(served["scores"], scores, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("class_name", ["VisualBertForQuestionAnswering", "LxmertForQuestionAnswering"])
def test_questions_about_regions_are_answered_as_transformers_answers_them(class_name, tmp_path):
    exported, raw = artefact(class_name), requests(class_name)
    exported.model.save_pretrained(tmp_path)
    exported.processor.save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    options = {"padding": True, "truncation": True, "max_length": SIZES["max_position_embeddings"]}
    inputs = dict(tokenizer([text.decode() for text in raw["text"]], return_tensors="pt", **options))
    names = {"regions": "visual_embeds" if class_name.startswith("Visual") else "visual_feats", "boxes": "visual_pos"}
    inputs |= {names[name]: torch.tensor(value) for name, value in raw.items() if name in names}
    inputs["visual_attention_mask"] = torch.tensor(raw["regions"].any(-1).astype("float32"))
    with torch.no_grad():
        outputs = getattr(transformers, class_name).from_pretrained(tmp_path).eval()(**inputs)
    logits = outputs["logits" if "logits" in outputs else "question_answering_score"]
    answers, scores = best(logits.softmax(-1), list(LABELS.values()))
    served = serve(class_name, **raw)
    assert served["answers"].tolist() == answers
    np.testing.assert_allclose(served["scores"], scores, rtol=0, atol=TOLERANCE)
