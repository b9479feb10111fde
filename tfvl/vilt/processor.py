"""ViLT's processor, which turns images and texts into the model's inputs."""

import dataclasses
from pathlib import Path

from tfvl.porting.originals.reading import is_alone
from tfvl.preprocessing.image.processor import ViltImageProcessor
from tfvl.preprocessing.text.tokenizer import BertTokenizer
from tfvl.processors.base import Processor, as_kind, match_rows
from tfvl.vilt.config import ViltConfig

IMAGE_FIELDS = tuple(field.name for field in dataclasses.fields(ViltImageProcessor))
IMAGE_OPTIONS = frozenset(IMAGE_FIELDS) | {"input_data_format"}


class ViltProcessor(Processor):
    """Joins `ViltImageProcessor` and `BertTokenizer` (upstream: `ViltProcessor`).

        processor = ViltProcessor.from_pretrained("dandelin/vilt-b32-finetuned-vqa")
        inputs = processor(images=[jpeg_bytes], text=["how many cats?"])

    Attributes:
        image_processor: the `ViltImageProcessor`.
        tokenizer: the `BertTokenizer`; its `model_max_length` is at most the number of positions of the model.
    """

    config_class = ViltConfig
    sees = "images"

    def __init__(self, image_processor: ViltImageProcessor, tokenizer: BertTokenizer):
        if not isinstance(image_processor, ViltImageProcessor) or not isinstance(tokenizer, BertTokenizer):
            raise ValueError(
                "ViltProcessor takes a ViltImageProcessor and a BertTokenizer, got "
                f"{type(image_processor).__name__} and {type(tokenizer).__name__}"
            )
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, src: str | Path, **options) -> "ViltProcessor":
        """Reads vocabulary, tokenizer and image options of a hub id, a directory or a bundled model.

        Checkpoints have a limit of 512 tokens, or none, in tokenizer_config.json, although ViLT has 40 positions. So
        the limit is at most `max_position_embeddings` of config.json, or 40 without that file.

        The authors' own weight files come without other files; they get the image processor's defaults and BERT's
        vocabulary.

        Args:
            src: the checkpoint.
            **options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`; and options of `BertTokenizer`
                and of `ViltImageProcessor`, which replace those in the files.

        Raises:
            CheckpointError: a file is missing or cannot be used; names the file.
            ValueError: an option is not known or out of its range.
        """
        of_images = {name: options.pop(name) for name in IMAGE_FIELDS if name in options}
        read = cls.read(src, IMAGE_FIELDS, **options)
        alone = is_alone(Path(src).expanduser())
        images = ViltImageProcessor() if alone else ViltImageProcessor.from_pretrained(read.directory)
        processor = cls(images.replace(**of_images), read.tokenizer)
        processor.positions = read.positions
        return processor

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
            3), `pixel_mask` int32 (N, height, width). Without images or without text, only the other part.

        Raises:
            ValueError: neither images nor text are given, their numbers do not match, a text is too long, an image
                cannot be read, or `return_tensors` is unknown.
        """
        self.check_return_tensors(return_tensors)
        if images is None and text is None:
            raise ValueError("ViltProcessor got neither images nor text; give at least one of them")
        text_options, image_options = self.split_options(options, IMAGE_OPTIONS)
        inputs = match_rows(
            {} if text is None else self.encode_texts(text, text_pair, text_options),
            {} if images is None else self.image_processor(images, **image_options),
        )
        return as_kind(inputs, return_tensors)

    @property
    def model_input_names(self) -> list[str]:
        """The names of the model inputs that a call with texts and images returns."""
        return [*super().model_input_names, "pixel_values", "pixel_mask"]

    def parts(self) -> dict[str, str]:
        return {"image_processor": repr(self.image_processor), **super().parts()}
