"""The tokens of a tokenizer: its vocabulary, the tokens added to it, and the special ones that have a name.

Plain Python: nothing here needs TensorFlow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfvl.preprocessing.text.added_tokens import AddedToken, searched

SPECIAL_TOKENS = {  # the special tokens that every BERT tokenizer has: argument → default
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
NAMES = ("bos_token", "eos_token", *SPECIAL_TOKENS)


def specials_around(pair: bool) -> int:
    """Returns the number of special tokens that are added to one text, or to two."""
    return 3 if pair else 2


def _named(token: Any) -> AddedToken:
    """Makes a token that has a name; such a token is special even if its flags say otherwise."""
    return replace(AddedToken.of(token, special=True), special=True)


class TokenTable:
    """Tokens and ids, and what can be added to them; the base of `BertTokenizer`.

    Attributes:
        additional_special_tokens: the special tokens without a name, `extra_special_tokens` as a tuple.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        named: Mapping[str, Any],
        extra: Iterable[Any] = (),
        decoder: Mapping[int | str, Any] | None = None,
    ):
        """Takes a vocabulary, and adds what it lacks: first `decoder` in the order of ids, then `named`, then `extra`.

        Raises:
            ValueError: two tokens have one id, a token cannot have its id, or a name has no token.
        """
        self._base_vocab = dict(vocab)
        self._vocab = dict(vocab)
        self._by_id = {i: token for token, i in vocab.items()}
        if len(self._by_id) != len(self._vocab):
            raise ValueError("the vocabulary gives one id to two tokens; each token needs an id of its own")
        self._added: dict[int, AddedToken] = {}
        self._next = len(vocab)
        named = {name: None if token is None else _named(token) for name, token in named.items()}
        for name in SPECIAL_TOKENS:
            if named[name] is None:
                raise ValueError(f"{name} is None; a BertTokenizer has one, for example {SPECIAL_TOKENS[name]!r}")
        self._named = {name: None if token is None else token.content for name, token in named.items()}
        extra = [AddedToken.of(token, special=True) for token in extra]
        self._extra = list(dict.fromkeys(token.content for token in extra))
        for i, token in sorted((int(i), AddedToken.of(token)) for i, token in (decoder or {}).items()):
            self._add([_named(token) if token.content in self._named.values() else token])
            if self._vocab.get(token.content) != i:
                only = self._vocab.get(token.content)
                raise ValueError(f"the added token {token.content!r} has the id {i}; it can only be {only}")
        for token in (*named.values(), *extra):
            if token is not None and self._vocab.get(token.content) not in self._added:
                self._add([token])

    def _changed(self) -> None:
        """Is called after every change of the added or special tokens; a subclass drops here what it made from them."""

    def _normalized(self, text: str) -> str:
        """Normalises a text as the tokenizer's normaliser does."""
        return text

    # --- adding -------------------------------------------------------------------------------------------------------

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Adds tokens that are never split; those that the vocabulary lacks get the next free ids.

        Graphs that were traced or exported before keep the tokens of that time. A model needs an embedding for each id:
        `len(tokenizer)` of them.

        Args:
            new_tokens: a string or an `AddedToken` (upstream's too), or a list of them.
            special_tokens: whether strings are special tokens.

        Returns:
            The number of tokens that were added, are kept whole from now on, or got other flags.

        Raises:
            ValueError: something is not a token.
        """
        several = isinstance(new_tokens, Sequence) and not isinstance(new_tokens, str)
        count = self._add(AddedToken.of(token, special_tokens) for token in (new_tokens if several else [new_tokens]))
        self._changed()
        return count

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True
    ) -> int:
        """Gives names to special tokens, and adds those that the vocabulary lacks; see `add_tokens`.

        Args:
            special_tokens_dict: maps `mask_token`, `pad_token`, … to a token, and `extra_special_tokens` (also called
                `additional_special_tokens`) to a list of tokens.
            replace_extra_special_tokens: whether the list replaces the former one, whose tokens are still kept whole.

        Raises:
            ValueError: a name is not one of a special token, or something is not a token.
        """
        lists = ("extra_special_tokens", "additional_special_tokens")
        for name in special_tokens_dict:
            if name not in (*self._named, *lists):
                raise ValueError(f"{name} names no special token; give {', '.join((*self._named, lists[0]))}")
        count = 0
        for name, value in special_tokens_dict.items():
            tokens = [AddedToken.of(token, special=True) for token in value] if name in lists else [_named(value)]
            count += self._add(tokens)
            contents = [token.content for token in tokens]
            if name not in lists:
                self._named[name] = contents[0]
            else:
                self._extra = list(dict.fromkeys([*([] if replace_extra_special_tokens else self._extra), *contents]))
        self._changed()
        return count

    def _add(self, tokens: Iterable[AddedToken]) -> int:
        count = 0
        for token in tokens:
            i = self._vocab.get(token.content, self._next)
            if not token.content or self._added.get(i) == token:
                continue
            searched(token, self._normalized)
            if self._by_id.setdefault(i, token.content) != token.content:
                raise ValueError(f"the token {token.content!r} would get the id {i}, which {self._by_id[i]!r} has")
            self._added[i], self._vocab[token.content] = token, i
            self._next = max(self._next, i + 1)
            count += 1
        return count

    # --- the special ones ---------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Returns a special token by its name (`sep_token`), or its id (`sep_token_id`); None if it is not set."""
        named, of_token = self.__dict__.get("_named", {}), name.removesuffix("_id")
        if of_token not in named and of_token not in NAMES:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        token = named.get(of_token)
        return token if token is None or name == of_token else self._vocab[token]

    def __setattr__(self, name: str, value: Any) -> None:
        of_token = name.removesuffix("_id")
        if of_token not in (*self.__dict__.get("_named", ()), *NAMES):
            return super().__setattr__(name, value)
        token = value if name == of_token else self._by_id.get(value)
        if token not in self._vocab:
            raise ValueError(f"{name} is {value!r}, which the vocabulary lacks; add it by add_special_tokens")
        self._named[of_token] = token
        self._changed()

    @property
    def extra_special_tokens(self) -> list[str]:
        """The special tokens without a name. They can be set to other tokens of the vocabulary."""
        return list(self._extra)

    @extra_special_tokens.setter
    def extra_special_tokens(self, tokens: Sequence[str]) -> None:
        if missing := [token for token in tokens if token not in self._vocab]:
            raise ValueError(f"the vocabulary lacks the special token {missing[0]!r}; add it by add_special_tokens")
        self._extra = list(tokens)

    @property
    def extra_special_tokens_ids(self) -> list[int]:
        return self.convert_tokens_to_ids(self._extra)

    @property
    def additional_special_tokens(self) -> tuple[str, ...]:
        return tuple(self._extra)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by name."""
        return {name: token for name, token in self._named.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra]))

    @property
    def all_special_ids(self) -> list[int]:
        return self.convert_tokens_to_ids(self.all_special_tokens)

    # --- all of them --------------------------------------------------------------------------------------------------

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._added.items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the added tokens by token."""
        return {token.content: i for i, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """Returns `added_tokens_encoder`."""
        return self.added_tokens_encoder

    def get_vocab(self) -> dict[str, int]:
        """Returns the ids of all tokens, added ones included, by token."""
        return dict(self._vocab)

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    @property
    def vocab_size(self) -> int:
        """Number of tokens without the added ones; `len(tokenizer)` counts all."""
        return len(self._base_vocab)

    def __len__(self) -> int:
        return len(self._vocab)

    def __bool__(self) -> bool:
        return True

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Returns the id of a token, or a list of ids; a token outside the vocabulary gets the unknown token's id."""
        if isinstance(tokens, str):
            return self._vocab.get(tokens, self.unk_token_id)
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def shown(self, i: int) -> str | None:
        """Returns the token of an id as upstream prints it; for an added token, its content. None for an unknown id."""
        token = self._added.get(i)
        return self._normalized(token.content) if token and token.normalized else self._by_id.get(i)

    def all_shown(self) -> dict[int, str]:
        """Returns all ids with their tokens, as `shown` returns them."""
        return self._by_id | {i: self.shown(i) for i in self._added}

    def skipped_ids(self) -> set[int]:
        """Returns the ids that `decode` skips on demand: as upstream, of tokens shown as a special token's content."""
        special = {token.content for token in self._added.values() if token.special}
        return {i for i in self._added if self.shown(i) in special}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments for these tokens as JSON values."""
        named = {name: self._named[name] for name in SPECIAL_TOKENS}
        others = {name: token for name, token in self.special_tokens_map.items() if name not in named}
        config = {"vocab": self._base_vocab, **named, **others, "additional_special_tokens": self.extra_special_tokens}
        plain = [AddedToken.of(token, special=True) for token in self.all_special_tokens if token in self._base_vocab]
        if self._added != {self._base_vocab[token.content]: token for token in plain}:
            config["added_tokens_decoder"] = {str(i): each.to_dict() for i, each in self.added_tokens_decoder.items()}
        return config

    # --- a row of them ------------------------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Returns the number of special tokens added to one text, or to a pair."""
        return specials_around(pair)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Returns the ids [CLS] A [SEP], or [CLS] A [SEP] B [SEP]."""
        first = [self.cls_token_id, *token_ids_0, self.sep_token_id]
        return first if token_ids_1 is None else [*first, *token_ids_1, self.sep_token_id]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Returns token types: 0 for [CLS] A [SEP], 1 for B [SEP]."""
        return [0] * (len(token_ids_0) + 2) + ([] if token_ids_1 is None else [1] * (len(token_ids_1) + 1))

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Returns a mask, 1 for special tokens: for those that encoding would add, or for those already in the list."""
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError("token_ids_1 is for ids without special tokens; give all ids of the row as the first")
            special = set(self.all_special_ids)
            return [int(i in special) for i in token_ids_0]
        mask = [1, *[0] * len(token_ids_0), 1]
        return mask if token_ids_1 is None else [*mask, *[0] * len(token_ids_1), 1]
