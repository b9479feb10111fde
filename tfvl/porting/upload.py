"""Uploads a directory to the Hugging Face hub, as one commit of a repository, by `huggingface_hub`."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError

HTTP_CLIENTS = ("httpx", "requests")  # used by releases of huggingface_hub; not all their errors are OSErrors


def push(
    save: Callable[[Path], Any],
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Uploads what `save` writes into a directory, in one commit; the repository is made if there is none.

    Args:
        save: a function that writes the files into the directory that it gets.
        repo_id: "USER/NAME".
        commit_message, private, token, revision, create_pr: as in `huggingface_hub.HfApi.upload_folder` and
            `create_repo`; the token is by default the one that `hf auth login` stored.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the hub refused it or cannot be reached; the sentence says what to do.
    """
    with tempfile.TemporaryDirectory() as directory:
        save(Path(directory))
        api = make_repository(repo_id, private=private, token=token)
        with in_a_sentence(repo_id):
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                commit_message=commit_message or "Upload by tfvl",
                revision=revision,
                create_pr=create_pr,
            )
    return commit.commit_url


def make_repository(repo_id: str, *, private: bool | None = None, token: str | bool | None = None):
    """Makes a repository of models, unless there is one, and returns the `HfApi`; errors as `push`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with in_a_sentence(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
    return api


@contextlib.contextmanager
def in_a_sentence(repo_id: str) -> Iterator[None]:
    """A context in which a refusal of the hub, or a failed connection to it, becomes a CheckpointError."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise CheckpointError(f"{repo_id} is no name of a repository ({_said(error)}); give USER/NAME.") from None
    except errors.LocalTokenNotFoundError:
        raise CheckpointError(f"{repo_id}: there is no token; run `hf auth login`, or pass token=.") from None
    except errors.HfHubHTTPError as error:
        raise CheckpointError(
            f"{repo_id}: the hub refused it ({_said(error)}); check the name, and that the token may write."
        ) from None
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(HTTP_CLIENTS):
            raise
        raise CheckpointError(f"{repo_id}: the hub cannot be reached ({_said(error)}).") from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
