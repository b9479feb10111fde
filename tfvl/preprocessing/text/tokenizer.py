"""BertTokenizer: upstream's token ids from raw strings, eagerly, inside `tf.data` and inside an exported graph."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text import detokenize, vocabulary
from tfvl.preprocessing.text.assembly import Options, SpecialIds, assemble, check_length, check_options
from tfvl.preprocessing.text.wordpiece import WordPieceGraph, trace

NO_LIMIT = int(1e30)  # upstream's model_max_length where a checkpoint sets none
LARGEST_LIMIT = 2**31 - 1  # anything above means none
Text = str | bytes | Sequence[str] | np.ndarray | tf.Tensor


class BertTokenizer:
    """Text to token ids, identical to the `tokenizers`-backed `BertTokenizer` of transformers 5.

    The same object works on Python strings, inside `tf.data.Dataset.map` and inside an exported SavedModel, where
    vocabulary and Unicode tables are constants of the graph. Bytes that are not UTF-8 are left out, as upstream's
    cleaning leaves U+FFFD out.

    Args:
        vocab: a vocab.txt file, a list of tokens (the position is the id), or a mapping token → id.
        do_lower_case: lower-case the text.
        never_split: words kept whole and unchanged where white space (or a special token) surrounds them, as in
            upstream's slow tokenizer of version 4; one that the vocabulary lacks becomes unknown. transformers 5
            ignores this option.
        unk_token, sep_token, pad_token, cls_token, mask_token: must be in the vocabulary. They are matched in the raw
            text, case and all, and kept whole.
        tokenize_chinese_chars: make each CJK ideograph a word.
        strip_accents: remove accents; None means: where `do_lower_case` is set.
        model_max_length: the length that truncation cuts to where no `max_length` is given.
        additional_special_tokens: more tokens kept whole; those that the vocabulary lacks get the ids behind it.

    Raises:
        ValueError: a vocabulary without one of the special tokens, or an option of the wrong type.
        tfvl.errors.CheckpointError: a vocabulary file that cannot be used.
    """

    def __init__(
        self,
        vocab: str | Path | Sequence[str] | Mapping[str, int],
        do_lower_case: bool = True,
        never_split: Iterable[str] | None = None,
        unk_token: str = "[UNK]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        cls_token: str = "[CLS]",
        mask_token: str = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        model_max_length: int = NO_LIMIT,
        additional_special_tokens: Iterable[str] = (),
    ):
        for name, value in (("do_lower_case", do_lower_case), ("tokenize_chinese_chars", tokenize_chinese_chars)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it must be true or false")
        if strip_accents not in (None, True, False):
            raise ValueError(f"strip_accents is {strip_accents!r}; it must be true, false or null")
        if not isinstance(model_max_length, (int, float)) or model_max_length < 1:
            raise ValueError(f"model_max_length is {model_max_length!r}; it must be a positive number")
        self.do_lower_case = do_lower_case
        self.never_split = tuple(never_split or ())
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.strip_accents = strip_accents
        self.model_max_length = int(model_max_length) if model_max_length <= LARGEST_LIMIT else NO_LIMIT
        self.unk_token, self.sep_token, self.pad_token = unk_token, sep_token, pad_token
        self.cls_token, self.mask_token = cls_token, mask_token
        self.additional_special_tokens = tuple(additional_special_tokens)

        self._base_vocab = _load_vocab(vocab)
        self._vocab = vocabulary.with_added(self._base_vocab, self.additional_special_tokens)
        for name in vocabulary.SPECIAL_TOKENS:
            token = getattr(self, name)
            if not isinstance(token, str) or token not in self._vocab:
                raise ValueError(f"the vocabulary of {len(self._vocab)} tokens lacks the {name} {token!r}")
            setattr(self, f"{name}_id", self._vocab[token])
        self._tokens = {i: token for token, i in self._vocab.items()}
        if len(self._tokens) != len(self._vocab):
            raise ValueError("the vocabulary gives one id to two tokens; each token needs an id of its own")
        self._graph = WordPieceGraph(
            self._vocab,
            special_tokens=self.all_special_tokens,
            unk_token=unk_token,
            never_split=self.never_split,
            lowercase=do_lower_case,
            strip_accents=do_lower_case if strip_accents is None else strip_accents,
            isolate_chinese=tokenize_chinese_chars,
        )
        self._encoders: dict[Options, tf.types.experimental.ConcreteFunction | None] = {}

    @classmethod
    def from_pretrained(
        cls,
        src: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """Load from a bundled name, a directory, a vocab.txt or a hub id; `overrides` replace constructor arguments."""
        from tfvl.porting.hub import resolve

        path = resolve(
            src, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only, weights=False
        )
        if path.suffix == ".txt":
            return cls(path, **overrides)
        return cls(**vocabulary.read_directory(path if path.is_dir() else path.parent) | overrides)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
        config = self.get_config()
        added = config.pop("additional_special_tokens")
        vocabulary.write_directory(Path(directory), config.pop("vocab"), config, added)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        names = (*vocabulary.OPTIONS, *vocabulary.SPECIAL_TOKENS)
        options = {name: getattr(self, name) for name in names}
        never_split = list(self.never_split) or None
        added = list(self.additional_special_tokens)
        return {"vocab": self._base_vocab, **options, "never_split": never_split, "additional_special_tokens": added}

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
        return_token_type_ids: bool = True,
        return_attention_mask: bool = True,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encode texts, or pairs of texts.

        Args:
            text: one string (a batch of one) or N; a tf.Tensor of strings, too.
            text_pair: the second texts, as many as first ones.
            add_special_tokens: build [CLS] text [SEP] or [CLS] text [SEP] pair [SEP].
            padding: True or "longest", "max_length", or False (RaggedTensors are returned).
            truncation: True or "longest_first", "only_first", "only_second": cut what exceeds `max_length`.
                False: refuse a text that exceeds it.
            max_length: number of tokens, special ones included. The default is `model_max_length`, where something
                is to be truncated or padded to it.
            pad_to_multiple_of: round the padded length up.

        Returns:
            int32 tensors (N, L): `input_ids`, `token_type_ids`, `attention_mask`, and on demand `special_tokens_mask`
            (1 where a token was added) and `length` (N,), the number of tokens before padding.

        Raises:
            ValueError: not a text; a row longer than `max_length` that may not be truncated
                (`tf.errors.InvalidArgumentError` where that shows only while a graph runs).
        """
        first = _as_batch(text, "text")
        texts = [first] if text_pair is None else [first, _as_batch(text_pair, "text_pair")]
        limit = None if self.model_max_length == NO_LIMIT else self.model_max_length
        options = check_options(
            len(texts) == 2, add_special_tokens, padding, truncation, max_length, pad_to_multiple_of, limit
        )
        if tf.executing_eagerly() and len({int(t.shape[0]) for t in texts}) > 1:
            raise ValueError(f"text has {texts[0].shape[0]} rows and text_pair {texts[1].shape[0]}; they must agree")
        encoded = self._encoder(options)(*texts)
        if options.max_length is not None:
            check_length(encoded["length"], options)
        wanted = {
            "input_ids": True,
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "length": return_length,
        }
        lengths = encoded["length"]
        if options.padding == "none":
            encoded = {k: v if k == "length" else tf.RaggedTensor.from_tensor(v, lengths) for k, v in encoded.items()}
        return {name: encoded[name] for name in wanted if wanted[name]}

    def _encoder(self, options: Options) -> Callable[..., dict[str, tf.Tensor]]:
        """The encoding for these options: one trace, shared by all callers.

        But the first eager call runs op by op. That takes a third of the time of tracing, and a process that answers
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
        return assemble([split(text) for text in texts], options, ids)

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, or of two; a word that the vocabulary cannot spell is the unknown token."""
        return self.convert_ids_to_tokens(self.encode(text, pair, add_special_tokens, truncation=False))

    def encode(
        self, text: str, text_pair: str | None = None, add_special_tokens: bool = True, **options: Any
    ) -> list[int]:
        """The ids of one text, or of one pair, as a list. `options` are those of `__call__`; no padding by default."""
        encoded = self(text, text_pair, add_special_tokens, **{"padding": False} | options)
        return encoded["input_ids"][0].numpy().tolist()

    def decode(self, token_ids, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False) -> str:
        """Ids of one text to a string, spaced as upstream spaces it; ids beyond the vocabulary are left out."""
        token_ids = _as_list(token_ids)
        if token_ids and isinstance(token_ids[0], list):
            raise ValueError(f"decode takes the ids of one text, got {len(token_ids)} rows; use batch_decode")
        tokens = self.convert_ids_to_tokens(token_ids, skip_special_tokens)
        text = self.convert_tokens_to_string([token for token in tokens if token is not None])
        return detokenize.clean_up(text) if clean_up_tokenization_spaces else text

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """`decode` of each row of a list, array, tensor or RaggedTensor."""
        return [self.decode(row, skip_special_tokens, **options) for row in _as_list(sequences)]

    @tf.autograph.experimental.do_not_convert
    def detokenize(self, token_ids: tf.Tensor | tf.RaggedTensor, skip_special_tokens: bool = True) -> tf.Tensor:
        """`batch_decode` as TensorFlow ops, for exported graphs: ids (N, L) to strings (N,)."""
        skipped = self.all_special_ids if skip_special_tokens else []
        return detokenize.detokenize(token_ids, self._tokens, skipped)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        if isinstance(tokens, str):
            return self._vocab.get(tokens, self.unk_token_id)
        return [self._vocab.get(token, self.unk_token_id) for token in tokens]

    def convert_ids_to_tokens(self, ids, skip_special_tokens: bool = False) -> str | list[str | None] | None:
        """An id, or several; None for an id beyond the vocabulary."""
        ids = _as_list(ids)
        if isinstance(ids, int):
            return self._tokens.get(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._tokens.get(i) for i in ids if i not in skipped]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return detokenize.join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """[CLS] A [SEP], or [CLS] A [SEP] B [SEP]."""
        first = [self.cls_token_id, *token_ids_0, self.sep_token_id]
        return first if token_ids_1 is None else [*first, *token_ids_1, self.sep_token_id]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """0 for [CLS] A [SEP], 1 for B [SEP]."""
        return [0] * (len(token_ids_0) + 2) + ([] if token_ids_1 is None else [1] * (len(token_ids_1) + 1))

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 for special tokens: those that encoding would add, or, if they are there already, those in the list."""
        if already_has_special_tokens:
            special = set(self.all_special_ids)
            return [int(i in special) for i in token_ids_0]
        mask = [1, *[0] * len(token_ids_0), 1]
        return mask if token_ids_1 is None else [*mask, *[0] * len(token_ids_1), 1]

    def get_vocab(self) -> dict[str, int]:
        return dict(self._vocab)

    @property
    def vocab_size(self) -> int:
        """Number of tokens without the added ones; `len(tokenizer)` counts all."""
        return len(self._base_vocab)

    def __len__(self) -> int:
        return len(self._vocab)

    @property
    def all_special_tokens(self) -> list[str]:
        named = (getattr(self, name) for name in vocabulary.SPECIAL_TOKENS)
        return list(dict.fromkeys([*named, *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        return [self._vocab[token] for token in self.all_special_tokens]


def _load_vocab(vocab: str | Path | Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(vocab, (str, Path)):
        if not Path(vocab).is_file():
            raise ValueError(f"there is no vocabulary file {vocab}; give a vocab.txt, a list of tokens or a mapping")
        return vocabulary.read_vocab(Path(vocab))
    return dict(vocab) if isinstance(vocab, Mapping) else vocabulary.index_tokens(vocab, "the vocabulary")


def _as_batch(text: Text, name: str) -> tf.Tensor:
    """Texts of any accepted kind as a string tensor (N,)."""
    if not tf.is_tensor(text):
        text = np.asarray(text).tolist() if isinstance(text, np.ndarray) else text
        rows = [text] if isinstance(text, (str, bytes)) else text
        if not isinstance(rows, (list, tuple)):
            raise ValueError(f"{name} is {text!r}; it must be a string, a list of strings or a tensor of strings")
        for i, row in enumerate(rows):
            if not isinstance(row, (str, bytes)):
                raise ValueError(f"{name} row {i} is {row!r}; it must be a string")
        text = tf.constant([_encode_utf8(row, i, name) for i, row in enumerate(rows)], tf.string)
    if text.dtype != tf.string or text.shape.rank not in (0, 1):
        raise ValueError(f"{name} is a {text.dtype.name} tensor of shape {text.shape}; it must hold strings, (N,)")
    return tf.reshape(text, [1]) if text.shape.rank == 0 else text


def _encode_utf8(text: str | bytes, row: int, name: str) -> bytes:
    try:
        return text.encode("utf-8") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        at = f"{name} row {row}, character {error.start}"
        raise ValueError(f"{at}, is half a surrogate pair, which is no text; remove it") from None


def _as_list(values: Any) -> Any:
    """Ids from any source as Python numbers or lists."""
    if isinstance(values, tf.RaggedTensor):
        return values.to_list()
    is_array = tf.is_tensor(values) or isinstance(values, (np.ndarray, np.integer))
    return np.asarray(values).tolist() if is_array else values


BertTokenizerFast = LxmertTokenizer = LxmertTokenizerFast = BertTokenizer
