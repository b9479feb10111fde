"""Reads small untrusted files: regular files only, and within limits that are checked before any object is built.

A pipe could block for ever, a device has no end, and a sparse file may have any size: none of them is read. JSON with
too many values is refused before it is parsed, since sixty megabytes of `[],` would become gigabytes of lists.
"""

import io
import itertools
import json
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

MAX_TEXT_BYTES = 1 << 24  # of a configuration; with two thousand labels it has 0.2 MB
MAX_VALUES = 1 << 21  # of a JSON text; the largest vocabularies have half a million tokens
MAX_DEPTH = 64  # of nested lists and objects
MAX_DIGITS = 40  # of a whole number
NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # Windows has neither
SHOWN_CHARACTERS = 1000  # of a list of names in a message


def read_file(path: str | os.PathLike, limit: int) -> bytes:
    """Reads the content of a regular file.

    Args:
        path: the file.
        limit: the most bytes that it may have; a larger file is not read at all.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it is not a regular file, or is larger than `limit`; the sentence names the file and the limit.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{os.fspath(path)} has {size} bytes; at most {limit} are read.")
        return file.read(size)


def open_regular(path: str | os.PathLike) -> io.FileIO:
    """Opens a regular file for reading, and refuses pipes and devices; errors are those of `read_file`."""
    descriptor = os.open(path, os.O_RDONLY | NOT_BLOCKING)  # else opening a pipe would wait for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{os.fspath(path)} is no regular file, so it is not read.")
    return io.FileIO(descriptor)


def bytes_in_holes(file: io.FileIO, most: int) -> int:
    """Returns how many bytes of a file were never written, and read as zeros; it stops counting beyond `most`."""
    found = position = 0
    size = os.fstat(file.fileno()).st_size
    while position < size and found <= most:
        hole = os.lseek(file.fileno(), position, os.SEEK_HOLE)  # the end of the file if there is none
        try:
            position = os.lseek(file.fileno(), hole, os.SEEK_DATA)
        except OSError:  # no data follow
            position = size
        found += position - hole
    return found


def read_text_file(path: str | os.PathLike, limit: int = MAX_TEXT_BYTES) -> str:
    """Reads a text file; arguments and errors are those of `read_file`, and ValueError if it is not UTF-8."""
    try:
        return read_file(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not UTF-8 text: byte {error.start} cannot be decoded.") from None


def holds_half_surrogate(text: str) -> bool:
    """Returns whether a text holds half of a surrogate pair, which JSON can write and no file or tensor can hold."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def parse_json(
    text: str | bytes, max_values: int = MAX_VALUES, object_pairs_hook: Callable[[list], Any] | None = None
) -> Any:
    """Parses a JSON text.

    Args:
        text: the text; bytes are UTF-8.
        max_values: the largest number of values, nested ones included; it is checked before any value is built.
        object_pairs_hook: as for `json.loads`.

    Raises:
        ValueError: it is not JSON, has more values, is nested deeper than `MAX_DEPTH`, or has a whole number of more
            than `MAX_DIGITS` digits. The sentence does not name the file.
    """
    marks: Any = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    if (values := sum(map(text.count, marks))) > max_values:
        raise ValueError(f"it has {values} values, at most {max_values} are read")
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            parse_int=_whole_number,
            object_pairs_hook=object_pairs_hook,
        )
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    _check_depth(value)
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it has a whole number of {len(digits)} digits, at most {MAX_DIGITS} are read")
    return int(digits)


def _check_depth(value: Any) -> None:
    """Raises ValueError if lists and dicts are nested deeper than `MAX_DEPTH`; goes level by level, not recursively."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(MAX_DEPTH):
        members = (each.values() if isinstance(each, dict) else each for each in level)
        level = [member for some in members for member in some if isinstance(member, list | dict)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def shown(value: Any, length: int = 80) -> str:
    """Formats an untrusted value for a message: shortly, and without entering lists that may contain lists."""
    if isinstance(value, str | bytes):
        return repr(value[:length])[:length]
    if isinstance(value, int) and value.bit_length() > 4 * MAX_DIGITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, list | tuple):
        brackets = "[]" if isinstance(value, list) else "()"
        inside = ", ".join(shown(member, length) for member in value) if _is_flat(value) else f"{len(value)} values"
        return f"{brackets[0]}{inside}{brackets[1]}"[:length]
    if isinstance(value, dict) and _is_flat([*value, *value.values()]):
        return f"{{{', '.join(f'{shown(key)}: {shown(member)}' for key, member in value.items())}}}"[:length]
    return repr(value)[:length] if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def _is_flat(values: Sequence) -> bool:
    return len(values) <= 8 and not any(isinstance(value, list | tuple | dict) for value in values)


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Joins names for a message: as many as `SHOWN_CHARACTERS` allow, and the number of the others."""
    ends = itertools.accumulate(len(name) + len(separator) for name in names)
    count = max(1, sum(end <= SHOWN_CHARACTERS for end in ends))
    more = len(names) - count
    return separator.join(names[:count]) + (f"{separator}and {more} more" if more > 0 else "")


def reason(error: Exception) -> str:
    """Returns the text of an error for a message, cut where an untrusted value makes it too long."""
    text = str(error)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
