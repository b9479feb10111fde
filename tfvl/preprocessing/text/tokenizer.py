"""BertTokenizer: upstream's token ids from raw strings, eagerly, inside `tf.data` and inside an exported graph."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import tensorflow as tf

from tfvl.errors import CheckpointError
from tfvl.files.reading import reason
from tfvl.preprocessing.text import options as text_options
from tfvl.preprocessing.text import unicode_tables as tables
from tfvl.preprocessing.text import vocabulary
from tfvl.preprocessing.text.assembly import (
    PADDINGS,
    Options,
    SpecialIds,
    assemble,
    check_length,
    check_lengths,
    check_options,
)
from tfvl.preprocessing.text.detokenize import Detokenizer
from tfvl.preprocessing.text.options import CALL_OPTIONS, INPUT_NAMES, NO_LIMIT, OPTIONS, SIDES, one_of
from tfvl.preprocessing.text.padding import pad
from tfvl.preprocessing.text.texts import Text, as_list, as_texts
from tfvl.preprocessing.text.token_table import SPECIAL_TOKENS
from tfvl.preprocessing.text.wordpiece import WordPieceGraph, trace

# Arguments of upstream's call for features that are not supported here, and the values that do not ask for them.
NOT_HERE = {
    **{"is_split_into_words": False, "return_overflowing_tokens": False, "return_offsets_mapping": False},
    **{"text_target": None, "text_pair_target": None},
}


class BertTokenizer(Detokenizer):
    """Converts text to token ids, identical to the `tokenizers`-backed `BertTokenizer` of transformers 5.

    The same object works on Python strings, inside `tf.data.Dataset.map` and inside an exported SavedModel, where
    vocabulary and Unicode tables are constants of the graph. Bytes that are not UTF-8 are left out, as upstream's
    cleaning leaves U+FFFD out.

    Args:
        vocab: a vocab.txt file, a list of tokens (the position is the id), or a mapping token → id.
        do_lower_case: lower-case the text.
        never_split: words kept whole and unchanged if white space (or a special token) surrounds them, as in
            upstream's slow tokenizer of version 4; one that the vocabulary lacks becomes unknown. transformers 5
            ignores this option.
        unk_token, sep_token, pad_token, cls_token, mask_token: strings, or an `AddedToken` each. They are found in the
            raw text, with the same case, and kept whole. Those that the vocabulary lacks get the ids behind it.
        tokenize_chinese_chars: make each CJK ideograph a word.
        strip_accents: remove accents; None: do so if `do_lower_case` is set.
        model_max_length: the length to which truncation cuts if no `max_length` is given; None: no limit.
        additional_special_tokens: more tokens kept whole; those that the vocabulary lacks get the ids behind it.
        extra_special_tokens: the same by its name in version 5; a mapping also names the tokens, as `image_token`.
        added_tokens_decoder: all tokens that are kept whole, by id, as in tokenizer_config.json; see `AddedToken` in
            `tfvl.preprocessing.text.added_tokens`.
        padding_side, truncation_side: "right" or "left".
        split_special_tokens: split special tokens in a text like words.
        model_input_names: the outputs that a call returns by default.
        clean_up_tokenization_spaces: the default of the argument of this name of `decode`.
        **others: special tokens of other names, such as `bos_token`, `eos_token` or `image_token`; and defaults of the
            calls of a processor, such as `max_length` (upstream: `init_kwargs`).

    Raises:
        TypeError: an option is not known.
        ValueError: the vocabulary cannot be used, or an option has the wrong type.
        tfvl.errors.CheckpointError: a vocabulary file cannot be used.
    """

    def __init__(
        self,
        vocab: str | Path | Sequence[str] | Mapping[str, int],
        do_lower_case: bool = True,
        never_split: Iterable[str] | None = None,
        unk_token: Any = SPECIAL_TOKENS["unk_token"],
        sep_token: Any = SPECIAL_TOKENS["sep_token"],
        pad_token: Any = SPECIAL_TOKENS["pad_token"],
        cls_token: Any = SPECIAL_TOKENS["cls_token"],
        mask_token: Any = SPECIAL_TOKENS["mask_token"],
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        model_max_length: float | None = NO_LIMIT,
        additional_special_tokens: Iterable[Any] = (),
        *,
        extra_special_tokens: Iterable[Any] | Mapping[str, Any] | None = None,
        added_tokens_decoder: Mapping[int | str, Any] | None = None,
        padding_side: str = SIDES[0],
        truncation_side: str = SIDES[0],
        split_special_tokens: bool = False,
        model_input_names: Sequence[str] = INPUT_NAMES,
        clean_up_tokenization_spaces: bool = False,
        **others: Any,
    ):
        given = locals()
        for name, value in text_options.checked(given).items():
            setattr(self, name, value)
        self.call_options = {name: others.pop(name) for name in CALL_OPTIONS if name in others}
        for name in others:
            if not name.endswith("_token"):
                raise TypeError(f"BertTokenizer has no option {name}; it takes {', '.join(ARGUMENTS)}")
        extra = extra_special_tokens or additional_special_tokens or ()
        if isinstance(extra, Mapping):
            others, extra = others | dict(extra), ()
        named = {name: others.pop(name, None) for name in ("bos_token", "eos_token")}
        named |= {name: given[name] for name in SPECIAL_TOKENS} | others
        super().__init__(vocabulary.load(vocab), named, extra, added_tokens_decoder)
        self._changed()
        self._graph  # noqa: B018  # built now, so that a token that it cannot hold is refused here

    def _changed(self) -> None:
        self._words: WordPieceGraph | None = None
        self._encoders: dict[Options, tf.types.experimental.ConcreteFunction | None] = {}

    @property
    def _graph(self) -> WordPieceGraph:
        if self._words is None:
            lowercase, strip_accents, isolate_chinese = self._normalizer
            self._words = WordPieceGraph(
                self._base_vocab,
                added=self.added_tokens_decoder,
                unk_token=self.unk_token,
                never_split=self.never_split,
                lowercase=lowercase,
                strip_accents=strip_accents,
                isolate_chinese=isolate_chinese,
            )
        return self._words

    @property
    def _normalizer(self) -> tuple[bool, bool, bool]:
        """The normaliser's options: lower-casing, stripping accents, isolating Chinese characters."""
        strips = self.do_lower_case if self.strip_accents is None else self.strip_accents
        return self.do_lower_case, strips, self.tokenize_chinese_chars

    def _normalized(self, text: str) -> str:
        table = tables.character_table(*self._normalizer, isolate_punctuation=False)
        return tables.normalized(text, table.pages, table.entries)

    @classmethod
    def from_pretrained(
        cls,
        src: str | Path,
        **options: Any,
    ) -> Self:
        """Loads a tokenizer by a bundled name, a directory, a vocab.txt or a hub id.

        Args:
            src: where the files are.
            **options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`, as in huggingface_hub; and
                arguments of the class, in place of what the files say.
        """
        from tfvl.porting.hub import resolve, split_options

        hub_options, overrides = split_options(options)
        path = resolve(src, weights=False, **hub_options)
        is_list, directory = path.suffix == ".txt", path if path.is_dir() else path.parent
        arguments = {"vocab": path, **overrides} if is_list else vocabulary.read_directory(directory, overrides)
        try:
            return cls(**arguments)
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{path if is_list else vocabulary.files_of(directory)}: {reason(error)}") from None

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
        config = self.get_config()
        decoder = {i: token.to_dict() for i, token in self.added_tokens_decoder.items()}
        vocabulary.write_directory(Path(directory), config.pop("vocab"), config | {"added_tokens_decoder": decoder})

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        config = super().get_config()
        options = text_options.said({name: getattr(self, name) for name in OPTIONS})
        return {"vocab": config.pop("vocab"), **options, **config, **self.call_options}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)

    def __reduce__(self):
        return type(self).from_config, (self.get_config(),)

    @tf.autograph.experimental.do_not_convert
    def __call__(
        self,
        text: Text,
        text_pair: Text | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = True,
        truncation: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        padding_side: str | None = None,
        split_special_tokens: bool | None = None,
        return_tensors: str | None = None,
        stride: int = 0,
        verbose: bool = True,
        **others: Any,
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encodes texts, or pairs of texts.

        Args:
            text: one string (a batch of one), N strings, a tf.Tensor of strings, or N pairs of strings.
            text_pair: the second texts, as many as first ones. "" counts as none for a single `text`.
            add_special_tokens: build [CLS] text [SEP] or [CLS] text [SEP] pair [SEP].
            padding: True or "longest", "max_length", or False (RaggedTensors are returned).
            truncation: True or "longest_first", "only_first", "only_second": cut what exceeds `max_length`, unless it
                leaves no room for the special tokens. False: refuse a text that exceeds it.
            max_length: number of tokens, special ones included. The default is `model_max_length`; if that is not set
                either, rows are not cut, and not padded to a fixed length.
            pad_to_multiple_of: round the padded length up to a multiple of this number.
            return_token_type_ids, return_attention_mask: None: return them if `model_input_names` has them.
            padding_side, split_special_tokens: replace the tokenizer's own in this call.
            return_tensors: "tf" (the default) or "np" for NumPy arrays.
            stride, verbose: have no effect: what is cut off is not returned, and there are no messages.

        Returns:
            int32 tensors (N, L): `input_ids`, `token_type_ids`, `attention_mask`, and on demand `special_tokens_mask`
            (1 where a token was added) and `length` (N,), the number of tokens, padding included.

        Raises:
            ValueError: something is not a text; a row is longer than `max_length` and may not be truncated
                (`tf.errors.InvalidArgumentError` if that shows only while a graph runs); an argument of upstream's is
                not supported here.
        """
        for name, value in others.items():
            if name not in NOT_HERE or value not in (NOT_HERE[name], None):
                raise ValueError(f"BertTokenizer has no {name}={value!r} here; see the docstring for what it takes")
        one_of("return_tensors", return_tensors, (None, "tf", "np"))
        texts = as_texts(text, text_pair)
        options = check_options(
            pair=len(texts) == 2,
            add_special_tokens=add_special_tokens,
            split_special_tokens=self.split_special_tokens if split_special_tokens is None else split_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            model_max_length=self._limit,
            padding_side=self.padding_side if padding_side is None else padding_side,
            truncation_side=self.truncation_side,
        )
        encoded = self._encoder(options)(*texts)
        lengths = encoded.pop("tokens")
        check_length(lengths, options)
        wanted = {
            "input_ids": True,
            "token_type_ids": self._returns("token_type_ids", return_token_type_ids),
            "attention_mask": self._returns("attention_mask", return_attention_mask),
            "special_tokens_mask": return_special_tokens_mask,
            "length": return_length,
        }
        encoded = {name: encoded[name] for name in wanted if wanted[name]}
        if options.padding == "none":
            encoded = {k: v if k == "length" else tf.RaggedTensor.from_tensor(v, lengths) for k, v in encoded.items()}
        return {k: v.numpy() for k, v in encoded.items()} if return_tensors == "np" else encoded

    def _returns(self, name: str, asked: bool | None) -> bool:
        return name in self.model_input_names if asked is None else asked

    def _encoder(self, options: Options) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns the function that encodes with these options; all callers share one trace.

        Only the first eager call runs op by op. That takes a third of the time of tracing, and a process that answers
        one question needs no more.
        """
        if tf.executing_eagerly() and options not in self._encoders:
            self._encoders[options] = None
            return partial(self._encode, options, self._graph.encode)
        if self._encoders.get(options) is None:
            self._encoders[options] = trace(partial(self._encode, options, self._graph), 2 if options.pair else 1)
        return self._encoders[options]

    def _encode(self, options: Options, split: Callable, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = SpecialIds(self.cls_token_id, self.sep_token_id, self.pad_token_id)
        return assemble([split(text, options.split_special_tokens) for text in texts], options, ids)

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Splits one text, or a pair, into tokens; words outside the vocabulary become the unknown token."""
        return self.convert_ids_to_tokens(self.encode(text, pair, add_special_tokens, truncation=False))

    def encode(
        self, text: str, text_pair: str | None = None, add_special_tokens: bool = True, **options: Any
    ) -> list[int]:
        """Returns the ids of one text, or of one pair, as a list. `options` are those of `__call__`.

        By default they are not padded.
        """
        encoded = self(text, text_pair, add_special_tokens, **{"padding": False} | options)
        return as_list(encoded["input_ids"][0])

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> dict[str, tf.Tensor]:
        """Pads rows that are encoded already to one length; the other arguments are those of a call.

        Args:
            encoded_inputs: a dict of lists of rows, of one row, of arrays or (ragged) tensors; or a list of dicts of
                one row each. Rows under other names than those of the tokenizer's outputs must have one length.

        Returns:
            int32 tensors (N, L), or (L,) for a single row; an attention mask that is wanted and missing is made.

        Raises:
            ValueError: there are no `input_ids`, rows do not fit together, or padding is False.
        """
        strategy = one_of("padding", padding, {name: value for name, value in PADDINGS.items() if value != "none"})
        one_of("return_tensors", return_tensors, (None, "tf", "np"))
        check_lengths(max_length, pad_to_multiple_of)
        fill = {"input_ids": self.pad_token_id, "token_type_ids": 0, "special_tokens_mask": 1, "attention_mask": 0}
        padded = pad(
            encoded_inputs,
            fill,
            self._returns("attention_mask", return_attention_mask),
            (self._limit if max_length is None else max_length) if strategy == "max_length" else None,
            pad_to_multiple_of,
            left=one_of("padding_side", padding_side or self.padding_side, SIDES) == "left",
        )
        return {name: value.numpy() for name, value in padded.items()} if return_tensors == "np" else padded

    @property
    def max_len_single_sentence(self) -> int:
        """The largest number of tokens of a single text, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """The largest number of tokens of a pair of texts, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    @property
    def _limit(self) -> int | None:
        return None if self.model_max_length >= NO_LIMIT else self.model_max_length


ARGUMENTS = tuple(name for name in inspect.signature(BertTokenizer).parameters if name != "others")
BertTokenizerFast = LxmertTokenizer = LxmertTokenizerFast = BertTokenizer
