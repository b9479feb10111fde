"""Every head of ViLT answers in Chromium as `Runner` does on the same file, and attends to the same places."""

import io

import numpy as np
import pytest
from PIL import Image
from support import browser
from support.web import CALLS, head_folder, site, text_of

import tfvl
from tfvl.lite import Runner
from tfvl.web.folder import MODEL

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCORES = 1e-4  # of a file of 32-bit floats: another order of sums
TEXTS = {"ViltForMaskedLM": "a [MASK] cat [MASK]", "ViltForPreTraining": "how many [MASK] are there"}
TEXT = "how many cats are there"


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (40, 60 + seed, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        "ViltForMaskedLM",
        "ViltForPreTraining",
        "ViltForImagesAndTextClassification",
        "ViltForImageAndTextRetrieval",
        "ViltForTokenClassification",
    ],
)
def test_replies_are_the_runners(chromium, tmp_path, head):
    folder, text = head_folder(head), TEXTS.get(head, TEXT)
    runner = Runner(folder / MODEL)
    pictures = [picture(seed) for seed in range(2 if head == "ViltForImagesAndTextClassification" else 1)]
    images = [pictures] if len(pictures) > 1 else pictures
    with site(folder, tmp_path) as address, browser.visit(chromium) as visit:
        visit.page.goto(address)
        visit.page.add_script_tag(content=CALLS.read_text())
        visit.page.wait_for_function("() => Boolean(window.model)")
        reply = visit.page.evaluate("replyTo", [[text_of(each) for each in pictures], text])
        visit.assert_clean()
    (row,) = runner(images, text)
    assert [each["answer"] for each in reply["answers"]] == list(row["answers"])
    np.testing.assert_allclose([each["score"] for each in reply["answers"]], row["scores"], atol=SCORES)
    if "filled" in row:
        assert reply["filled"] == row["filled"]
        assert [[each["answer"] for each in mask] for mask in reply["masks"]] == [list(m) for m in row["candidates"]]
    if "match" in row:
        assert abs(reply["match"] - row["match"]) < SCORES
    if "tokens" in row:
        assert [each["token"] for each in reply["tokens"]] == list(row["tokens"])
    why = tfvl.explain(runner, image=images[0], text=text, method="attention")
    grids = why.patch_scores if isinstance(why.patch_scores, tuple) else (why.patch_scores,)
    assert [each["text"] for each in reply["heat"]["words"]] == why.tokens
    np.testing.assert_allclose([each["score"] for each in reply["heat"]["words"]], why.token_scores, atol=SCORES)
    for grid, heat in zip(grids, reply["heat"]["pictures"], strict=True):
        assert (heat["rows"], heat["columns"]) == grid.shape
        np.testing.assert_allclose(np.reshape(heat["values"], grid.shape), grid, atol=SCORES)
