"""The embedded server against huge requests, copies under way, broken versions and its own end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import grpc
import pytest
from support.hostile import address, head, huge_png
from support.server import (
    ANSWER_SECONDS,
    MODEL,
    ROOT,
    assert_rows,
    exported,
    instance,
    instances,
    questions,
    start,
    wait_for,
)

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

from support.grpc_requests import predict_request
from tensorflow_serving.apis import prediction_service_pb2_grpc

pytestmark = pytest.mark.serving

SWAPS = 10
PAUSE = 0.1  # seconds between two requests of a client, in which new versions get the processor


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Returns the directory of the server's model, at first with version 1 only."""
    directory = tmp_path_factory.mktemp("models") / MODEL
    shutil.copytree(exported() / "1", directory / "1")
    return directory


@pytest.fixture(scope="module")
def server(versions, tmp_path_factory):
    running = start(versions, tmp_path_factory.mktemp("server") / "log", "--poll", "0.1")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


def batches(server) -> int:
    """Returns how often the model has run."""
    page = server.ask_raw("GET", "/monitoring/prometheus/metrics")[1].decode()
    return int(re.search(r":runtime_latency_count\{[^}]*\} (\d+)", page)[1])


def test_it_listens_on_loopback_only_and_says_that_it_is_for_development(server):
    assert server.rest.startswith("127.0.0.1:")
    assert server.grpc.startswith("127.0.0.1:")
    assert "for development" in server.log.read_text()


def test_50_megabytes(server):
    code, answer = server.predict(b" " * (50 * 2**20))
    assert (code, "larger than 33554432 bytes" in answer["error"]) == (413, True)
    code, answer = server.predict(b" " * (30 * 2**20))
    assert (code, answer["error"][:17]) == (400, "JSON Parse error:")
    request = predict_request(0)
    request.inputs["text"].string_val[0] = b"a" * (50 * 2**20)
    with (
        grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=ANSWER_SECONDS)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)


def test_a_length_that_no_body_follows(server):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(50 * 2**30) + b"{")
        assert_rows(server.predict({"instances": instances(1)})[1]["predictions"], 1)


def test_many_rows_and_a_decompression_bomb(server):
    """A request of many batches; the bombs cost nothing, and the rows around them are right."""
    (image, text) = questions()[2]
    rows = [instance(image, text), instance(huge_png(), text)] * 300
    code, answer = server.predict({"instances": rows})
    assert code == 200
    assert_rows(answer["predictions"][::2], *[2] * 300)
    assert {row["status"][:28] for row in answer["predictions"][1::2]} == {"image: 50000 x 50000 pixels "}


def test_ten_thousand_bad_rows(server):
    rows = [{"image": {"b64": ""}, "text": "a"}] * 10_000
    code, answer = server.predict({"instances": rows})
    assert (code, len(answer["predictions"])) == (200, 10_000)
    assert {row["status"][:6] for row in answer["predictions"]} == {"image:"}


def test_a_client_that_goes_stops_its_request(server):
    body = json.dumps({"instances": [{"image": {"b64": ""}, "text": "a"}] * 10_000}).encode()
    with socket.create_connection(address(server)) as connection:
        connection.sendall(head(len(body)) + body)
    wait_for(
        lambda: b'status="CANCELLED"' in server.ask_raw("GET", "/monitoring/prometheus/metrics")[1],
        "the request is given up",
    )
    request = predict_request(0)
    del request.inputs["image"].string_val[:], request.inputs["text"].string_val[:]
    for tensor in request.inputs.values():
        tensor.tensor_shape.dim[0].size = 200_000
        tensor.string_val.append(b"")  # which stands for all
    before = batches(server)
    with grpc.insecure_channel(server.grpc) as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request)
        wait_for(lambda: batches(server) > before or call.done(), "the first batch has run")
        assert call.cancel(), call  # all rows were answered before
    wait_for(
        lambda: b'entrypoint="GRPC",status="CANCELLED"' in server.ask_raw("GET", "/monitoring/prometheus/metrics")[1],
        "the call is given up",
    )


def test_many_questions_on_one_image(server):
    """Each gets its own answer, though the image is decoded once."""
    image = questions()[0][0]
    texts = [text for _, text in questions()]
    alone = [server.predict({"instances": [instance(image, text)]})[1]["predictions"][0] for text in texts]
    together = server.predict({"instances": [instance(image, text) for text in texts]})[1]["predictions"]
    assert [row["answers"] for row in together] == [row["answers"] for row in alone]
    assert len({tuple(row["answers"]) for row in together}) > 1


def test_half_a_copy_is_not_served_and_a_broken_version_neither(server, versions):
    whole = versions / "1"
    (versions / "2" / "variables").mkdir(parents=True)
    shutil.copy(whole / "saved_model.pb", versions / "2")
    shutil.copy(whole / "variables/variables.index", versions / "2/variables")
    waiting = ("START", "0 of 1 files variables/variables.data-* are there")
    wait_for(lambda: server.status().get(2) == waiting, "version 2 is reported as waiting")
    assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)

    shutil.copytree(whole, versions / ".3")
    data = versions / ".3/variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1000])  # cut short
    (versions / ".3").rename(versions / "3")
    shutil.copytree(whole, versions / ".4")
    (versions / ".4/saved_model.pb").write_bytes(os.urandom(5000))
    (versions / ".4").rename(versions / "4")
    wait_for(lambda: {3, 4} <= server.status().keys(), "versions 3 and 4 are seen")
    wait_for(lambda: [server.status()[number][0] for number in (3, 4)] == ["END", "END"], "both are given up")
    status = server.status()
    assert all(status[number][1] for number in (3, 4)), status  # with reasons
    assert status[1] == ("AVAILABLE", "")
    assert "version 4 cannot be loaded" in server.log.read_text()
    assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)

    shutil.copy(whole / "variables/variables.data-00000-of-00001", data.parents[1].with_name("3") / "variables")
    wait_for(lambda: server.status()[3][0] == "AVAILABLE", "version 3, mended, is served")
    wait_for(lambda: server.status()[1][0] == "END", "version 1 is unloaded")
    assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)
    for number in (2, 4):
        shutil.rmtree(versions / str(number))


@pytest.mark.slow
def test_swaps_under_load(server, versions):
    """Ten new versions while clients ask on; no request fails, and every version gets its turn."""
    first = max(number for number, (state, _) in server.status().items() if state == "AVAILABLE")
    stop, failures, seen = threading.Event(), [], set()

    def ask_rest():
        while not stop.wait(PAUSE):
            try:
                assert_rows(server.predict({"instances": instances(0, 1)})[1]["predictions"], 0, 1)
            except Exception as error:
                failures.append(f"REST: {error!r}")

    def ask_grpc():
        with grpc.insecure_channel(server.grpc) as channel:
            predict, newest = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, 0
            while not stop.wait(PAUSE):
                try:
                    number = predict(predict_request(2), timeout=ANSWER_SECONDS).model_spec.version.value
                    assert number >= newest
                    newest = number
                    seen.add(number)
                except Exception as error:
                    failures.append(f"gRPC: {error!r}")

    clients = [threading.Thread(target=ask) for ask in (ask_rest, ask_grpc)]
    for client in clients:
        client.start()
    wait_for(lambda: seen or failures, "the first answer")
    for number in range(first + 1, first + 1 + SWAPS):
        shutil.copytree(exported() / "1", versions / str(number))
        wait_for(lambda number=number: number in seen or failures, f"version {number} answers")
    stop.set()
    for client in clients:
        client.join()
    assert failures == []
    assert seen == set(range(first, first + 1 + SWAPS))
    wait_for(
        lambda: [state for state, _ in server.status().values()].count("AVAILABLE") == 1, "old versions are unloaded"
    )


def test_sigterm_lets_requests_end(server):
    """Last in this file: it ends the server. A long request is under way when the signal comes, and is answered."""
    body = json.dumps({"instances": instances(3) * 200}).encode()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(server.predict(body)))
    before = batches(server)
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as idle:
        asking.start()
        wait_for(lambda: batches(server) > before, "the first batch has run")
        server.process.send_signal(signal.SIGTERM)
        asking.join(ANSWER_SECONDS)
        assert idle.recv(1) == b""
    ((code, answer),) = answers
    assert code == 200
    assert_rows(answer["predictions"], *[3] * 200)
    assert server.process.wait(ANSWER_SECONDS) == 0


def test_mistakes_are_one_line(tmp_path):
    def complaint(*arguments) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tfvl", "serve", "--embedded", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=ANSWER_SECONDS)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        return line

    assert "is no directory" in complaint(tmp_path / "model")
    assert "neither a SavedModel nor numbered versions" in complaint(tmp_path)
    (tmp_path / "1").mkdir()
    assert "the model name 'a/b' is not usable" in complaint(tmp_path, "--name", "a/b")
