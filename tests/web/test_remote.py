"""`remote.js` in Chromium: pictures in every form, every error as one sentence, and servers that know no page."""

import base64
import json
import shutil
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from threading import Event

import pytest
from PIL import Image
from support import browser, http_server
from support.server import exported, questions, serving
from support.web import web_folder

from tfvl.web.folder import PAGE

pytestmark = pytest.mark.browser

# Of a server whose answers are wrong, all that `remote.js` has to know to connect.
DESCRIBED = {"title": "m", "kind": "labels", "reads": ["image"], "images": 1, "top_k": 5}
ASK = """async ({ address, options, request, picture, make }) => {
  const { connect } = await import("/remote.js");
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
  try {
    const model = await connect(address, options);
    const image = await eval(make)(new Blob([bytes]));
    if (request.closed) model.close();
    return { description: model.description, answers: await model.ask({ image, ...request }) };
  } catch (error) {
    return { error: error.message, of: error.constructor.name };
  }
}"""
AS_IT_IS = "(blob) => blob"
AS_BITMAP = "(blob) => createImageBitmap(blob)"
AS_DATA = """async (blob) => {
  const bitmap = await createImageBitmap(blob), canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}"""
PICTURE, QUESTION = questions()[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Yields a page whose origin is not that of any server that it asks."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "index.html").write_text("<!doctype html><title>Page</title><link rel=icon href=data:,>")
    shutil.copy(PAGE / "remote.js", folder)
    with browser.chromium() as opened, browser.static(folder) as address, browser.visit(opened) as visit:
        visit.page.goto(address)
        yield visit.page


@pytest.fixture(scope="module")
def model():
    """Yields the address of a model on a server without a page, which other origins may ask."""
    with serving(exported(), "shapes", origins=["*"]) as server:
        yield f"http://127.0.0.1:{server.rest_port}/v1/models/shapes"


def ask(page, address, picture=PICTURE, make=AS_IT_IS, description=None, seconds=600, **request):
    options = {"seconds": seconds} | ({"description": description} if description else {})
    asked = {"text": QUESTION, **request}
    encoded = base64.b64encode(picture).decode()
    arguments = {"address": address, "options": options, "request": asked, "picture": encoded, "make": make}
    return page.evaluate(ASK, arguments)


def refusal(page, address, **asked) -> str:
    """Returns the sentence of an Error, which has only one line."""
    said = ask(page, address, **asked)
    assert said["of"] == "Error"
    assert "\n" not in said["error"]
    return said["error"]


def converted(file_format: str, **options) -> bytes:
    file = BytesIO()
    Image.open(BytesIO(PICTURE)).save(file, file_format, **options)
    return file.getvalue()


def test_a_model_is_described_by_its_signatures(page, model):
    said = ask(page, model, topK=2)
    expected = {"engine": "server", "title": "shapes", "kind": "labels", "reads": ["image"], "images": 1, "top_k": 5}
    assert said["description"] == expected
    assert len(said["answers"]) == 2
    assert ask(page, f"{model}/versions/1", topK=2)["answers"] == said["answers"]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (AS_IT_IS, {"file_format": "WEBP", "lossless": True}),  # which exported models do not decode
        (AS_IT_IS, {"file_format": "BMP"}),
        (AS_BITMAP, {"file_format": "PNG"}),
        (AS_DATA, {"file_format": "PNG"}),
    ],
)
def test_a_picture_in_any_form_gets_the_same_answer(page, model, make, options):
    expected = ask(page, model)["answers"]
    assert ask(page, model, converted(**options), make)["answers"] == expected


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"make": "() => null"}, "There is no picture; give one"),
        ({"make": "(blob) => [blob, blob]"}, "There is no picture; give one"),
        ({"picture": b"no picture"}, "This is no picture that the browser can read"),
        ({"picture": b"\x89PNG\r\n\x1a\n and nothing more"}, "Image: "),
        ({"text": " "}, "There is no text; give one"),
        ({"text": "word " * 60000}, "Text: there are 300000 characters to read, at most 262144 are."),
        ({"topK": 0}, "topK is 0, expected a whole number, at least 1"),
        ({"topK": 1.5}, "topK is 1.5, expected a whole number, at least 1"),
        ({"closed": True}, "The connection to the server is closed"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(page, model, asked, sentence):
    assert refusal(page, model, **asked).startswith(sentence)


def test_addresses(page, model):
    assert "names no model; expected e.g. http://localhost" in refusal(page, model.removesuffix("/v1/models/shapes"))
    assert refusal(page, "http://[").startswith("http://[ names no model; expected e.g. http://localhost")
    assert "(404)" in refusal(page, model + "s")
    gone = "http://127.0.0.1:9/v1/models/shapes"
    assert refusal(page, gone).startswith("The server 127.0.0.1:9 cannot be reached; see that it runs")


def test_a_server_that_does_not_allow_the_page_says_nothing(page):
    with serving(web_folder("shapes-vilt"), "shapes") as server:
        said = refusal(page, f"http://127.0.0.1:{server.rest_port}/v1/models/shapes")
    assert "and that it allows this page to ask" in said


@contextmanager
def answering(status: int, content: bytes, wait: Event | None = None):
    """Yields a model's address whose every answer is this one, after `wait` if that is given."""

    class Handler(http_server.Quiet, BaseHTTPRequestHandler):
        allowed = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}  # noqa: RUF012

        def do_OPTIONS(self):
            self.reply(200, b"", self.allowed)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if wait is not None:
                wait.wait()
            self.reply(status, content, self.allowed)

    with http_server.serving(Handler) as address:
        yield f"{address}/v1/models/m"


@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (200, b"<html>no model server</html>", "answered is no model server's answer"),
        (200, b"{}", "answered is no model server's answer"),
        (200, b'{"predictions": []}', "answered is no model server's answer"),
        (200, json.dumps({"predictions": [{"status": "image: not\na JPEG"}]}).encode(), "Image: not a JPEG."),
        (503, b'{"error": "the queue is full"}', "The server refused the request (503): the queue is full."),
        (502, b"<html>Bad gateway</html>", "The server refused the request (502): it says nothing more."),
    ],
)
def test_answers_that_are_none(page, status, content, sentence):
    with answering(status, content) as address:
        assert refusal(page, address, description=DESCRIBED).endswith(sentence)


def test_a_server_that_takes_too_long(page):
    free = Event()
    with answering(200, b"{}", free) as address:
        said = refusal(page, address, description=DESCRIBED, seconds=0.1)
        free.set()
    assert said.endswith("gave no answer within 0.1 seconds; try again")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"reads": ["regions", "boxes"]},
            "The model m reads features of regions, which no page can send; give the server",
        ),
        ({"kind": "pooled"}, "The model m does not answer to a picture and a text"),
        ({"reads": []}, "The model m does not answer to a picture and a text"),
    ],
)
def test_models_that_no_page_can_ask(page, changed, sentence):
    assert refusal(page, "/v1/models/m", description=DESCRIBED | changed).startswith(sentence)
