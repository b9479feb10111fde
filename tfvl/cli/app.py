"""The command line: `tfvl COMMAND`, a file of this folder for each command.

Everything heavy is imported inside the commands, so that `tfvl --help` answers at once. A user's mistake is one line
on stderr and exit code 2, anything unexpected one line and exit code 1; `TFVL_TRACEBACK=1` shows the traceback.
"""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from tfvl import __version__
from tfvl.cli.ask import ask
from tfvl.cli.beam import BEAM_FLAGS
from tfvl.cli.check import check
from tfvl.cli.console import say
from tfvl.cli.demo import demo
from tfvl.cli.evaluate import evaluate
from tfvl.cli.explain import explain
from tfvl.cli.export import export
from tfvl.cli.port import port
from tfvl.cli.prepare import prepare
from tfvl.cli.regions import regions
from tfvl.cli.score import score
from tfvl.cli.serve import serve
from tfvl.cli.train import train
from tfvl.files.whole import is_full

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "ask": ask,
    "explain": explain,
    "port": port,
    "export": export,
    "check": check,
    "serve": serve,
    "train": train,
    "eval": evaluate,
    "regions": regions,
    "prepare": prepare,
    "score": score,
}

app = typer.Typer(
    name="tfvl",
    help="Vision-language checkpoints of the Hugging Face hub in TensorFlow: load, ask, export, check.",
    rich_markup_mode="markdown",  # which leaves tfvl[train] as it is
    pretty_exceptions_enable=False,
)
for name, command in COMMANDS.items():
    app.command(name, context_settings=BEAM_FLAGS if command in (prepare, regions, score) else None)(command)


def show_version(asked: bool) -> None:
    if asked:
        say(f"tfvl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
):
    pass


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0 success, 1 unexpected error, 2 user's mistake, 75 another machine was lost while training, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that concern developers only
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show_warning
            return app(args=arguments or ["--help"], prog_name="tfvl", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if os.environ.get("TFVL_TRACEBACK", "0") not in ("", "0"):
            raise
        code, line = describe(error)
        say(f"tfvl: {line}", stderr=True)
        return code


def describe(error: Exception) -> tuple[int, str]:
    """Returns the exit code of an error, and the one line that the user reads."""
    message = " ".join(str(error).split())
    if hasattr(error, "format_message"):  # a wrong option or argument, in typer's own words
        command = getattr(getattr(error, "ctx", None), "command_path", "tfvl")
        return 2, f"{' '.join(error.format_message().split())} (see `{command} --help`)"
    if hasattr(error, "exit_code"):  # the error's own exit code
        return error.exit_code, message
    if isinstance(error, OSError) and error.filename and error.strerror:
        return 2, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError | ValueError) or is_full(error):
        return 2, message
    if isinstance(error, ImportError) and error.name is None:  # raised by hand, with the extra that is missing
        return 2, message
    return 1, f"unexpected {type(error).__name__}: {message} (run again with TFVL_TRACEBACK=1 for the traceback)"


def show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"tfvl: warning: {' '.join(str(message).split())}", stderr=True)


if __name__ == "__main__":
    sys.exit(main())
