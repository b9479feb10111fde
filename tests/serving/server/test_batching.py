"""Batches: what is merged, what is split, and that no request pays for another."""

import threading

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")

from tfvl.serving.client.errors import RequestError
from tfvl.serving.server.batching import Batcher, joined

DEADLINE = 600  # seconds, of what takes none: a guard against waiting for ever


class Model:
    """A model that doubles `x`, notes the sizes of its batches, and does not start before `go`."""

    def __init__(self):
        self.sizes, self.go, self.entered = [], threading.Event(), threading.Event()

    def __call__(self, signature, inputs, outputs):
        self.entered.set()
        assert self.go.wait(DEADLINE)
        x = inputs["x"]
        self.sizes.append(len(x))
        if (x < 0).any():
            raise ValueError("a negative number")
        return dict.fromkeys(outputs, x * 2)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batcher(model):
    batcher = Batcher(model, max_rows=4, wait=0.0, threads=1)
    yield batcher
    model.go.set()
    batcher.close()


def together(batcher, model, *requests, signatures=None) -> list:
    """Asks all while the model is busy, so that they wait together; returns answers or errors, in order."""
    results = [None] * len(requests)

    def ask(place):
        try:
            signature = signatures[place] if signatures else "a"
            results[place] = batcher(signature, {"x": np.array(requests[place])}, ("y",))["y"].tolist()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=ask, args=(0,))]
    threads[0].start()
    assert model.entered.wait(DEADLINE)
    for place in range(1, len(requests)):
        threads.append(threading.Thread(target=ask, args=(place,)))
        threads[-1].start()
        while len(batcher._tasks) < place:
            assert threads[-1].is_alive()
    model.go.set()
    for thread in threads:
        thread.join(DEADLINE)
    return results


def test_what_waits_is_run_together(batcher, model):
    assert together(batcher, model, [0.0], [1.0, 2.0], [3.0], [4.0, 5.0]) == [[0], [2, 4], [6], [8, 10]]
    assert model.sizes == [1, 3, 2]  # four rows are the most, and no request is torn for that


def test_later_requests_that_fit_are_taken_along(batcher, model):
    together(batcher, model, [0.0], [1.0, 1.0, 1.0], [2.0, 2.0], [3.0])
    assert model.sizes == [1, 4, 2]


def test_only_rows_of_one_kind_are_merged(batcher, model):
    requests = [[0.0], [1.0], [[1.0, 2.0]], [3.0]]
    assert together(batcher, model, *requests, signatures="aaab") == [[0], [2], [[2, 4]], [6]]
    assert model.sizes == [1, 1, 1, 1]


def test_an_error_stays_with_its_request(batcher, model):
    answers = together(batcher, model, [0.0], [1.0], [-1.0], [2.0])
    assert [answers[0], answers[1], answers[3]] == [[0], [2], [4]]
    assert str(answers[2]) == "a negative number"
    assert model.sizes == [1, 3, 1, 1, 1]  # together, then each alone


def test_a_large_request_is_run_in_parts(batcher, model):
    model.go.set()
    x = np.arange(10.0)
    np.testing.assert_array_equal(batcher("a", {"x": x}, ("y",))["y"], x * 2)
    assert model.sizes == [4, 4, 2]
    model.sizes.clear()
    assert batcher("a", {"x": x[:0]}, ("y",))["y"].shape == (0,)
    asked = iter([True, False])
    with pytest.raises(RequestError, match="the client has gone"):
        batcher("a", {"x": x}, ("y",), lambda: next(asked))
    assert model.sizes == [0, 4, 4]


def test_a_large_request_lets_others_through(batcher, model):
    assert together(batcher, model, list(np.zeros(12)), [1.0, 1.0], [2.0]) == [[0] * 12, [2, 2], [4]]
    assert model.sizes == [4, 3, 4, 4]


def test_outputs_that_are_not_by_row_are_not_merged():
    sizes = []

    def total(signature, inputs, outputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"].sum()[None]}

    model = Model()

    def run(*arguments):
        model(*arguments)
        return total(*arguments)

    batcher = Batcher(run, max_rows=4, wait=0.0, threads=1)
    assert together(batcher, model, [1.0], [2.0], [3.0]) == [[1], [2], [3]]
    assert sizes == [1, 2, 1, 1]
    batcher.close()


def test_what_waits_is_answered_before_the_end(batcher, model):
    answers = []
    asked = threading.Thread(target=lambda: answers.append(batcher("a", {"x": np.ones(1)}, ("y",))["y"].tolist()))
    asked.start()
    assert model.entered.wait(DEADLINE)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.go.set()
    closing.join(DEADLINE)
    asked.join(DEADLINE)
    assert answers == [[2]]
    with pytest.raises(RequestError, match="shutting down"):
        batcher("a", {"x": np.ones(1)}, ("y",))


def test_parts_of_different_width_are_joined_with_blanks():
    texts = joined([np.array([[b"a"]], object), np.array([[b"b", b"c"]], object)])
    assert texts.tolist() == [[b"a", b""], [b"b", b"c"]]
    assert joined([np.ones((1, 2, 1)), np.ones((2, 1, 1))]).tolist() == [[[1], [1]], [[1], [0]], [[1], [0]]]
    assert joined([np.ones(1), np.zeros(1)]).tolist() == [1, 0]
