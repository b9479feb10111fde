"""The errors that tfvl raises on purpose, beyond `ValueError` and `FileNotFoundError`."""

from collections.abc import Sequence


class CheckpointError(ValueError):
    """A checkpoint, configuration or vocabulary file that cannot be used; the message names the file and the key.

    Attributes:
        problems: all that is wrong with it, a sentence each, where the message has only the first few of them.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        super().__init__(message)
        self.problems = tuple(problems)


class OutOfReachError(CheckpointError):
    """A checkpoint that is neither local nor in the hub's cache, while the hub cannot be reached."""
