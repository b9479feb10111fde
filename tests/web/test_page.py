"""The page in Chromium: pictures come in every way, answers out, every error is a sentence, and anybody can use it.

With TFVL_SCREENSHOTS, a directory, the pictures of the page that stand in the documentation are written there.
"""

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from support import browser
from support.web import served, text_of, web_folder

from tfvl import shapes

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUESTION = "what color is the triangle?"
DROPPED = """([png, kind]) => {
  const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "scene.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "drop" ? new DragEvent("drop", { ...options, dataTransfer: data })
    : new ClipboardEvent("paste", { ...options, clipboardData: data });
  document.querySelector("h1").dispatchEvent(event);
}"""
# In place of a camera, a canvas that is painted red.
CAMERA = """() => { navigator.mediaDevices.getUserMedia = async () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [32, 32];
  const context = canvas.getContext("2d");
  setInterval(() => { context.fillStyle = "red"; context.fillRect(0, 0, 32, 32); }, 20);
  return canvas.captureStream(30);
}; }"""

REFUSED_CAMERA = """() => {
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
}"""


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


def scene(seed: int = 23) -> bytes:
    file = io.BytesIO()
    shapes.draw_scene(seed).image().save(file, "PNG")
    return file.getvalue()


def huge() -> bytes:
    """Makes a PNG whose header says that it is 50,000 pixels wide and high."""
    chunks = b""
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(6251 * 100))),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def file_of(data: bytes, name: str = "scene.png") -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def shot(page, name: str) -> None:
    if directory := os.environ.get("TFVL_SCREENSHOTS"):
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.screenshot(path=Path(directory) / f"page_{name}.png", full_page=True)


def ready(page, address: str) -> None:
    """Opens the page, and waits until its model is loaded."""
    page.goto(address)
    page.locator("#examples button").first.wait_for()
    page.wait_for_function("() => document.getElementById('loading').hidden")


def answer(page) -> str:
    """Asks, and returns the best answer; asserts that the page shows no error."""
    page.evaluate("document.getElementById('results').replaceChildren()")
    page.get_by_role("button", name="Ask").click()
    page.locator("#results .name, [role=alert]:not(:empty)").first.wait_for()
    assert page.get_by_role("alert").count() == 0, page.get_by_role("alert").text_content()
    return page.locator("#results .name").first.text_content()


def test_pictures_come_in_every_way(chromium, tmp_path):
    with served(web_folder("shapes-vilt"), tmp_path) as address, browser.visit(chromium) as visit:
        page = visit.page
        ready(page, address)
        assert browser.violations(page) == []
        page.locator("#examples button").first.click()
        page.locator("#results .name").first.wait_for()
        shot(page, "desktop")
        page.get_by_label("Question").fill(QUESTION)
        page.locator("input[type=file]").first.set_input_files(file_of(scene()))
        assert answer(page) == "red"
        for kind in ("drop", "paste"):
            page.locator("input[type=file]").first.set_input_files(file_of(scene(24)))
            page.evaluate(DROPPED, [text_of(scene()), kind])
            assert answer(page) == "red", kind
        page.evaluate(CAMERA)
        page.get_by_role("button", name="Take a picture").click()
        page.get_by_role("button", name="Use this picture").click()
        page.wait_for_function("() => document.querySelector('.frame img')?.naturalWidth === 32")
        answer(page)
        rows = page.locator("#history button")
        assert rows.count() == 5
        rows.nth(1).click()
        page.wait_for_function("() => document.querySelector('#results .name').textContent === 'red'")
        assert browser.violations(page) == []
        visit.assert_clean()


def test_every_error_is_a_sentence_and_the_page_goes_on(chromium, tmp_path):
    with served(web_folder("shapes-vilt"), tmp_path) as address, browser.visit(chromium) as visit:
        page = visit.page
        ready(page, address)
        alert, picture = page.get_by_role("alert"), page.locator("input[type=file]").first

        def says(text: str) -> None:
            page.wait_for_function(
                "(text) => document.querySelector('[role=alert]').textContent.includes(text)", arg=text
            )
            assert alert.text_content().endswith(".")
            page.evaluate("document.querySelector('[role=alert]').textContent = ''")

        ask = page.get_by_role("button", name="Ask")
        ask.click()
        says("Give a picture first")
        for data, name in ((b"no picture", "notes.txt"), (huge(), "huge.png"), (b"", "empty.png")):
            picture.set_input_files(file_of(data, name))
            says(f"{name} cannot be read as a picture")
        picture.set_input_files(file_of(scene()))
        page.locator(".frame img").wait_for()
        ask.click()
        says("Write a question first")
        page.evaluate(REFUSED_CAMERA)
        page.get_by_role("button", name="Take a picture").click()
        says("the camera cannot be used: this page may not use it")
        file = io.BytesIO()
        Image.new("RGB", (1000, 30)).save(file, "PNG")
        page.get_by_label("Question").fill(QUESTION)
        picture.set_input_files(file_of(file.getvalue(), "thin.png"))
        page.wait_for_function("() => document.querySelector('.frame img')?.naturalWidth === 1000")
        ask.click()
        says("too long and thin")
        picture.set_input_files(file_of(scene()))
        page.wait_for_function(f"() => document.querySelector('.frame img')?.naturalWidth === {shapes.SIDE}")
        page.get_by_label("Question").fill("what color is it? " * 556)
        ask.click()
        says("Only the first 40 of the text's")
        picture.set_input_files(file_of(b"no picture", "notes.txt"))
        page.locator("[role=alert]:not(:empty)").wait_for()
        shot(page, "error")
        assert browser.violations(page) == []
        picture.set_input_files(file_of(scene()))
        page.get_by_label("Question").fill(QUESTION)
        page.locator(".frame img").wait_for()
        assert answer(page) == "red"
        visit.assert_clean()


@pytest.mark.parametrize(("name", "scheme"), [("phone", "light"), ("dark", "dark")])
def test_a_phone_shows_all_of_the_page_and_the_keyboard_is_enough(chromium, tmp_path, name, scheme):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    with (
        served(web_folder("shapes-vilt", explain=True), tmp_path) as address,
        browser.visit(chromium, **phone) as visit,
    ):
        page = visit.page
        ready(page, address)
        page.locator("#examples button").nth(1).focus()
        page.keyboard.press("Enter")
        page.locator("#results .name").first.wait_for()
        page.get_by_label("Question").press("Control+a")
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('#history button').length === 2")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert browser.violations(page) == []
        shot(page, name)
        visit.assert_clean()


@pytest.mark.parametrize("missing", ["WebAssembly", "model"])
def test_a_page_whose_model_cannot_be_loaded_says_why(chromium, tmp_path, missing):
    with served(web_folder("shapes-vilt"), tmp_path) as address, browser.visit(chromium) as visit:
        page, model = visit.page, tmp_path / "model.tflite"
        whole = model.read_bytes()
        if missing == "WebAssembly":
            page.add_init_script("delete window.WebAssembly")
        else:
            model.unlink()
            model.write_bytes(whole[: len(whole) // 2])
        page.goto(address)
        page.locator("[role=alert]:not(:empty)").wait_for()
        said = page.get_by_role("alert").text_content()
        assert ("has no WebAssembly" if missing == "WebAssembly" else "is cut short") in said
        page.locator("input[type=file]").first.set_input_files(file_of(scene()))
        page.get_by_label("Question").fill(QUESTION)
        page.locator(".frame img").wait_for()
        if missing == "model":  # mended, it answers; within a second, so that the server takes it for the old one
            damaged = model.stat()
            model.write_bytes(whole)
            os.utime(model, ns=(damaged.st_atime_ns, damaged.st_mtime_ns))
            assert answer(page) == "red"
