"""Finds the tokens that were added to a vocabulary in a text, before it is split into words.

As upstream (`AddedVocabulary` of the Rust library `tokenizers`), a text is searched twice: the raw text for the
contents of the tokens that are not `normalized`; then what lies between them, once it is normalised, for the normalised
contents of the others. Of several tokens that begin at one place the longest is taken, and the search goes on behind
it. Each token found is replaced by its marker, a private-use character, so that no later step takes it apart.

Plain Python: nothing here needs TensorFlow.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

from tfvl.preprocessing.text import unicode_tables as tables


@dataclass(frozen=True)
class AddedToken:
    """A token that is kept whole (upstream: `tokenizers.AddedToken`).

    Attributes:
        content: the token.
        single_word: find it only if no letter, mark, digit or underscore is beside it.
        lstrip, rstrip: the white space on that side belongs to it.
        normalized: look for the normalised content in the normalised text, so that "COVID19" is found in "Covid19".
        special: `skip_special_tokens` leaves it out, and `split_special_tokens` does not look for it.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    @classmethod
    def of(cls, token: Any, special: bool = False) -> Self:
        """Makes a token from a string, from a mapping as in the tokenizer's files, or from upstream's object.

        Args:
            token: the token; if it does not set `normalized`, that is False for a special token, True for any other.
            special: whether a plain string is a special token.

        Raises:
            ValueError: `token` is anything else; the message says what is wrong.
        """
        if isinstance(token, str):
            return cls(token, special=special, normalized=not special)
        if isinstance(token, Mapping):
            given = {name: value for name, value in token.items() if name not in ("id", "__type") and value is not None}
        else:
            given = {field.name: getattr(token, field.name) for field in fields(cls) if hasattr(token, field.name)}
        names = [field.name for field in fields(cls)]
        wrong = [name for name in given if name not in names or (name != "content" and type(given[name]) is not bool)]
        if wrong or not isinstance(given.get("content"), str):
            raise ValueError(
                f"{token!r:.80} is no token{f' ({wrong[0]})' if wrong else ''}; expected a string, or a content "
                f"with {', '.join(names[1:])}, each true or false"
            )
        return cls(**{"normalized": not given.get("special", False)} | given)

    def to_dict(self) -> dict[str, Any]:
        """Returns the mapping that stands for the token in the tokenizer's files."""
        return asdict(self)


class Pattern(NamedTuple):
    """A string to be found in a text, and its replacement.

    Attributes:
        text: the string; no two patterns of a search have the same.
        marker: replaces the string; "" leaves it as it is.
        single_word: whether the string counts only if no character of a word is beside it.
    """

    text: str
    marker: str
    single_word: bool


class Stages(NamedTuple):
    """The two searches for added tokens.

    Attributes:
        raw: the patterns for the raw text, longest first.
        normalized: the patterns for the normalised text, longest first.
        lstrip, rstrip: markers of the first search, before or after which white space is removed before the second.
    """

    raw: tuple[Pattern, ...]
    normalized: tuple[Pattern, ...]
    lstrip: str
    rstrip: str


def markers_of(contents: Iterable[str]) -> dict[str, str]:
    """Assigns a marker to each token. Raises ValueError for more tokens than there are markers."""
    markers = {content: chr(tables.FIRST_MARKER + i) for i, content in enumerate(contents)}
    if len(markers) > tables.MARKERS:
        raise ValueError(f"{len(markers)} tokens are added to the vocabulary, at most {tables.MARKERS} can be")
    return markers


def searched(token: AddedToken, normalize: Callable[[str], str]) -> str:
    """Returns the string that is searched for to find a token. Raises ValueError if no text can contain it."""
    text = normalize(token.content) if token.normalized else token.content
    if not text:
        raise ValueError(
            f"nothing is left of the token {token.content!r} once it is normalised; add it with normalized=False"
        )
    if token.lstrip and not re.sub(tables.character_class("white_space"), "", text):
        raise ValueError(f"the token {token.content!r} is white space, which lstrip takes away; add it without lstrip")
    if any(tables.FIRST_MARKER <= ord(character) <= tables.LAST_MARKER for character in text):
        raise ValueError(f"the token {token.content!r} holds a private-use character from U+F0000 on; take another")
    return text


def stages(
    tokens: Iterable[AddedToken],
    markers: Mapping[str, str],
    normalize: Callable[[str], str],
    split_special: bool = False,
) -> Stages:
    """Builds the two searches for tokens.

    Args:
        tokens: the tokens; of several with the same normalised content the first is taken. (Upstream takes one by
            chance.)
        markers: the marker of each token, by its content.
        normalize: the normaliser of texts.
        split_special: leave special tokens in the text as they are.

    Raises:
        ValueError: no text can contain a token.
    """
    found: tuple[dict[str, Pattern], dict[str, Pattern]] = {}, {}
    stripping: dict[str, Any] = {"lstrip": "", "rstrip": ""}
    for token in tokens:
        text = searched(token, normalize)
        marker = "" if split_special and token.special else markers[token.content]
        found[token.normalized].setdefault(text, Pattern(text, marker, token.single_word))
        for side in stripping:
            if getattr(token, side) and not token.normalized:
                stripping[side] += marker
    before, after = (tuple(sorted(each.values(), key=lambda one: -len(one.text))) for each in found)
    return Stages(before, after, **stripping)
