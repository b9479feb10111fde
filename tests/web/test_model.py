"""A page of others imports `tfvl.js` in Chromium: ids, pixels and answers are `Runner`'s on the same file."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from support import bert_texts, browser
from support.web import CALLS, site, text_of, web_folder

import tfvl
from tfvl import shapes
from tfvl.lite import Runner
from tfvl.web.folder import MODEL

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCORES = 0.005  # the runtimes' kernels differ, and 8-bit activations are rounded
QUESTIONS, TEXTS, PICTURES = 200, 2000, 60


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def loaded(chromium, tmp_path_factory):
    """Yields a page with the bundled model, and the `Runner` of its file."""
    folder = web_folder("shapes-vilt")
    with site(folder, tmp_path_factory.mktemp("site")) as address, browser.visit(chromium) as visit:
        open_page(visit, address)
        yield visit.page, Runner(folder / MODEL)
        visit.assert_clean()


def open_page(visit, address: str, name: str = "model") -> None:
    """Opens the page and waits until the module has set a global name."""
    visit.page.goto(address)
    visit.page.add_script_tag(content=CALLS.read_text())
    visit.page.wait_for_function(f"() => Boolean(window.{name})")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_answers_are_the_runners(loaded):
    page, runner = loaded
    asked = [(png(scene.image()), question) for scene, question in shapes.held_out_questions(QUESTIONS)]
    found = page.evaluate("askAll", [(text_of(picture), question.text) for picture, question in asked])
    rows = runner([picture for picture, _ in asked], [question.text for _, question in asked])
    for answers, row in zip(found, rows, strict=True):
        assert answers[0]["answer"] == row["answers"][0]
        scores = dict(zip(row["answers"], row["scores"], strict=True))
        assert all(abs(each["score"] - scores[each["answer"]]) < SCORES for each in answers if each["answer"] in scores)
    model, processor = tfvl.auto.load("shapes-vilt")
    pictures, texts = zip(*((Image.open(io.BytesIO(data)), question.text) for data, question in asked), strict=True)
    best = np.argmax(model(processor(images=list(pictures), text=list(texts)))["logits"], axis=-1)
    assert [answers[0]["answer"] for answers in found] == [model.config.answer_names[place] for place in best]


def test_ids_are_the_runners(loaded):
    page, runner = loaded
    rng = np.random.default_rng(3)
    corpus = [text for text in bert_texts.variant_corpus("odd_special_tokens") if text.strip()]
    texts = [corpus[place] for place in rng.choice(len(corpus), TEXTS, replace=False)]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    found = page.evaluate("tokenizeAll", texts)
    kinds = page.evaluate("Object.entries(model.tokenize('a')).map(([name, ids]) => [name, ids.constructor.name])")
    assert kinds == [[name, "Int32Array"] for name in names]
    _, prepared = runner.prepare(images=[Image.new("RGB", (64, 64))] * TEXTS, text=texts)
    differing = [
        text
        for number, text in enumerate(texts)
        if any(found[number][i] != prepared[name][number].tolist() for i, name in enumerate(names))
    ]
    assert differing == []


def picture(number: int) -> bytes:
    """Makes a PNG of noise, of an odd size: colour, grey, transparent, palette or 16 bits, depending on its number."""
    rng = np.random.default_rng(number)
    height, width = (1, 1) if number < 5 else rng.integers(90, 300, 2)
    mode = ("RGB", "L", "RGBA", "P", "I;16")[number % 5]
    if mode == "I;16":
        return png(Image.fromarray(rng.integers(0, 2**16, (height, width), np.uint16)))
    if mode == "P":
        return png(Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert("P"))
    shape = (height, width, *((4,) if mode == "RGBA" else (3,) if mode == "RGB" else ()))
    return png(Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode))


def test_pixels_are_the_runners_from_the_same_levels(loaded):
    page, runner = loaded
    found = page.evaluate("pixelsAll", [text_of(picture(number)) for number in range(PICTURES)])
    for height, width, levels, values, mask in found:
        levels = np.frombuffer(base64.b64decode(levels), np.uint8).reshape(height, width, 4)[..., :3]
        pixels, pixel_mask = runner.image_processor(levels)
        assert np.frombuffer(base64.b64decode(values), np.float32).tobytes() == pixels.tobytes()
        assert np.frombuffer(base64.b64decode(mask), np.int32).tobytes() == pixel_mask.tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("nothing", "there is no picture; give image"),
        ("no picture", "there is no picture; give image"),
        ("an address", "image is no picture; give a File, Blob, ImageBitmap or ImageData"),
        (
            "no image file",
            "the picture cannot be read: it is damaged, too large, or none that this browser knows",
        ),
        ("two", "there are 2 pictures, expected 1"),
        ("no text", "the text is empty; ask something"),
        ("empty text", "the text is empty; ask something"),
        ("no answers", "topK is 0, expected a whole number from 1 on"),
        ("half an answer", "topK is 1.5, expected a whole number from 1 on"),
        ("too thin", "30 x 1000 pixels is too long and thin to resize"),
        ("thin pixels", "30 x 1000 pixels is too long and thin to resize"),
        ("pixels of nothing", "the picture is no ImageData; take it from a canvas's context"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_one_sentence(loaded, call, message):
    page, _ = loaded
    assert page.evaluate("refusal", call) == [True, message]


def test_any_kind_of_picture_is_taken(loaded):
    page, runner = loaded
    scene = shapes.draw_scene(23).image()
    question = "what color is the triangle?"
    rows, kept = page.evaluate("askEachKind", [text_of(png(scene)), question])
    assert rows == [rows[0]] * 5
    assert rows[0][0]["answer"] == runner(scene, question)[0]["answers"][0]
    assert kept


def test_transparency_is_laid_on_white(loaded):
    page, runner = loaded
    scene = shapes.draw_scene(23).image()
    scene.putalpha(Image.linear_gradient("L").resize(scene.size))
    white = Image.alpha_composite(Image.new("RGBA", scene.size, "white"), scene).convert("RGB")
    question = "what color is the triangle?"
    (answers,) = page.evaluate("askAll", [(text_of(png(scene)), question)])
    (row,) = runner(white, question)
    assert answers[0]["answer"] == row["answers"][0]
    assert abs(answers[0]["score"] - row["scores"][0]) < SCORES


def test_a_closed_model_refuses(chromium, tmp_path):
    with site(web_folder("shapes-vilt"), tmp_path) as address, browser.visit(chromium) as visit:
        open_page(visit, address)
        said = visit.page.evaluate("refusalsOfClosed()")
        assert said == ["the model is closed; load it again"] * 2
        visit.assert_clean()


def test_threads_answer_alike_where_the_host_isolates_the_page(chromium, loaded, tmp_path):
    asked = [(text_of(png(scene.image())), question.text) for scene, question in shapes.held_out_questions(5)]
    alone = loaded[0].evaluate("askAll", asked)
    with site(web_folder("shapes-vilt"), tmp_path, isolated=True) as address, browser.visit(chromium) as visit:
        open_page(visit, address)
        assert visit.page.evaluate("crossOriginIsolated")
        for row, expected in zip(visit.page.evaluate("askAll", asked), alone, strict=True):
            assert row[0]["answer"] == expected[0]["answer"]
            assert abs(row[0]["score"] - expected[0]["score"]) < SCORES
        visit.assert_clean()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 0xFF]) + data[5001:]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (MODEL, cut, "is cut short"),
        (MODEL, lambda data: b"", "is cut short"),
        (MODEL, flipped, "the model is damaged"),
        (MODEL, None, f"{MODEL} cannot be read (status 404)"),
        ("description.json", None, "description.json cannot be read (status 404)"),
        ("description.json", lambda data: b"{", "description.json is no valid JSON"),
        ("node_modules", None, 'run "npm install" in the folder'),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_with_one_sentence(chromium, tmp_path, name, change, message):
    with site(web_folder("shapes-vilt"), tmp_path, module=MODULE_ALONE) as address:
        path = tmp_path / "model" / name
        data = path.read_bytes() if change else None
        path.unlink()
        if change:
            path.write_bytes(change(data))
        with browser.visit(chromium) as visit:
            open_page(visit, address, "load")
            said = visit.page.evaluate("loadRefusal('/model/')")
        assert said.startswith("the model cannot be loaded: ")
        assert message in said
        assert "\n" not in said


MODULE_ALONE = 'import { load } from "./model/tfvl.js"; window.load = load;'


def test_a_browser_without_webassembly_is_refused(chromium, tmp_path):
    with site(web_folder("shapes-vilt"), tmp_path, module=MODULE_ALONE) as address, browser.visit(chromium) as visit:
        visit.page.add_init_script("delete window.WebAssembly")
        open_page(visit, address, "load")
        said = visit.page.evaluate("loadRefusal('/model/')")
        assert said == "this browser has no WebAssembly, which the model needs to run here"
