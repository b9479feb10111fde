"""The page of `tfvl serve --page` in Chromium: what it shows is what `Client` is told, for every kind of answer."""

from functools import cache

import pytest
from support import browser
from support.export import NLVR2, artefact
from support.lite_files import bundled_file
from support.once import once
from support.server import exported, questions, serving

import tfvl
from tfvl import auto
from tfvl.serving import Client

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@cache
def with_detector(name: str):
    """A bundled model, exported with the bundled detector inside."""

    def export(path):
        tfvl.export.saved_model(*auto.load(name, detector="shapes-detector"), path)

    return once(f"page-{name}/1", export).parent


def file(content: bytes) -> dict:
    return {"name": "picture.png", "mimeType": "image/png", "buffer": content}


def rows(page) -> list[str]:
    return [" ".join(each.split()) for each in page.locator("#results li").all_inner_texts()]


def alert(page) -> str:
    """What the page says went wrong, or ""."""
    return page.locator("[role=alert]").text_content()


def ask(page, text: str, *pictures: bytes, **lists) -> None:
    """Fills the form, sends it, and waits for the end."""
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


@pytest.mark.parametrize("path", [exported, bundled_file], ids=["SavedModel", "lite"])
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
    "masks": (lambda: artefact("ViltForMaskedLM").directory.parent, {"text": "What color is the [MASK]?"}, 1, best),
    "pretraining": (lambda: artefact("ViltForPreTraining").directory.parent, {"text": "a [MASK] circle"}, 1, best),
    "tokens": (lambda: artefact("ViltForTokenClassification").directory.parent, {"text": "a red circle"}, 1, tokens),
    "pairs": (lambda: artefact(NLVR2).directory.parent, {"text": "a red circle"}, 2, best),
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


def test_a_server_that_goes_away_is_a_sentence_and_the_page_goes_on(chromium):
    image, question = questions()[0]
    with browser.visit(chromium) as visit:
        page = visit.page
        with serving(exported(), "shapes", page=True) as server:
            port = server.rest_port
            page.goto(f"http://127.0.0.1:{port}")
            ask(page, question, image)
            expected = rows(page)
        ask(page, question)
        assert alert(page).startswith(f"The server 127.0.0.1:{port} cannot be reached; see that it runs")
        with serving(exported(), "shapes", page=True, rest_port=port):
            ask(page, question)
            assert (alert(page), rows(page)) == ("", expected)
            ask(page, "word " * 60000)
            assert alert(page) == "Text: there are 299999 characters to read, at most 262144 are."
            ask(page, question)
            assert (alert(page), rows(page)) == ("", expected)
