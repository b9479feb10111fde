"""The base of all processors: texts within the model's positions, rows that match, NumPy arrays on request."""

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from tfvl.modeling import upstream_arguments
from tfvl.modeling.bert_config import BertConfig
from tfvl.porting import hub, upload
from tfvl.porting.originals import reading as originals
from tfvl.preprocessing.text.tokenizer import ARGUMENTS, NO_LIMIT, BertTokenizer

TOKENIZER_OPTIONS = frozenset(ARGUMENTS) - {"vocab"}
TEXT_OPTIONS = frozenset(inspect.signature(BertTokenizer.__call__).parameters) - {
    *("self", "text", "text_pair", "return_tensors", "others")
}


class Read(NamedTuple):
    """What a processor needs of a checkpoint's tokenizer and configuration files.

    Attributes:
        directory: the directory of the files.
        tokenizer: the tokenizer, whose `model_max_length` is at most `positions`.
        config: the model's configuration; None if there is none.
        positions: the largest number of tokens that the model takes.
    """

    directory: Path
    tokenizer: BertTokenizer
    config: BertConfig | None
    positions: int


class Processor:
    """Base of all processors, which prepares texts; a family's processor adds images or regions.

    Attributes:
        sees: "images" or "regions", what the model sees.
        tokenizer: the `BertTokenizer`; its `model_max_length` is at most the number of positions of the model.
        image_processor: the `ViltImageProcessor` of a model that sees images, else None.
        detector: the model that finds the regions of images, for a model that sees regions; None if there is none.
        feature_size: the size of a region's features, see `RegionProcessor`; None: any size.
        feature_size_field: the configuration's field that holds the feature size; "" for a model that sees images.
        positions: the largest number of tokens that the model takes; None if it is not known, as it is not if the
            processor was made by its constructor.
    """

    config_class: ClassVar[type[BertConfig]]
    sees: ClassVar[str]
    tokenizer: BertTokenizer
    image_processor: Any = None
    detector: Any = None
    feature_size: int | None = None
    feature_size_field: Any = ""

    @property
    def takes_images(self) -> bool:
        """Whether a call takes images: because the model sees them, or because there is a detector."""
        return self.sees == "images" or self.detector is not None

    positions: int | None = None

    @classmethod
    def read(cls, src: str | Path, others: Collection[str] = (), **options) -> Read:
        """Reads the tokenizer and the configuration of a checkpoint.

        The configuration of a weight file of the papers' authors without config.json follows from its tensors.

        Checkpoints may have no limit or a wrong one in tokenizer_config.json. So the limit is the smallest of that one,
        of the `max_length` that the files set for a processor's calls, and of `max_position_embeddings` of the
        configuration (the family's default without one), unless `model_max_length` is given.

        Args:
            src: as in `from_pretrained`.
            others: names of the family's own options, which the error lists.
            **options: options of the hub, and of `BertTokenizer`, which replace those in its files.

        Raises:
            CheckpointError: a file is missing or cannot be used; the message names it.
            ValueError: an option is not known.
        """
        upstream_arguments.refuse(options, f"{cls.__name__}.from_pretrained")
        hub_options, options = hub.split_options(options)
        if unknown := [name for name in options if name not in TOKENIZER_OPTIONS and not name.endswith("_token")]:
            raise ValueError(
                f"{cls.__name__}.from_pretrained has no option {', '.join(unknown)}; it takes "
                f"{', '.join([*sorted(TOKENIZER_OPTIONS.union(hub.OPTIONS)), *sorted(others)])}"
            )
        path = hub.resolve(src, weights=False, **hub_options)
        directory = path if path.is_dir() else path.parent
        file = path if originals.is_alone(path) else directory / "config.json"
        values = originals.config_values(path, heads=1) if file.is_file() else None  # the number of heads has no effect
        config = cls.config_class.from_values(values, file) if values else None
        tokenizer = BertTokenizer.from_pretrained(hub.tokenizer_directory(path), **options)
        positions = (config or cls.config_class()).max_position_embeddings
        if options.get("model_max_length"):
            return Read(directory, tokenizer, config, max(positions, tokenizer.model_max_length))
        limits = tokenizer.model_max_length, positions, tokenizer.call_options.get("max_length")
        tokenizer.model_max_length = min(limit for limit in limits if limit)
        return Read(directory, tokenizer, config, positions)

    def encode_texts(self, text, text_pair, options: dict) -> dict:
        """Encodes one text or a list of texts, each of at most as many tokens as the model has positions.

        The options that the tokenizer's files set for a processor's calls are the defaults of `options`.

        Raises:
            ValueError: `max_length` exceeds the positions, or a text exceeds `max_length` and may not be cut.
        """
        given = options.get("max_length")
        limit, options = self.tokenizer.model_max_length, self.tokenizer.call_options | options
        max_length, step = given, options.get("pad_to_multiple_of") or 1
        if given is None:  # a multiple of the step, so that padding does not exceed the limit
            max_length = limit if limit == NO_LIMIT or step > limit else limit - limit % step
        elif self.positions is not None and isinstance(given, int) and given > max(self.positions, limit):
            raise ValueError(
                f"max_length is {given}, more than the {self.positions} positions of the model; give at most that, or "
                "load the processor with model_max_length for a model that has more"
            )
        if max_length != NO_LIMIT:
            options |= {"max_length": max_length}  # so that a longer text is refused if it may not be cut
        return self.tokenizer(text, text_pair, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Uploads what `save_pretrained` writes to a repository of the hub, as `PreTrainedModel.push_to_hub` does."""
        processor: Any = self  # a family has `save_pretrained`
        return upload.push(processor.save_pretrained, repo_id, **options)

    @property
    def model_input_names(self) -> list[str]:
        """The names of the inputs that the tokenizer returns; a family adds those of its images."""
        return list(self.tokenizer.model_input_names)

    def split_options(self, options: dict, others: frozenset[str] = frozenset()) -> tuple[dict, dict]:
        """Splits the options of a call into the tokenizer's and `others`. Raises ValueError for one that is neither.

        As upstream, they may also come as dicts: `text_kwargs` and `images_kwargs`.
        """
        options = dict(options)
        for group, names in (("text_kwargs", TEXT_OPTIONS), ("images_kwargs", others)):
            for name, value in options.pop(group, {}).items():
                if name in options or name not in names:
                    problem = "given twice" if name in options else "no option there"
                    raise ValueError(f"{name} in {group} is {problem}; {group} takes {', '.join(sorted(names))}")
                options[name] = value
        if unknown := options.keys() - TEXT_OPTIONS - others:
            arguments = inspect.signature(type(self).__call__).parameters
            own = [name for name in arguments if name not in ("self", "options")]
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; "
                f"it takes {', '.join([*own, *sorted(TEXT_OPTIONS | others)])}"
            )
        of_text = {name: value for name, value in options.items() if name in TEXT_OPTIONS}
        return of_text, {name: value for name, value in options.items() if name not in TEXT_OPTIONS}

    def check_return_tensors(self, kind: str | None) -> None:
        """Raises ValueError unless `kind` is None, "tf" or "np"."""
        if kind not in (None, "tf", "np"):
            raise ValueError(f"return_tensors is {kind!r}; {type(self).__name__} returns 'tf' or 'np'")

    def decode(self, ids, **options) -> Any:
        """Converts one row of token ids to text, as `BertTokenizer.decode` does."""
        return self.tokenizer.decode(ids, **options)

    def batch_decode(self, ids, **options) -> list[str]:
        """Converts rows of token ids to texts, as `BertTokenizer.batch_decode` does."""
        return self.tokenizer.batch_decode(ids, **options)

    def parts(self) -> dict[str, str]:
        """Returns the texts that `repr` shows, by the name of the attribute."""
        limit = self.tokenizer.model_max_length
        shown = "none" if limit == NO_LIMIT else limit
        return {"tokenizer": f"BertTokenizer({len(self.tokenizer)} tokens, model_max_length={shown})"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self.parts().items())})"


def as_kind(inputs: dict, return_tensors: str | None) -> dict:
    """Returns the tensors unchanged, or as NumPy arrays if `return_tensors` is "np"."""
    return {name: value.numpy() for name, value in inputs.items()} if return_tensors == "np" else inputs


def match_rows(texts: dict, images: dict) -> dict:
    """Joins both dicts; a single row in one of them is repeated for each row of the other.

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
