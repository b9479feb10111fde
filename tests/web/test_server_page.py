"""The page of `tfvl serve --page` in Chromium: what it shows is what `Client` is told, for every kind of answer."""

import base64
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from support import browser
from support.export import NLVR2
from support.once import once
from support.server import BATCH_TOLERANCE, encoded, exported, questions, serving
from support.web import head_folder, web_folder

import tfvl
from tfvl import auto, shapes
from tfvl.serving import Client

pytestmark = pytest.mark.browser

REPLY = """async ({ address, requests, options }) => {
  const { connect } = await import("/remote.js");
  const model = await connect(address, options);
  const replies = [];
  for (const { picture, ...request } of requests) {
    const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
    replies.push(await model.reply({ ...request, image: new Blob([bytes]) }));
  }
  return { description: model.description, replies };
}"""

CAPTIONS = [f"{beginning} {count}" for beginning in ("a red circle", "how many blue", "the cat") for count in range(3)]


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@cache
def with_detector(name: str):
    """Exports a bundled model with the bundled detector inside."""

    def export(path):
        tfvl.export.saved_model(*auto.load(name, detector="shapes-detector"), path)

    return once(f"page-{name}/1", export).parent


def file(content: bytes) -> dict:
    return {"name": "picture.png", "mimeType": "image/png", "buffer": content}


def rows(page) -> list[str]:
    return [" ".join(each.split()) for each in page.locator("#results li").all_inner_texts()]


def alert(page) -> str:
    """Returns the error that the page shows, or ""."""
    return page.locator("[role=alert]").text_content()


def ask(page, text: str, *pictures: bytes, **lists) -> None:
    """Fills the form, sends it, and waits for the answer."""
    for place, content in enumerate(pictures):
        page.locator("input[type=file]").nth(place).set_input_files(file(content))
    for label, value in {"Question": text, **lists}.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#ask[aria-busy=false]").wait_for()


def percent(share) -> str:
    return f"{100 * share:.1f} %"


def bars(answers, scores) -> list[str]:
    return [f"{answer} {percent(score)}" for answer, score in zip(answers, scores, strict=True) if answer]


@pytest.mark.parametrize("path", [exported, lambda: web_folder("shapes-vilt")], ids=["SavedModel", "lite"])
def test_the_answers_are_the_clients(chromium, path):
    with serving(path(), "shapes", page=True) as server, browser.visit(chromium) as visit:
        address = f"http://127.0.0.1:{server.rest_port}"
        visit.page.goto(address)
        for image, question in questions()[:3]:
            with Client(address, "shapes") as client:
                (said,) = client.ask(question, image=image)
            ask(visit.page, question, image)
            assert rows(visit.page) == bars(said.answers, said.scores)
            assert alert(visit.page) == ""
        visit.assert_clean()
        assert browser.violations(visit.page) == []


def words(values) -> list[str]:
    return [value.decode() for value in values]


def best(outputs) -> list[str]:
    return bars(words(outputs["answers"]), outputs["scores"])


def tokens(outputs) -> list[str]:
    columns = words(outputs["tokens"]), words(outputs["answers"]), outputs["scores"]
    return [f"{token} → {answer} {percent(score)}" for token, answer, score in zip(*columns, strict=True) if token]


# Where the model lies, the texts of the form, how many pictures; and how the outputs of `Client` are shown.
HEADS = {
    "masks": (lambda: head_folder("ViltForMaskedLM"), {"text": "What color is the [MASK]?"}, 1, best),
    "pretraining": (lambda: head_folder("ViltForPreTraining"), {"text": "a [MASK] circle"}, 1, best),
    "tokens": (lambda: head_folder("ViltForTokenClassification"), {"text": "a red circle"}, 1, tokens),
    "pairs": (lambda: head_folder(NLVR2), {"text": "a red circle"}, 2, best),
    "choices": (
        lambda: with_detector("shapes-visual-bert-choice"),
        {"text": "what is it?", "choices": ["a red circle", "a <b>square</b>", "a star"]},
        1,
        best,
    ),
    "LXMERT": (lambda: with_detector("shapes-lxmert"), {"text": "how many circles are there?"}, 1, best),
}


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_asked(chromium, kind):
    path, texts, count, expected = HEADS[kind]
    pictures = [image for image, _ in questions()[:count]]
    with serving(path(), "model", page=True) as server, browser.visit(chromium) as visit:
        address = f"http://127.0.0.1:{server.rest_port}"
        with Client(address, "model") as client:
            (said,) = client.ask(image=pictures[0] if count == 1 else [tuple(pictures)], **texts)
        assert said.status == ""
        visit.page.goto(address)
        lists = {f"{name.title()}, one on each line": "\n".join(each) for name, each in texts.items() if name != "text"}
        ask(visit.page, texts["text"], *pictures, **lists)
        assert alert(visit.page) == ""
        assert rows(visit.page) == expected(said.outputs)
        if "filled" in said.outputs:
            assert visit.page.locator(".filled").inner_text() == said.outputs["filled"].decode()
        if "match" in said.outputs:
            assert percent(said.outputs["match"]) in visit.page.locator("#results").inner_text()
        visit.assert_clean()


def test_texts_are_ranked_and_eight_of_them_are_one_request(chromium):
    image, _ = questions()[0]
    with (
        serving(head_folder("ViltForImageAndTextRetrieval"), "ranks", page=True) as server,
        browser.visit(chromium) as visit,
    ):
        address = f"http://127.0.0.1:{server.rest_port}"
        with Client(address, "ranks") as client:
            scores = {text: client.ask(text, image=image)[0].scores[0] for text in CAPTIONS}
        visit.page.goto(address)
        sent = []
        visit.page.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
        ask(visit.page, "\n".join(CAPTIONS), image)
        assert [len(each["instances"]) for each in sent] == [8, 1]
        shown = [row.rpartition(" ")[0] for row in rows(visit.page)]
        assert sorted(shown) == sorted(CAPTIONS)
        assert all(scores[one] > scores[other] - BATCH_TOLERANCE for one, other in pairwise(shown))
        visit.assert_clean()


def test_phrases_are_boxes_on_the_picture(chromium):
    scene = shapes.draw_scene(5)
    (drawn, *_) = shapes.phrases(scene, 6)
    picture = encoded(scene.image())
    with (
        serving(with_detector("shapes-visual-bert-phrases"), "phrases", page=True) as server,
        browser.visit(chromium) as visit,
    ):
        address = f"http://127.0.0.1:{server.rest_port}"
        with Client(address, "phrases") as client:
            (said,) = client.ask(drawn.text, image=picture, phrases=list(drawn.phrases))
        visit.page.goto(address)
        request = {"text": drawn.text, "phrases": list(drawn.phrases), "picture": base64.b64encode(picture).decode()}
        reply = visit.page.evaluate(REPLY, {"address": "/v1/models/phrases", "requests": [request]})["replies"][0]
        np.testing.assert_allclose([each["box"] for each in reply["regions"]], said.outputs["boxes"], atol=1e-6)
        ask(visit.page, drawn.text, picture, **{"Phrases, one on each line": "\n".join(drawn.phrases)})
        for place, (phrase, row) in enumerate(zip(drawn.phrases, rows(visit.page), strict=True)):
            score = said.outputs["scores"][place, said.outputs["region_ids"][place]]
            assert row == f"{place + 1}. {phrase} {percent(score)}"
        assert visit.page.locator("#results canvas").evaluate("(canvas) => canvas.width > 300")
        visit.assert_clean()


def test_a_server_that_goes_away_is_a_sentence_and_the_page_goes_on(chromium):
    image, question = questions()[0]
    with browser.visit(chromium) as visit:
        page = visit.page
        with serving(web_folder("shapes-vilt"), "shapes", page=True) as server:
            port = server.rest_port
            page.goto(f"http://127.0.0.1:{port}")
            ask(page, question, image)
            expected = rows(page)
        ask(page, question)
        assert alert(page).startswith(f"The server 127.0.0.1:{port} cannot be reached; see that it runs")
        with serving(web_folder("shapes-vilt"), "shapes", page=True, rest_port=port):
            ask(page, question)
            assert (alert(page), rows(page)) == ("", expected)
            ask(page, "word " * 60000)
            assert alert(page) == "Text: there are 299999 characters to read, at most 262144 are."
            ask(page, question)
            assert (alert(page), rows(page)) == ("", expected)
