"""What holds for every test: quiet TensorFlow, PyTorch before TensorFlow where installed, hub tests only with a hub."""

import contextlib
import os
import socket

import pytest

pytest.register_assert_rewrite("support")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with contextlib.suppress(ImportError):
    import torch  # noqa: F401  # before TensorFlow: both bring an OpenMP runtime, and in the other order torch may crash

HUB = ("huggingface.co", 443)


def hub_is_reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        socket.create_connection(HUB, timeout=5).close()
    except OSError:
        return False
    return True


def pytest_collection_modifyitems(items):
    """Tests marked `hub` are skipped, with the reason, where the hub cannot be reached."""
    hub_items = [item for item in items if item.get_closest_marker("hub")]
    if hub_items and not hub_is_reachable():
        for item in hub_items:
            item.add_marker(pytest.mark.skip(reason=f"{HUB[0]} cannot be reached"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A function from a class's name to (reference model, tfvl model that was loaded from it), made once each."""
    from support.reference import reference_model

    import tfvl

    made = {}

    def get(head, **changes):
        key = (head, tuple(sorted(changes.items())))
        if key not in made:
            reference = reference_model(head, **changes)
            directory = tmp_path_factory.mktemp(head)
            reference.save_pretrained(directory)
            made[key] = reference, getattr(tfvl, head).from_pretrained(directory)
        return made[key]

    return get


@pytest.fixture(scope="session")
def tokenizer():
    """BERT's, for texts of up to 40 tokens."""
    from support import tasks

    return tasks.tokenizer()


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory):
    """The directory that `tasks.write_all` fills; tests only read it."""
    from support import tasks

    return tasks.write_all(tmp_path_factory.mktemp("data_sets"))


@pytest.fixture
def eager_functions():
    """For a few steps of training, which take less than tracing them, or than XLA's compiler."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
