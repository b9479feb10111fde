"""The client over REST and gRPC, against small servers that answer, refuse and fail as they are told."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from support.client import grpc_server, rest_server

import tfvl
from tfvl.serving.client import transport
from tfvl.serving.client.client import Client, DeadlineExceededError, RequestRefusedError, ServerUnavailableError, Spec

SERVERS = {"rest": rest_server, "grpc": grpc_server}
AGAIN = {"rest": (503, {"error": "busy"}), "grpc": ("UNAVAILABLE", "busy")}
WRONG = {"rest": (400, {"error": "no such\ninput"}), "grpc": ("INVALID_ARGUMENT", "no such\ninput")}
UNKNOWN = {"rest": (404, {"error": "Servable not found"}), "grpc": ("NOT_FOUND", "Servable not found")}


@pytest.fixture(params=SERVERS)
def kind(request):
    return request.param


@pytest.fixture
def server(kind):
    with SERVERS[kind]() as (url, script):
        yield url, script


class Clock:
    """A clock for the repetitions, on which only waits take time, which in truth are skipped."""

    def __init__(self):
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Replaces the clock; returns the list of the waits before repetitions."""
    clock = Clock()
    monkeypatch.setattr(transport, "time", clock)
    return clock.waits


def test_one_question(server, tmp_path):
    url, script = server
    (tmp_path / "image").write_bytes(b"\xff\xd8 a file")
    with Client(url, "vqa") as client:
        (answer,) = client.ask("how many?", image=tmp_path / "image")
    assert (answer.ok, answer.status, answer.best, answer.answers) == (True, "", "how many?!", ("how many?!", "9"))
    assert answer.scores == (0.75, float(np.float32(1 / 3)))
    assert {name: array.dtype for name, array in answer.outputs.items()} == {"answers": "O", "scores": "float32"}
    assert script.inputs[0]["image"].tolist() == [b"\xff\xd8 a file"]


def test_many_questions_are_sent_in_requests_of_a_few_and_keep_their_order(server):
    url, script = server
    texts = [f"question {number} é" for number in range(7)]
    with Client(url, "vqa", max_rows=3) as client:
        answers = client.ask(texts, image=[bytes(number) for number in range(7)])
    assert [answer.answers for answer in answers] == [(f"{text}!", str(number)) for number, text in enumerate(texts)]
    assert [len(inputs["text"]) for inputs in script.inputs] == [3, 3, 1]


def test_a_row_that_fails_has_a_status_and_leaves_the_others_alone(server):
    with Client(server[0], "vqa") as client:
        good, bad = client.ask(["good", "bad"], image=b"one for both")
    assert good.ok
    assert (bad.ok, bad.status, bad.answers) == (False, "image: it is broken", ())
    with pytest.raises(ValueError, match="image: it is broken"):
        _ = bad.best


def test_regions_are_padded_within_a_request(server):
    url, script = server
    rows = [np.ones((2, 4)), tfvl.Regions(np.full((3, 4), 2, np.float32))]
    with Client(url, "vqa") as client:
        client.ask(["a", "b"], regions=rows)
        client.ask("a", regions=(np.ones((2, 4)), np.ones((1, 4))))
        client.ask("a", regions=np.ones((2, 4)), boxes=np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]]))
        client.ask(["a", "b"], regions=np.ones((2, 4)), choices=[["x", "y"], ["z"]], phrases=["p"])
    first, pair, boxed, more = script.inputs
    assert first["regions"].astype(float)[:, :, 0].tolist() == [[1, 1, 0], [2, 2, 2]]
    assert pair["regions"].shape == (1, 2, 2, 4)
    assert boxed["boxes"].astype(float).tolist() == [[[0, 0, 1, 1], [0, 0, 0.5, 1]]]
    as_text = np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes=[object])
    assert as_text(more["choices"]).tolist() == [["x", "y"], ["z", ""]]
    assert as_text(more["phrases"]).tolist() == [["p"], ["p"]]


def test_text_that_is_not_utf8_gets_to_the_server_as_it_is(server):
    url, script = server
    with Client(url, "vqa") as client:
        client.ask([b"caf\xe9"])
    assert script.inputs[0]["text"].tolist() == [b"caf\xe9"]


def test_busy_servers_are_asked_again_later_and_later(server, kind, waits):
    url, script = server
    script.failures = [AGAIN[kind]] * 3
    with Client(url, "vqa") as client:
        assert client.ask("x")[0].best == "x!"
    assert len(waits) == 3
    assert all(0.05 * 2**number <= wait <= 0.1 * 2**number for number, wait in enumerate(waits))


def test_too_many_requests_is_busy_too(waits):
    with rest_server() as (url, script), Client(url, "vqa") as client:
        script.failures = [(429, "slow down")]
        assert client.ask("x")[0].ok
    assert len(waits) == 1


def test_a_server_that_stays_busy_is_given_up(server, kind, waits):
    url, script = server
    script.failures = [AGAIN[kind]] * 9
    with Client(url, "vqa", retries=2) as client, pytest.raises(ServerUnavailableError, match="busy"):
        client.ask("x")
    assert (len(script.failures), len(waits)) == (6, 2)


@pytest.mark.parametrize(
    ("failures", "code", "words"),
    [(WRONG, "INVALID_ARGUMENT", "no such input"), (UNKNOWN, "NOT_FOUND", "Servable not found")],
)
def test_what_is_refused_is_not_tried_again(server, kind, waits, failures, code, words):
    url, script = server
    script.failures = [failures[kind]] * 2
    with Client(url, "vqa") as client, pytest.raises(RequestRefusedError, match=words) as caught:
        client.ask("x")
    assert (caught.value.code, len(script.failures), waits) == (code, 1, [])
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_server_that_does_not_answer_in_time(server):
    url, script = server
    script.failures = ["hang"]
    with Client(url, "vqa", timeout=0.3) as client, pytest.raises(DeadlineExceededError, match="no answer in the time"):
        client.ask("x")
    script.release.set()


def test_the_deadline_ends_the_repetitions(server, kind, waits, monkeypatch):
    """The last attempt has 100 seconds left, which no machine needs."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 200.0)
    monkeypatch.setattr(transport, "_LONGEST_WAIT", 200.0)
    monkeypatch.setattr(transport.random, "uniform", lambda least, most: most)
    url, script = server
    script.failures = [AGAIN[kind]] * 50
    with Client(url, "vqa", retries=40, timeout=500) as client, pytest.raises(ServerUnavailableError):
        client.ask("x")
    assert (waits, len(script.failures)) == ([200, 200], 47)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_listens(scheme, waits):
    with socket.socket() as taken:  # bound, but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, "vqa", retries=1) as client, pytest.raises(ServerUnavailableError, match="cannot be reached"):
            client.ask("x")
    assert len(waits) == 1


def test_a_connection_that_idled_too_long_is_opened_again(waits):
    with rest_server() as (url, script), Client(url, "vqa") as client:
        client.ask("x")
        script.failures = ["hang up"]
        assert client.ask("x")[0].ok
    assert waits == []


def test_which_version(server, kind):
    url, script = server
    for options in ({"version": 7}, {"label": "stable"}, {}):
        with Client(f"{url}/v1/models/v%20q", **options) as client:
            client.ask("x")
    rest = ["/v1/models/v%20q/versions/7:predict", "/v1/models/v%20q/labels/stable:predict", "/v1/models/v%20q:predict"]
    assert script.paths == (rest if kind == "rest" else [("v q", 7, ""), ("v q", 0, "stable"), ("v q", 0, "")])


def test_what_the_server_says_of_the_model(server):
    with Client(server[0], "vqa") as client:
        client.wait_until_ready()
        assert client.status() == {3: "AVAILABLE"}
        assert client.signatures["serving_default"] == {
            "inputs": {"text": Spec("DT_STRING", (None,)), "regions": Spec("DT_FLOAT", (None, None, 4))},
            "outputs": {"answers": Spec("DT_STRING", (None, 2))},
        }


def test_a_server_behind_a_path():
    with rest_server() as (url, script), Client(f"{url}/behind/v1/models/vqa") as client:
        client.ask("x")
        assert script.paths == ["/behind/v1/models/vqa:predict"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ftp://host:1", "m"), "not a server's address"),
        (("grpc://host", "m"), "not a server's address"),
        (("http://host:port", "m"), "not a server's address"),
        (("host:8501",), "name one, e.g. host:8501/v1/models/NAME"),
    ],
)
def test_addresses_that_make_no_sense(arguments, words):
    with pytest.raises(ValueError, match=words):
        Client(*arguments)


def test_choices_that_make_no_sense():
    with pytest.raises(ValueError, match="at most one"):
        Client("host:1", "m", version=1, label="stable")
    with pytest.raises(ValueError, match="expected a positive time"):
        Client("host:1", "m", timeout=0)
    client = Client("host:1", "m")
    with pytest.raises(ValueError, match="got 3 images for 2 texts"):
        client.ask(["a", "b"], image=[b"", b"", b""])
    with pytest.raises(OSError, match="nowhere"):
        client.ask("a", image="nowhere.jpg")


def test_it_imports_neither_tensorflow_nor_keras():
    """Importing either fails here, and a question is answered all the same over both ways."""
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tensorflow_serving', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from support.client import grpc_server, rest_server\n"
        "from tfvl.serving.client.client import Client\n"
        "for server in (grpc_server, rest_server):\n"
        "    with server() as (url, _), Client(url, 'vqa') as client:\n"
        "        print(client.ask('x', image=b'1234')[0].answers)\n"
    )
    root = tfvl.__file__.removesuffix("/tfvl/__init__.py")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": f"{root}:{root}/tests"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["('x!', '4')"] * 2
