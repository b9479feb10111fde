"""What holds for every test: quiet TensorFlow, PyTorch before TensorFlow where installed, hub tests only with a hub.

And how tests are shared out among processes: by file, the longest files first.
"""

import contextlib
import gc
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with contextlib.suppress(ImportError):
    import torch  # noqa: F401  # before TensorFlow: both bring an OpenMP runtime, and in the other order torch may crash

HUB = ("huggingface.co", 443)
WORKER_BYTES = 4 * 2**30  # TensorFlow, PyTorch and what the tests of a worker leave in memory

# TensorFlow's graphs are millions of small objects. With glibc as it is, a process gives their memory back and takes it
# again all the time, in pages of 4 kB; on a virtual machine the tests then take one and a half to three times as long.
ALLOCATORS = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.top_pad=67108864"
    ":glibc.malloc.trim_threshold=1073741824:glibc.malloc.mmap_threshold=1073741824",
}

# Tracing makes millions of objects that live; Python's 700 between two collections took a tenth of the tests' time.
gc.set_threshold(100_000, 50, 1000)


def hub_is_reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        socket.create_connection(HUB, timeout=5).close()
    except OSError:
        return False
    return True


def pytest_configure(config):
    """Chooses the workers' allocator, and makes the directory that all processes share, in the first of them."""
    from support.once import DIRECTORY

    for name, value in ALLOCATORS.items():  # read when a process starts: the workers do, this one has
        os.environ.setdefault(name, value)
    if DIRECTORY not in os.environ:
        directory = os.environ[DIRECTORY] = tempfile.mkdtemp(prefix="tfvl-tests-")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        config.add_cleanup(lambda: os.environ.pop(DIRECTORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int:
    """Returns one worker for each core, if memory suffices; 0 for a single file, whose tests stay together anyway."""
    if len(config.args) == 1 and Path(config.args[0].partition("::")[0]).is_file():
        return 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // WORKER_BYTES))


def pytest_collection_modifyitems(items):
    """Puts files with the most slow tests first, so that no worker is left with one at the end.

    Tests marked `hub` are skipped, with the reason, where the hub cannot be reached.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: within a file the order stays
    hub_items = [item for item in items if item.get_closest_marker("hub")]
    if hub_items and not hub_is_reachable():
        for item in hub_items:
            item.add_marker(pytest.mark.skip(reason=f"{HUB[0]} cannot be reached"))


def pytest_collection_finish():
    """Exempts what has been imported from collections: Keras starts one for each variable that `quantize` replaces."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_kept(request):
    """Frees what the tests of a module have made and cached.

    TensorFlow copies every function that is alive for each `tf.data` pipeline and each new graph: a process that keeps
    models and graphs gets slower by the file.
    """
    yield
    support = [module for name, module in sys.modules.items() if name.startswith("support.")]
    for module in (request.module, *support):
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear") and getattr(value, "__module__", "") == module.__name__:
                value.cache_clear()
    gc.collect()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns a function from a class's name to (reference model, tfvl model loaded from it), which are made once."""
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
    """Returns BERT's tokenizer, for texts of up to 40 tokens."""
    from support import tasks

    return tasks.tokenizer()


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory):
    """Returns the directory that `tasks.write_all` fills; tests only read it."""
    from support import tasks

    return tasks.write_all(tmp_path_factory.mktemp("data_sets"))


@pytest.fixture
def eager_functions():
    """Runs functions eagerly: a few steps of training take less time than to trace them, or than XLA's compiler."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
