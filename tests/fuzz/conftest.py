"""The worker that reads files for these tests."""

import pytest
from support.limited import Worker


@pytest.fixture(scope="module")
def worker():
    worker = Worker("support.readers")
    yield worker
    worker.close()
