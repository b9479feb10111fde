"""The errors that tfvl raises on purpose, beyond `ValueError` and `FileNotFoundError`."""


class CheckpointError(ValueError):
    """A checkpoint, configuration or vocabulary file that cannot be used; the message names the file and the key."""
