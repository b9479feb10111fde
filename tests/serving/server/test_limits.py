"""What requests may take together, who gives way, and that slow work holds up no quick one."""

import asyncio
import logging
import resource
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.hostile import huge_png
from support.server import encoded
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

from tfvl.serving.client.errors import MAX_SENTENCE, RequestError, invalid
from tfvl.serving.server import lanes, limits, rest, server

PATIENCE = 60  # seconds, after which a request that waits for others is an error
DEADLINE = 600  # seconds, of what takes none: a guard against waiting for ever


def test_the_budget_is_of_all_requests_together():
    budget = limits.Budget(100)
    with budget.holding(60), pytest.raises(RequestError, match="too many large requests") as caught:
        budget.take(41)
    assert caught.value.code == "UNAVAILABLE"  # clients try again
    budget.take(100)
    budget.give_back(100)
    with pytest.raises(ZeroDivisionError), budget.holding(100):
        _ = 1 / 0
    budget.take(100)


def test_who_has_waited_longest_gives_way():
    waiting, gone = limits.Waiting(), []
    for client in "abcd":
        waiting.enter(client, lambda client=client: gone.append(client))
    waiting.leave("b")
    waiting.end_first(seconds=DEADLINE)  # nobody has waited for so long
    waiting.end_first()
    waiting.end_first()
    assert (gone, len(waiting), "d" in waiting) == (["a", "c"], 1, True)
    waiting.end_first()  # nobody else waits
    assert gone == ["a", "c"]


@pytest.mark.parametrize(
    ("descriptors", "most"),
    [
        ((1024, 2**20), (256, 1024)),
        ((1024, 1024), (256, 512)),
        ((3, 3), (1, 1)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (256, 1024)),
    ],
)
def test_connections_leave_descriptors_for_others(descriptors, most, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: descriptors)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    assert server.most_connections() == most


def test_bodies_that_do_not_end_give_way():
    """All but one byte of the largest request, as often as all requests may take; a small one is read all the same."""
    service = SimpleNamespace(max_bytes=100, budget=limits.Budget(100 * limits.IN_FLIGHT))

    async def read() -> bytes:
        bodies, ever = rest.Bodies(service, PATIENCE), asyncio.Event()

        async def stream(content: bytes, ends: bool):
            yield content
            if not ends:
                await ever.wait()

        def task(content: bytes, ends: bool) -> asyncio.Task:
            return asyncio.create_task(bodies.read(SimpleNamespace(stream=lambda: stream(content, ends))))

        unfinished = [task(b"a" * 99, ends=False) for _ in range(limits.IN_FLIGHT + 1)]
        await asyncio.sleep(0)
        body = await task(b"b" * 50, ends=True)
        bodies.forget(body)
        ever.set()
        ended = await asyncio.gather(*unfinished, return_exceptions=True)
        assert {error.args[0] for error in ended if isinstance(error, Exception)} == {503}
        for whole in ended:
            if isinstance(whole, bytes):
                bodies.forget(whole)
        return body

    assert asyncio.run(read()) == b"b" * 50
    service.budget.take(service.budget.most)  # everything was given back


def test_large_requests_are_parsed_few_at_once_but_run_together(monkeypatch):
    """While the model runs, they keep no other large one from being parsed."""
    signature = SignatureDef()
    signature.inputs["x"].dtype = tf.int32.as_datatype_enum
    version = SimpleNamespace(servable=SimpleNamespace(signatures={"serving_default": signature}))
    service = SimpleNamespace(
        max_bytes=2**24,
        budget=limits.Budget(2**30),
        counted=lambda *_: nullcontext(),
        lease=lambda *_: nullcontext(version),
    )
    together = threading.Barrier(rest.LARGE_AT_ONCE + 1)

    def predict(version, name, inputs, wanted):
        together.wait(PATIENCE)
        return {"y": inputs["x"]}

    monkeypatch.setattr(rest, "predict", predict)
    body = b'{"inputs": [1]}'.ljust(rest.LARGE + 1)
    app = rest.application(service, SimpleNamespace(check=lambda *_: {}), read_seconds=PATIENCE)

    async def ask() -> int:
        codes = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            codes.extend([message["status"]] if "status" in message else [])

        scope = {"type": "http", "method": "POST", "headers": [], "raw_path": b"/v1/models/m:predict"}
        await app(scope | {"state": {"connection": None}}, receive, send)
        return codes[0]

    async def ask_all():
        return await asyncio.gather(*(ask() for _ in range(together.parties)))

    assert asyncio.run(ask_all()) == [200] * together.parties


def test_a_flood_is_one_log_line():
    records = [logging.LogRecord("x", logging.ERROR, "", 0, "accept failed", (), None) for _ in range(100)]
    assert [limits.Seldom(seconds=DEADLINE).filter(records[0])] == [True]
    seldom = limits.Seldom(seconds=DEADLINE)
    assert sum(map(seldom.filter, records)) == 1


def test_sentences_are_bounded():
    assert len(str(invalid("x" * 30_000))) == MAX_SENTENCE
    assert str(invalid("x" * MAX_SENTENCE)) == "x" * MAX_SENTENCE


# --- lanes ------------------------------------------------------------------------------------------------------------


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, object)


def jpeg(height: int, width: int, scans: int) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8\xff\xe0\0\x04ab\xff\xc2\0\x11\x08" + size + b"\xff\xda\0\x04ab" * scans + b"\xff\xd9"


def gif(height: int, width: int) -> bytes:
    return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")


def bmp(height: int, width: int) -> bytes:
    return b"BM" + bytes(16) + width.to_bytes(4, "little") + height.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("inputs", "slow"),
    [
        ({"image": strings(encoded(np.zeros((64, 64, 3), np.uint8)))}, False),
        ({"image": strings(b"", huge_png())}, True),
        ({"image": strings(jpeg(3000, 4000, 1))}, False),
        ({"image": strings(jpeg(3000, 4000, 10))}, True),  # progressive: ten passes over it
        ({"image": strings(jpeg(9400, 9400, 1))}, True),
        ({"image": strings(jpeg(4095, 4096, 1))}, False),
        ({"image": strings(*[jpeg(4095, 4096, 1)] * 8)}, False),  # decoded once
        ({"image": strings(*(jpeg(4095, 4096, 1) + bytes([number]) for number in range(8)))}, True),
        ({"image": strings(*(jpeg(384, 512, 1) + bytes([number]) for number in range(64)))}, False),
        ({"image": strings(gif(5000, 5000))}, True),
        ({"image": strings(gif(100, 5000))}, False),
        ({"image": strings(bmp(5000, 5000))}, True),
        ({"image": strings(b"\xff\xd8\xff")}, False),
        ({"image": strings(b"x" * 2**20)}, False),  # no image, which is soon said
        ({"image": np.array([[b"", jpeg(9400, 9400, 1)]], object)}, True),
        ({"text": strings(b"what is it?", b"a" * 2**15)}, True),
        ({"text": strings(b"what is it?"), "choices": np.full((1, 4), b"a", object)}, False),
        ({"text": strings(b"what is it?"), "choices": np.full((1, 40), b"a", object)}, True),
        ({"regions": np.zeros((8, 100, 2048), np.float32)}, False),
        ({"regions": np.zeros((1, 1000, 2048), np.float32)}, True),
    ],
)
def test_what_is_slow(inputs, slow):
    assert lanes.is_slow(inputs) == slow


class Model:
    """A model that doubles `x`; a batch that begins with 1 waits until `go`."""

    def __init__(self):
        self.sizes, self.go, self.entered = [], threading.Event(), threading.Event()

    def __call__(self, signature, inputs, outputs):
        if inputs["x"].size and inputs["x"].ravel()[0] == 1:
            self.entered.set()
            assert self.go.wait(DEADLINE)
        self.sizes.append(len(inputs["x"]))
        return {"y": inputs["x"][:, :1] * 2}


def test_a_slow_request_holds_up_no_quick_one_and_few_are_taken():
    model = Model()
    run = lanes.Lanes(model, max_rows=4, wait=0.0, threads=1)
    slow = {"x": np.ones((2, lanes.SLOW_NUMBERS + 1), np.float32)}
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(run("a", slow, ("y",))["y"].tolist()))
        for _ in range(lanes.LONG_REQUESTS)
    ]
    for thread in threads:
        thread.start()
    assert model.entered.wait(DEADLINE)
    assert run("a", {"x": np.zeros((3, 1))}, ("y",))["y"].tolist() == [[0], [0], [0]]
    while run._long._value:
        assert all(thread.is_alive() for thread in threads)
    for refused in (slow, {"x": np.zeros((lanes.LONG_ROWS + 1, 1))}):
        with pytest.raises(RequestError, match="too many long requests at once; try again") as caught:
            run("a", refused, ("y",))
        assert caught.value.code == "UNAVAILABLE"
    model.go.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [[[2], [2]]] * lanes.LONG_REQUESTS
    assert set(model.sizes[1:]) == {1}  # row by row
    assert len(run("a", {"x": np.zeros((lanes.LONG_ROWS + 1, 1))}, ("y",))["y"]) == lanes.LONG_ROWS + 1
    run.close()
