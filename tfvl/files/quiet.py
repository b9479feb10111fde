"""Silences the lines that C++ libraries write to the terminal, past Python."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """A context in which everything that is written to file descriptor 2, by any library, is discarded."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextlib.contextmanager
def shown(what: str) -> Iterator[None]:
    """A context with a spinner on stderr if that is a terminal, also while file descriptor 2 is silenced."""
    if not os.isatty(2):
        yield
        return
    from rich.console import Console

    with os.fdopen(os.dup(2), "w") as terminal, Console(file=terminal).status(what):
        yield


@contextlib.contextmanager
def quiet_logger() -> Iterator[None]:
    """A context in which TensorFlow's Python logger writes errors only."""
    import tensorflow

    logger = tensorflow.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its log lines, unless TF_CPP_MIN_LOG_LEVEL asks for them.

    While it loads, TensorFlow 2.21 writes to file descriptor 2 before it reads that variable.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        with shown("importing TensorFlow"), quiet_stderr():
            import tensorflow
        tensorflow.get_logger().setLevel("ERROR")
