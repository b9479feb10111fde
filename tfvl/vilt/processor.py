"""ViLT's processor: images and texts in, the model's input dict out."""

import dataclasses
import inspect
from pathlib import Path

import tensorflow as tf

from tfvl.porting import hub
from tfvl.preprocessing.image import ViltImageProcessor
from tfvl.preprocessing.text import NO_LIMIT, BertTokenizer
from tfvl.vilt.config import ViltConfig

TEXT_OPTIONS = frozenset(inspect.signature(BertTokenizer.__call__).parameters)
IMAGE_OPTIONS = frozenset(field.name for field in dataclasses.fields(ViltImageProcessor)) | {"input_data_format"}


class ViltProcessor:
    """Joins `ViltImageProcessor` and `BertTokenizer` (upstream: `ViltProcessor`).

        processor = ViltProcessor.from_pretrained("dandelin/vilt-b32-finetuned-vqa")
        inputs = processor(images=[jpeg_bytes], text=["how many cats?"])

    Attributes:
        image_processor: the `ViltImageProcessor`.
        tokenizer: the `BertTokenizer`; its `model_max_length` is at most the number of positions of the model.
    """

    def __init__(self, image_processor: ViltImageProcessor, tokenizer: BertTokenizer):
        if not isinstance(image_processor, ViltImageProcessor) or not isinstance(tokenizer, BertTokenizer):
            raise ValueError(
                "ViltProcessor takes a ViltImageProcessor and a BertTokenizer, got "
                f"{type(image_processor).__name__} and {type(tokenizer).__name__}"
            )
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, src: str | Path, **hub_options) -> "ViltProcessor":
        """Reads vocabulary, tokenizer and image options of a hub id, a directory or a bundled model.

        Checkpoints say 512 tokens or no limit in tokenizer_config.json although ViLT has 40 positions; the smaller of
        that and `max_position_embeddings` of the config.json beside it (40 where there is none) holds.

        Raises:
            CheckpointError: a file is missing or cannot be used; names the file.
        """
        directory = hub.resolve(src, weights=False, **hub_options)
        tokenizer = BertTokenizer.from_pretrained(directory)
        config = directory / "config.json"
        positions = (ViltConfig.from_file(config) if config.is_file() else ViltConfig()).max_position_embeddings
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        return cls(ViltImageProcessor.from_pretrained(directory), tokenizer)

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes the tokenizer's and the image processor's files; `transformers.ViltProcessor` reads them."""
        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)

    def __call__(self, images=None, text=None, text_pair=None, *, return_tensors=None, **options) -> dict:
        """Prepares a batch, eagerly or inside a `tf.data` or SavedModel graph.

        Args:
            images: one image or a list of N: encoded bytes, PIL image, or array (height, width[, channels]); a list of
                N lists of k images (NLVR2: k = 2) gives `pixel_values` (N, k, height, width, 3).
            text: one text or a list of N. One text goes with every image, one image with every text.
            text_pair: second texts, as many as `text`.
            return_tensors: "tf" (the default) or "np" for NumPy arrays.
            **options: the tokenizer's (`padding`, default True: the longest of the batch; `truncation`, default True:
                at `tokenizer.model_max_length`; False refuses a text that is longer; `max_length`, …) and the image
                processor's (`do_resize`, `size`, …).

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask` int32 (N, length); `pixel_values` float32 (N, height, width,
            3), `pixel_mask` int32 (N, height, width). Only the text or the image part where the other is not given.

        Raises:
            ValueError: neither images nor text, counts that do not match, a text that is too long, a bad image, or
                another kind of tensors.
        """
        if return_tensors not in (None, "tf", "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; ViltProcessor returns 'tf' or 'np'")
        if images is None and text is None:
            raise ValueError("ViltProcessor got neither images nor text; give at least one of them")
        text_options = {name: options.pop(name) for name in TEXT_OPTIONS & options.keys()}
        if unknown := options.keys() - IMAGE_OPTIONS:
            raise ValueError(
                f"ViltProcessor has no option {', '.join(sorted(unknown))}; it takes images, text, text_pair, "
                f"return_tensors, {', '.join(sorted((TEXT_OPTIONS | IMAGE_OPTIONS) - {'self', 'text', 'text_pair'}))}"
            )
        inputs = match_rows(
            {} if text is None else self._texts(text, text_pair, text_options),
            {} if images is None else self.image_processor(images, **options),
        )
        return {name: value.numpy() for name, value in inputs.items()} if return_tensors == "np" else inputs

    def _texts(self, text, text_pair, options: dict) -> dict:
        limit = self.tokenizer.model_max_length
        max_length = limit if options.get("max_length") is None else options["max_length"]
        if max_length > limit:
            raise ValueError(
                f"max_length is {max_length}, more than the {limit} positions of the model; give at most that"
            )
        if limit < NO_LIMIT:
            options = options | {"max_length": max_length}  # so that a text that may not be cut is refused
        return self.tokenizer(text, text_pair, **options)

    def decode(self, ids, **options) -> str:
        """The text of one row of token ids, as `BertTokenizer.decode`."""
        return self.tokenizer.decode(ids, **options)

    def batch_decode(self, ids, **options) -> list[str]:
        """The texts of several rows of token ids, as `BertTokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(ids, **options)


def match_rows(texts: dict, images: dict) -> dict:
    """Joins both dicts; where one of them has a single row, that row is repeated for each of the other's.

    Row counts that a graph does not know are taken to match.
    """
    rows_of_texts, rows_of_images = (
        next((value.shape[0] for value in part.values()), None) for part in (texts, images)
    )
    if None in (rows_of_texts, rows_of_images) or rows_of_texts == rows_of_images:
        return texts | images
    if rows_of_texts == 1:
        return repeat_row(texts, rows_of_images) | images
    if rows_of_images == 1:
        return texts | repeat_row(images, rows_of_texts)
    raise ValueError(
        f"got {rows_of_images} images and {rows_of_texts} texts; give as many of one as of the other, or one of either"
    )


def repeat_row(tensors: dict, rows: int) -> dict:
    return {name: tf.gather(tensor, [0] * rows) for name, tensor in tensors.items()}
