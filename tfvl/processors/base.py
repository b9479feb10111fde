"""What the processors of all models share: texts within the model's positions, rows that match, NumPy on request."""

import inspect
from pathlib import Path
from typing import ClassVar

import tensorflow as tf

from tfvl.modeling.configuration import Config
from tfvl.porting import hub
from tfvl.porting.originals import reading as originals
from tfvl.preprocessing.text.tokenizer import NO_LIMIT, BertTokenizer

TEXT_OPTIONS = frozenset(inspect.signature(BertTokenizer.__call__).parameters) - {"self", "text", "text_pair"}


class Processor:
    """The tokenizer's half of a processor; a family adds its images or regions.

    Attributes:
        sees: "images" or "regions", what the model sees.
        tokenizer: the `BertTokenizer`; its `model_max_length` is at most the number of positions of the model.
        image_processor: the `ViltImageProcessor` of a model that sees images, else None.
        detector: what finds the regions of images for a model that sees regions, if there is such a thing, else None.
        feature_size: of regions, see `RegionProcessor`; None where they may be of any size.
        feature_size_field: of the configuration, which says the feature size; "" where no regions are seen.
    """

    config_class: ClassVar[type[Config]]
    sees: ClassVar[str]
    tokenizer: BertTokenizer
    image_processor = detector = feature_size = None
    feature_size_field = ""

    @property
    def takes_images(self) -> bool:
        """Whether it takes images: the model sees them, or there is a detector."""
        return self.sees == "images" or self.detector is not None

    @classmethod
    def read(cls, src: str | Path, **hub_options) -> tuple[Path, BertTokenizer, Config | None]:
        """The directory of a checkpoint's small files, its tokenizer, and its configuration (None where it has none).

        The configuration of a weight file of the papers' authors, alone, is what its tensors tell.

        Checkpoints may say no limit or a wrong one in tokenizer_config.json; the smaller of that and
        `max_position_embeddings` of the configuration (the family's default where there is none) holds.

        Raises:
            CheckpointError: a file is missing or cannot be used; names the file.
        """
        path = hub.resolve(src, weights=False, **hub_options)
        directory = path if path.is_dir() else path.parent
        file = path if originals.is_alone(path) else directory / "config.json"
        values = originals.config_values(path, heads=1) if file.is_file() else None  # of whatever attention heads
        config = values and cls.config_class.from_values(values, file)
        tokenizer = BertTokenizer.from_pretrained(hub.tokenizer_directory(path))
        positions = (config or cls.config_class()).max_position_embeddings
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        return directory, tokenizer, config

    def encode_texts(self, text, text_pair, options: dict) -> dict:
        """The tokenizer's dict for one text or a list of them; none is longer than the model's positions.

        Raises:
            ValueError: `max_length` exceeds the positions, or a text may not be cut and does.
        """
        limit = self.tokenizer.model_max_length
        max_length = limit if options.get("max_length") is None else options["max_length"]
        if max_length > limit:
            raise ValueError(
                f"max_length is {max_length}, more than the {limit} positions of the model; give at most that"
            )
        if limit < NO_LIMIT:
            options = options | {"max_length": max_length}  # so that a text that may not be cut is refused
        return self.tokenizer(text, text_pair, **options)

    def split_options(self, options: dict, others: frozenset[str] = frozenset()) -> tuple[dict, dict]:
        """A call's `options` as the tokenizer's and `others`. Raises ValueError for one that is neither."""
        if unknown := options.keys() - TEXT_OPTIONS - others:
            arguments = inspect.signature(type(self).__call__).parameters
            own = [name for name in arguments if name not in ("self", "options")]
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; "
                f"it takes {', '.join([*own, *sorted(TEXT_OPTIONS | others)])}"
            )
        return tuple(
            {name: value for name, value in options.items() if (name in TEXT_OPTIONS) == of_text}
            for of_text in (True, False)
        )

    def check_return_tensors(self, kind: str | None) -> None:
        """Raises ValueError for another kind of tensors than TensorFlow's and NumPy's."""
        if kind not in (None, "tf", "np"):
            raise ValueError(f"return_tensors is {kind!r}; {type(self).__name__} returns 'tf' or 'np'")

    def decode(self, ids, **options) -> str:
        """The text of one row of token ids, as `BertTokenizer.decode`."""
        return self.tokenizer.decode(ids, **options)

    def batch_decode(self, ids, **options) -> list[str]:
        """The texts of several rows of token ids, as `BertTokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(ids, **options)

    def parts(self) -> dict[str, str]:
        """What `repr` shows: name of an attribute to its text."""
        limit = self.tokenizer.model_max_length
        shown = "none" if limit == NO_LIMIT else limit
        return {"tokenizer": f"BertTokenizer({len(self.tokenizer)} tokens, model_max_length={shown})"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self.parts().items())})"


def as_kind(inputs: dict, return_tensors: str | None) -> dict:
    """The tensors as they are, or NumPy arrays where `return_tensors` is "np"."""
    return {name: value.numpy() for name, value in inputs.items()} if return_tensors == "np" else inputs


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
