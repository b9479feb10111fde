"""What users of upstream's ViLT processor and image processor may rely on, a check for each: ours pass, upstream's too.

The list was drawn up from what transformers' own tests of processors look at, in our own words. What is not so here
stands in tfvl/README.md, "Coming from transformers", with its reason.
"""

import json

import numpy as np
import pytest
from PIL import Image
from support.images import noise
from support.not_here import left_out, refused

import tfvl

WORDS = "lower newer red what color is the ? .".split()
VOCABULARY = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
TEXT = "lower newer"
CHECKS = {}


def expected(check):
    CHECKS[check.__name__] = check
    return check


class Ours:
    """The two processors of tfvl, with outputs as NumPy arrays."""

    def images(self, **options):
        return tfvl.ViltImageProcessor(**{"size": 64} | options)

    def processor(self, **options):
        return tfvl.ViltProcessor(self.images(**options), tfvl.BertTokenizer(VOCABULARY))

    def load(self, directory, **options):
        return tfvl.ViltProcessor.from_pretrained(directory, **options)

    def load_images(self, directory, **options):
        return tfvl.ViltImageProcessor.from_pretrained(directory, **options)

    def of_dict(self, options, **overrides):
        return tfvl.ViltImageProcessor.from_dict(options, **overrides)

    def run(self, processor, *given, **options) -> dict:
        return {name: np.asarray(value) for name, value in processor(*given, **options).items()}


class Theirs:
    """The two processors of transformers (Pillow's), with outputs as NumPy arrays, channels last."""

    def __init__(self):
        import transformers
        from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

        self.transformers, self.pil = transformers, ViltImageProcessorPil

    def images(self, **options):
        return self.pil(**{"size": {"shortest_edge": 64}} | options)

    def processor(self, **options):
        return self.transformers.ViltProcessor(
            self.images(**options), self.transformers.BertTokenizer(dict(VOCABULARY))
        )

    def load(self, directory, **options):
        return self.transformers.ViltProcessor.from_pretrained(directory, backend="pil", **options)

    def load_images(self, directory, **options):
        return self.pil.from_pretrained(directory, **options)

    def of_dict(self, options, **overrides):
        return self.pil.from_dict(options, **overrides)

    def run(self, processor, *given, **options) -> dict:
        outputs = dict(processor(*given, **{"return_tensors": "np"} | options))
        return {
            name: np.moveaxis(value, -3, -1) if name == "pixel_values" else np.asarray(value)
            for name, value in outputs.items()
        }


def image(height: int = 60, width: int = 80, channels: int = 3) -> Image.Image:
    return Image.fromarray(noise(height, width, channels))


# ── images ──


@expected
def an_image_has_the_size_of_the_rule(kind, path):
    """The shorter side is as asked for, both are multiples of 32, the longer is at most 1333/800 of it."""
    for given, made in (((60, 80), (64, 64)), ((100, 200), (32, 96)), ((120, 80), (96, 64)), ((64, 64), (64, 64))):
        outputs = kind.run(kind.images(), [image(*given)])
        assert outputs["pixel_values"].shape == (1, *made, 3)
        assert outputs["pixel_mask"].shape == (1, *made)


@expected
def images_of_a_batch_are_padded(kind, path):
    alone = kind.run(kind.images(), [image(100, 200)])["pixel_values"]
    outputs = kind.run(kind.images(), [image(100, 200), image(200, 100)])
    assert outputs["pixel_values"].shape == (2, 96, 96, 3)
    assert outputs["pixel_mask"].sum(axis=(1, 2)).tolist() == [32 * 96, 96 * 32]
    np.testing.assert_array_equal(outputs["pixel_values"][0, :32], alone[0])
    assert not outputs["pixel_values"][0, 32:].any()


@expected
def arrays_and_pictures_are_the_same(kind, path):
    given = image(60, 80)
    picture = kind.run(kind.images(), [given])["pixel_values"]
    np.testing.assert_array_equal(kind.run(kind.images(), [np.asarray(given)])["pixel_values"], picture)
    first = np.moveaxis(np.asarray(given), -1, 0)
    np.testing.assert_array_equal(kind.run(kind.images(), [first])["pixel_values"], picture)


@expected
def one_image_is_a_batch_of_one(kind, path):
    np.testing.assert_array_equal(*(kind.run(kind.images(), x)["pixel_values"] for x in (image(), [image()])))


@expected
def levels_become_numbers_around_zero(kind, path):
    given = Image.fromarray(np.full((64, 64, 3), 255, np.uint8))
    options = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    np.testing.assert_allclose(kind.run(kind.images(**options), [given])["pixel_values"], 1.0, rtol=1e-6)


@expected
def options_hold_for_a_call(kind, path):
    images = kind.images()
    assert kind.run(images, [image()], size={"shortest_edge": 32})["pixel_values"].shape == (1, 32, 32, 3)
    assert kind.run(images, [image()])["pixel_values"].shape == (1, 64, 64, 3)
    raw = kind.run(images, [image(64, 64)], do_resize=False, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(raw["pixel_values"][0], np.asarray(image(64, 64)))


@expected
def floats_pass_where_nothing_is_done(kind, path):
    given = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype("float32")
    outputs = kind.run(kind.images(do_resize=False, do_rescale=False, do_normalize=False), [given])
    np.testing.assert_array_equal(outputs["pixel_values"][0], given)


@expected
def transparency_is_laid_on_white_on_request(kind, path):
    clear = np.zeros((64, 64, 4), np.uint8)
    options = {"do_normalize": False, "do_convert_rgb": True}
    for given in (clear, Image.fromarray(clear)):
        np.testing.assert_allclose(kind.run(kind.images(**options), [given])["pixel_values"], 1.0, rtol=1e-6)


@expected
def options_that_vilt_does_not_read_change_nothing(kind, path):
    plain = kind.run(kind.images(), [image()])["pixel_values"]
    for option in ({"crop_size": 16}, {"do_center_crop": True, "crop_size": 16}, {"pad_size": 320}):
        np.testing.assert_array_equal(kind.run(kind.images(**option), [image()])["pixel_values"], plain)


@expected
def options_come_back_from_a_file_and_a_dict(kind, path):
    images = kind.images(image_mean=[0.1, 0.2, 0.3])
    images.save_pretrained(path)
    written = json.loads((path / "preprocessor_config.json").read_text())
    assert written["size"] == {"shortest_edge": 64}
    assert written["image_mean"] == [0.1, 0.2, 0.3]
    for again in (kind.load_images(path), kind.of_dict(images.to_dict())):
        assert tuple(again.image_mean) == (0.1, 0.2, 0.3)
        assert dict(again.size)["shortest_edge"] == 64


@expected
def options_replace_those_of_a_file_and_a_dict(kind, path):
    images = kind.images()
    assert dict(kind.of_dict(images.to_dict(), size=42).size)["shortest_edge"] == 42
    images.save_pretrained(path / "below")
    again = kind.load_images(path, subfolder="below", do_rescale=False, size=42)
    assert not again.do_rescale
    assert dict(again.size)["shortest_edge"] == 42


# ── both ──


@expected
def a_processor_gives_what_its_parts_give(kind, path):
    processor = kind.processor()
    outputs = kind.run(processor, images=[image()], text=[TEXT])
    assert set(outputs) == {"input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask"}
    np.testing.assert_array_equal(outputs["pixel_values"], kind.run(kind.images(), [image()])["pixel_values"])
    words = [VOCABULARY[word] for word in ("[CLS]", *TEXT.split(), "[SEP]")]
    assert outputs["input_ids"].tolist() == [words]


@expected
def either_part_works_alone(kind, path):
    assert "pixel_values" not in kind.run(kind.processor(), text=[TEXT])
    assert "input_ids" not in kind.run(kind.processor(), images=[image()])


@expected
def nothing_is_an_error(kind, path):
    with pytest.raises((ValueError, TypeError)):
        kind.processor()()


@expected
def options_reach_their_part(kind, path):
    options = {"padding": "max_length", "max_length": 9, "size": {"shortest_edge": 32}}
    outputs = kind.run(kind.processor(), images=[image()], text=[TEXT], **options)
    assert outputs["input_ids"].shape == (1, 9)
    assert outputs["pixel_values"].shape == (1, 32, 32, 3)


@expected
def options_may_come_in_groups(kind, path):
    groups = {
        "text_kwargs": {"padding": "max_length", "max_length": 9},
        "images_kwargs": {"size": {"shortest_edge": 32}},
    }
    outputs = kind.run(kind.processor(), images=[image()], text=[TEXT], **groups)
    assert outputs["input_ids"].shape == (1, 9)
    assert outputs["pixel_values"].shape == (1, 32, 32, 3)


@expected
def an_option_given_twice_is_an_error(kind, path):
    with pytest.raises((ValueError, TypeError)):
        kind.run(kind.processor(), text=[TEXT], text_kwargs={"padding": "max_length"}, padding="max_length")


@expected
def options_of_the_parts_hold_for_calls(kind, path):
    assert kind.run(kind.processor(size={"shortest_edge": 32}), images=[image()])["pixel_values"].shape[1] == 32
    outputs = kind.run(kind.processor(do_rescale=False, do_normalize=False), images=[image(64, 64)])
    assert outputs["pixel_values"].max() == 255


@expected
def a_processor_comes_back_from_its_files(kind, path):
    processor = kind.processor()
    processor.save_pretrained(path)
    again = kind.load(path)
    before, after = (kind.run(each, images=[image()], text=[TEXT]) for each in (processor, again))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@expected
def ids_are_decoded(kind, path):
    ids = [[VOCABULARY["lower"], VOCABULARY["red"]], [VOCABULARY["what"], VOCABULARY["[SEP]"]]]
    processor = kind.processor()
    assert processor.batch_decode(ids) == processor.tokenizer.batch_decode(ids)
    assert processor.decode(ids[0]) == "lower red"


@expected
def the_inputs_have_names(kind, path):
    names = {"input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask"}
    assert set(kind.processor().model_input_names) == names


@pytest.mark.parametrize("name", CHECKS)
def test_ours(tmp_path, name):
    CHECKS[name](Ours(), tmp_path)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKS)
def test_upstreams(tmp_path, name):
    pytest.importorskip("transformers", reason="the parity suite needs transformers")
    CHECKS[name](Theirs(), tmp_path)


# ── what is not so here ──


NOT_HERE = {
    "`data_format`": lambda: refused(lambda: Ours().images()([image()], data_format="channels_first"), "data_format"),
    '`return_tensors="pt"`': lambda: refused(lambda: Ours().processor()(text="a", return_tensors="pt"), "'tf' or 'np'"),
    "`device`, `disable_grouping`": lambda: refused(lambda: Ours().images()([image()], device="cpu"), "device"),
    "addresses of images": lambda: refused(lambda: Ours().images()("http://127.0.0.1:9/a.png"), "no public address"),
    "images that are not RGB": lambda: (
        Ours().images()(Image.fromarray(noise(60, 80)))["pixel_values"].shape[-1] == 3 or pytest.fail("not RGB")
    ),
    "numbers of images and texts": lambda: refused(
        lambda: Ours().processor()(images=[image()] * 3, text=["red"] * 2), "got 3 images and 2 texts"
    ),
    "options that nobody knows": lambda: refused(lambda: Ours().images(wibble=1), "wibble"),
    "`apply_chat_template`": lambda: refused(lambda: Ours().processor().apply_chat_template, "apply_chat_template"),
}


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_is_not_so_here(name):
    assert name in left_out("The processors")
    NOT_HERE[name]()


def test_the_readme_lists_no_more():
    assert left_out("The processors").keys() == NOT_HERE.keys()
