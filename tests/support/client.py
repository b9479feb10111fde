"""Two small servers for tests of the client, over REST and over gRPC, whose answers a test can set."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import grpc
import numpy as np

from support.http_server import Quiet, serving
from tfvl.serving.client import messages

SIGNATURE = {"inputs": {"text": (7, (-1,)), "regions": (1, (-1, -1, 4))}, "outputs": {"answers": (7, (-1, 2))}}


def outputs_for(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns answers that differ from row to row; a row whose text is "bad" has a status."""
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in inputs["text"]]
    images = inputs.get("image", np.array([b""] * len(texts), object))
    answers = [[f"{text}!", str(len(image))] for text, image in zip(texts, images.tolist(), strict=True)]
    return {
        "answers": np.array(answers, object),
        "scores": np.array([[0.75, 1 / 3]] * len(texts), np.float32),
        "status": np.array(["image: it is broken" if text == "bad" else "" for text in texts], object),
    }


class Script:
    """The failures with which a server answers its next requests, before `outputs_for`; it also keeps the requests."""

    def __init__(self):
        self.failures: list = []
        self.inputs: list[dict[str, np.ndarray]] = []
        self.paths: list[str] = []
        self.release = threading.Event()  # a request that is to hang waits for it


@contextmanager
def rest_server():
    """Starts a REST server; yields its URL and its script, whose failures are (status, body) or "hang up"."""
    script = Script()

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):  # the library's name
            script.paths.append(self.path)
            shape = {"inputs": SIGNATURE["inputs"], "outputs": SIGNATURE["outputs"]}
            if self.path.endswith("/metadata"):
                signature = {side: {name: info(*spec) for name, spec in specs.items()} for side, specs in shape.items()}
                self.answer(200, {"metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}})
            else:
                self.answer(200, {"model_version_status": [{"version": "3", "state": "AVAILABLE"}]})

        def do_POST(self):
            script.paths.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            failure = script.failures.pop(0) if script.failures else None
            if failure == "hang up":
                self.close_connection = True
                return
            if failure == "hang":
                script.release.wait(600)
                return
            if failure:
                self.answer(*failure)
                return
            inputs = {name: np.array(decoded(value), object) for name, value in body["inputs"].items()}
            script.inputs.append(inputs)
            self.answer(200, {"outputs": {name: value.tolist() for name, value in outputs_for(inputs).items()}})

        def answer(self, status, answer):
            self.reply(status, (answer if isinstance(answer, str) else json.dumps(answer)).encode())

    with serving(Handler) as address:
        try:
            yield address, script
        finally:
            script.release.set()


def info(dtype: int, shape: tuple[int, ...]) -> dict:
    sizes = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": messages.DTYPES[dtype][0], "tensor_shape": {"dim": sizes, "unknown_rank": False}}


def decoded(value):
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


@contextmanager
def grpc_server():
    """Starts a gRPC server; yields its URL and its script, whose failures are (code, message) or "hang"."""
    script = Script()

    def predict(request, context):
        script.paths.append(
            (request.model_spec.name, request.model_spec.version.value, request.model_spec.version_label)
        )
        failure = script.failures.pop(0) if script.failures else None
        if failure == "hang":
            script.release.wait(600)
        elif failure:
            context.abort(getattr(grpc.StatusCode, failure[0]), failure[1])
        inputs = {name: messages.to_array(proto) for name, proto in request.inputs.items()}
        script.inputs.append(inputs)
        response = messages.PredictResponse()
        for name, value in outputs_for(inputs).items():
            response.outputs[name].CopyFrom(messages.to_proto(value))
        return response

    def metadata(request, context):
        signature = messages.SignatureDef()
        for side, specs in SIGNATURE.items():
            for name, (dtype, shape) in specs.items():
                entry = getattr(signature, side)[name]
                entry.dtype = dtype
                entry.tensor_shape.dim.extend([messages.Dim(size=size) for size in shape])
        packed = messages.SignatureDefMap()
        packed.signature_def["serving_default"].CopyFrom(signature)
        response = messages.GetModelMetadataResponse()
        response.metadata["signature_def"].value = packed.SerializeToString()
        return response

    def status(request, context):
        return messages.GetModelStatusResponse(model_version_status=[{"version": 3, "state": 30}])

    handlers = {
        "PredictionService": {
            "Predict": (predict, messages.PredictRequest, messages.PredictResponse),
            "GetModelMetadata": (metadata, messages.GetModelMetadataRequest, messages.GetModelMetadataResponse),
        },
        "ModelService": {"GetModelStatus": (status, messages.GetModelStatusRequest, messages.GetModelStatusResponse)},
    }
    server = grpc.server(ThreadPoolExecutor(4))
    for service, methods in handlers.items():
        table = {
            name: grpc.unary_unary_rpc_method_handler(
                function, request_deserializer=request.FromString, response_serializer=response.SerializeToString
            )
            for name, (function, request, response) in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", table),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", script
    finally:
        script.release.set()
        server.stop(None).wait()
