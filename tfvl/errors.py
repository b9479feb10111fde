"""The errors that tfvl raises on purpose, beyond `ValueError` and `FileNotFoundError`."""


class CheckpointError(ValueError):
    """A checkpoint, configuration or vocabulary file that cannot be used; the message names the file and the key."""


class OutOfReachError(CheckpointError):
    """A checkpoint that is neither local nor in the hub's cache, while the hub cannot be reached."""
