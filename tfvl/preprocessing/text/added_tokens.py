"""Tokens added to a vocabulary: what of a text is one of them, before any word is split.

As upstream (`AddedVocabulary` of the Rust library `tokenizers`), a text is searched twice: for the contents of the
tokens that are not `normalized`, as they stand; and what lies between them, once it is normalised, for the normalised
contents of the others. Of several tokens that begin at one place the longest is meant, and the search goes on behind
it. Each token found becomes its marker, a private-use character, so that no later step takes it apart.

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
        single_word: only where no letter, mark, digit or underscore is beside it.
        lstrip, rstrip: white space on that side of it goes with it.
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
        """A token from a string, from a mapping as in the tokenizer's files, or from upstream's object.

        Args:
            token: where `normalized` is not said, a special token is not normalised, and every other one is.
            special: whether a plain string is a special token.

        Raises:
            ValueError: anything else; names what is wrong.
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
        """As the tokenizer's files have it."""
        return asdict(self)


class Pattern(NamedTuple):
    """What is looked for in a text.

    Attributes:
        text: of no two patterns it is the same.
        marker: what stands in its place then; "" where it is to be left as it is.
        single_word: whether nothing of a word may be beside it.
    """

    text: str
    marker: str
    single_word: bool


class Stages(NamedTuple):
    """The two searches.

    Attributes:
        raw: the patterns of a text as it stands, longest first.
        normalized: those of the normalised text, longest first.
        lstrip, rstrip: the markers from the first search beside which white space is left out before the second.
    """

    raw: tuple[Pattern, ...]
    normalized: tuple[Pattern, ...]
    lstrip: str
    rstrip: str


def markers_of(contents: Iterable[str]) -> dict[str, str]:
    """The marker of each token. Raises ValueError for more tokens than there are markers."""
    markers = {content: chr(tables.FIRST_MARKER + i) for i, content in enumerate(contents)}
    if len(markers) > tables.MARKERS:
        raise ValueError(f"{len(markers)} tokens are added to the vocabulary, at most {tables.MARKERS} can be")
    return markers


def searched(token: AddedToken, normalize: Callable[[str], str]) -> str:
    """What a text is searched for. Raises ValueError where no text can hold it."""
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
    """The searches for tokens.

    Args:
        tokens: of several with the same normalised content the first is meant. (Upstream takes one by chance.)
        markers: by content.
        normalize: what becomes of a text.
        split_special: leave special tokens in the text as they are.

    Raises:
        ValueError: a token that no text can hold.
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
