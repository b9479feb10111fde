"""What the processors of all models share: texts within the model's positions, rows that match, NumPy on request."""

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
        directory: of the files.
        tokenizer: the tokenizer, whose `model_max_length` is at most `positions`.
        config: the model's configuration; None where there is none.
        positions: how many tokens the model takes.
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
        detector: what finds the regions of images for a model that sees regions, if there is such a thing, else None.
        feature_size: of regions, see `RegionProcessor`; None where they may be of any size.
        feature_size_field: of the configuration, which says the feature size; "" where no regions are seen.
        positions: how many tokens the model takes; None where that is not known, as of a processor made by hand.
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

        The configuration of a weight file of the papers' authors, alone, is what its tensors tell.

        Checkpoints may say no limit or a wrong one in tokenizer_config.json; the smaller of that, of the `max_length`
        that the files ask of a processor's calls, and of `max_position_embeddings` of the configuration (the family's
        default where there is none) holds, unless `model_max_length` is given.

        Args:
            src: as in `from_pretrained`.
            others: names of options that the family takes out itself, for the error.
            **options: the hub's, and those of `BertTokenizer` in place of what its files say.

        Raises:
            CheckpointError: a file is missing or cannot be used; names the file.
            ValueError: an option that is not known.
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
        values = originals.config_values(path, heads=1) if file.is_file() else None  # of whatever attention heads
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

        What the tokenizer's files ask of a processor's calls holds where `options` do not say otherwise.

        Raises:
            ValueError: `max_length` exceeds the positions, or a text may not be cut and does.
        """
        given = options.get("max_length")
        limit, options = self.tokenizer.model_max_length, self.tokenizer.call_options | options
        max_length, step = given, options.get("pad_to_multiple_of") or 1
        if given is None:  # what is cut there can be padded without exceeding it
            max_length = limit if limit == NO_LIMIT or step > limit else limit - limit % step
        elif self.positions is not None and isinstance(given, int) and given > max(self.positions, limit):
            raise ValueError(
                f"max_length is {given}, more than the {self.positions} positions of the model; give at most that, or "
                "load the processor with model_max_length for a model that has more"
            )
        if max_length != NO_LIMIT:
            options |= {"max_length": max_length}  # so that a text that may not be cut is refused
        return self.tokenizer(text, text_pair, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Uploads what `save_pretrained` writes to a repository of the hub; as `PreTrainedModel.push_to_hub`."""
        processor: Any = self  # a family has `save_pretrained`
        return upload.push(processor.save_pretrained, repo_id, **options)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the inputs that the tokenizer returns; a family adds those of its images."""
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
    """Returns the tensors unchanged, or as NumPy arrays where `return_tensors` is "np"."""
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
