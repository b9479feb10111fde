"""Requests of every kind, good and hostile, with what each must be answered."""

import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from support.server import ANSWER_SECONDS, MODEL, Server, assert_rows, encoded, instance, instances, questions

MAX_MEGABYTES = 4  # of the server; larger requests are refused
READ_SECONDS = 5.0  # of the server; slower requests are refused
HOSTILE = 0.05
CLIENTS = 8
SAMPLES = 100  # of the memory, over a run


def huge_png() -> bytes:
    """A PNG of 50,000 x 50,000 pixels by its header."""
    content = bytearray(encoded(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    return bytes(content)


def truncated() -> bytes:
    return questions()[0][0][:150]


BAD_ROWS = {  # image, text, how the status begins
    "corrupt image": lambda: (truncated(), "what?", "image: "),
    "empty image": lambda: (b"", "what?", "image: "),
    "huge image": lambda: (huge_png(), "what?", "image: 50000 x 50000 pixels"),
    "no image": lambda: (os.urandom(2000), "what?", "image: not a JPEG, PNG, GIF or BMP"),
    "empty text": lambda: (questions()[0][0], "  ", "text: it is empty"),
}


def post(server: Server, body: bytes | dict) -> tuple[int, dict]:
    """Status and answer of a request that is sent as one piece: between two, a busy machine might pause for longer than
    `READ_SECONDS`."""
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())


def good(server: Server, rng: np.random.Generator):
    rows = rng.integers(0, len(questions()), rng.integers(1, 5)).tolist()
    code, answer = post(server, {"instances": instances(*rows)})
    assert code == 200, answer
    assert_rows(answer["predictions"], *rows)


def bad_row(kind: str):
    def send(server: Server, rng: np.random.Generator):
        image, text, status = BAD_ROWS[kind]()
        rows = rng.integers(0, len(questions()), 2).tolist()
        body = instances(*rows)
        body.insert(1, instance(image, text))
        code, answer = post(server, {"instances": body})
        assert code == 200, answer
        bad = answer["predictions"].pop(1)
        assert bad["status"].startswith(status), bad
        assert not any(bad["answers"])
        assert_rows(answer["predictions"], *rows)

    return send


def refused(code: int, body):
    def send(server: Server, rng: np.random.Generator):
        got, answer = post(server, body() if callable(body) else body)
        assert got == code, answer
        assert answer["error"]

    return send


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.rest.rpartition(":")
    return host, int(port)


def head(length: int) -> bytes:
    return f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: server\r\nContent-Length: {length}\r\n\r\n".encode()


def cut_off_while_sending(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(10_000) + b'{"instances": [')


def cut_off_while_waiting(server: Server, rng: np.random.Generator):
    body = json.dumps({"instances": instances(0, 1)}).encode()
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)


def cut_off_in_the_middle(server: Server, rng: np.random.Generator):
    """Of a request of many batches; the rest of them is not run."""
    body = json.dumps({"instances": instances(0) * 100}).encode()
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)


def slow_body(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(10_000) + b"{")
        assert connection.recv(12) == b"HTTP/1.1 408"


def slow_head(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(b"POST /v1/models/x:predict HTTP/1.1\r\nHos")
        assert connection.recv(1) == b""  # closed


HOSTILE_KINDS = {
    **{kind: bad_row(kind) for kind in BAD_ROWS},
    "text is a number": refused(400, {"instances": [{"image": {"b64": ""}, "text": 5}]}),
    "bad base64": refused(400, {"instances": [{"image": {"b64": "?"}, "text": "a"}]}),
    "no JSON": refused(400, lambda: os.urandom(1000)),
    "nested": refused(400, b'{"instances": ' + b"[" * 100_000),
    "empty": refused(400, b""),
    "too large": refused(413, lambda: b" " * (MAX_MEGABYTES * 2**20 + 1)),
    "cut off while sending": cut_off_while_sending,
    "cut off while waiting": cut_off_while_waiting,
    "cut off in the middle": cut_off_in_the_middle,
    "slow body": slow_body,
    "slow head": slow_head,
}


@dataclass
class Report:
    """What a run came to: requests of each kind, failures, and the server's memory in kB over the requests."""

    kinds: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0

    def slope(self) -> float:
        """kB per 1000 requests, by least squares over the second half: the first one fills caches."""
        requests, kilobytes = np.array(self.memory[len(self.memory) // 2 :], float).T
        return float(np.polyfit(requests, kilobytes, 1)[0] * 1000)

    def as_dict(self) -> dict:
        return {
            "requests": sum(self.kinds.values()),
            "kinds": dict(self.kinds),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
            "memory_kB": self.memory,
            "slope_kB_per_1000_requests": round(self.slope(), 1),
        }

    def plot(self, file):
        from matplotlib.figure import Figure

        figure = Figure((7, 3.5), layout="constrained")
        axes = figure.subplots()
        requests, kilobytes = np.array(self.memory).T
        axes.plot(requests, kilobytes / 1024)
        axes.set(xlabel="requests", ylabel="resident memory of the server, MiB", ylim=(0, 1.1 * kilobytes.max() / 1024))
        figure.savefig(file, dpi=120)


def soak(server: Server, count: int) -> Report:
    """Sends so many requests from several clients at once, each with its own sequence."""
    report, lock, numbers = Report(), threading.Lock(), iter(range(count))

    def client(seed: int):
        rng = np.random.default_rng(seed)
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % max(count // SAMPLES, 1) == 0:
                    report.memory.append((number, server.resident_kilobytes()))
            if number is None:
                return
            hostile = rng.random() < HOSTILE
            kind = list(HOSTILE_KINDS)[rng.integers(len(HOSTILE_KINDS))] if hostile else "good"
            problem = None
            try:
                HOSTILE_KINDS.get(kind, good)(server, rng)
            except Exception as error:
                problem = f"{kind}: {type(error).__name__}: {error}"[:500]
            with lock:
                report.kinds[kind] += 1
                report.failures += [problem] if problem else []

    start = time.monotonic()
    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    report.seconds = time.monotonic() - start
    report.memory.append((count, server.resident_kilobytes()))
    return report
