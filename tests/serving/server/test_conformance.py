"""The REST and gRPC interfaces are TF Serving's: names, formats, error codes.

Runs against the embedded server, with a SavedModel and with a `.tflite` file, or against any other that serves what
`tfvl export shapes-vilt models/shapes-vilt/1` wrote, under the name shapes-vilt: `TFVL_MODEL_SERVER=localhost:8501
pytest tests/serving/server/test_conformance.py`. Its gRPC address is port 8500 of the same host, or
`TFVL_MODEL_SERVER_GRPC`.
"""

import base64
import json
import os
import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.lite_files import bundled_file
from support.server import (
    ANSWER_SECONDS,
    BATCH_TOLERANCE,
    MODEL,
    Server,
    assert_rows,
    expected,
    exported,
    instances,
    start,
)

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_requests import predict_request, refusal
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

pytestmark = pytest.mark.serving

REMOTE = os.environ.get("TFVL_MODEL_SERVER")


@pytest.fixture(scope="module", params=["remote"] if REMOTE else ["SavedModel", ".tflite"])
def server(request, tmp_path_factory):
    if REMOTE:
        host = REMOTE.rpartition(":")[0]
        yield Server(REMOTE, os.environ.get("TFVL_MODEL_SERVER_GRPC", f"{host}:8500"))
        return
    model = exported() if request.param == "SavedModel" else bundled_file()
    running = start(model, tmp_path_factory.mktemp("server") / "log")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_status(server):
    code, answer = server.ask("GET", f"/v1/models/{MODEL}")
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (code, answer) == (200, {"model_version_status": [version]})
    assert server.ask("GET", f"/v1/models/{MODEL}/versions/1") == (code, answer)
    assert server.ask("GET", f"/V1/Models/{MODEL}") == (code, answer)  # but for the name, case does not matter


def test_metadata(server):
    code, answer = server.ask("GET", f"/v1/models/{MODEL}/metadata")
    assert code == 200
    assert answer["model_spec"]["name"] == MODEL
    assert answer["model_spec"]["version"] == "1"
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    default = signatures["serving_default"]
    assert default["inputs"].keys() == {"image", "text"}
    assert default["outputs"].keys() == {"answers", "scores", "status"}
    assert default["inputs"]["image"]["dtype"] == "DT_STRING"
    assert default["method_name"] == "tensorflow/serving/predict"
    assert [size["size"] for size in default["outputs"]["scores"]["tensor_shape"]["dim"]] == ["-1", "5"]
    assert "tensors" in signatures


def test_rows(server):
    code, answer = server.predict({"instances": instances(0, 1, 2)})
    assert code == 200
    assert answer.keys() == {"predictions"}
    assert_rows(answer["predictions"], 0, 1, 2)
    assert server.predict({"signature_name": "serving_default", "instances": instances(3)})[0] == 200
    assert_rows(server.predict({"instances": instances(3)}, "/versions/1")[1]["predictions"], 3)


def test_columns(server):
    rows = instances(0, 1)
    code, answer = server.predict({"inputs": {name: [row[name] for row in rows] for name in ("image", "text")}})
    assert code == 200
    outputs = answer["outputs"]
    assert outputs.keys() == {"answers", "scores", "status"}
    assert_rows([dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)], 0, 1)


def test_texts_may_be_base64_too(server):
    (row,) = instances(4)
    row["text"] = {"b64": base64.b64encode(row["text"].encode()).decode()}
    assert_rows(server.predict({"instances": [row]})[1]["predictions"], 4)


def test_one_output_has_no_name(server):
    tensors = {
        "input_ids": [[2, 5, 3] + [0] * 37],  # the sizes of the .tflite file
        "token_type_ids": [[0] * 40],
        "attention_mask": [[1] * 3 + [0] * 37],
        "pixel_values": np.full([1, 64, 64, 3], 0.25).tolist(),
        "pixel_mask": np.ones([1, 64, 64], int).tolist(),
    }
    code, answer = server.predict({"signature_name": "tensors", "inputs": tensors})
    assert code == 200, answer
    (logits,) = answer["outputs"]
    assert len(logits) > 10
    assert all(isinstance(logit, float) for logit in logits)
    row = {name: value[0] for name, value in tensors.items()}
    assert server.predict({"signature_name": "tensors", "instances": [row]}) == (200, {"predictions": [logits]})


def test_a_bad_row_has_its_status_and_changes_no_other(server):
    good, bad = instances(0)[0], {"image": {"b64": "AAAA"}, "text": "what is it?"}
    code, answer = server.predict({"instances": [bad, good]})
    assert code == 200
    assert answer["predictions"][0]["status"].startswith("image: not a JPEG, PNG, GIF or BMP")
    assert answer["predictions"][0]["answers"] == [""] * 5
    assert_rows(answer["predictions"][1:], 0)


def test_text_that_is_not_utf8_is_a_bad_row(server):
    (row,) = instances(0)
    body = json.dumps({"instances": [row | {"text": "caf@"}, row]}).encode().replace(b"caf@", b"caf\xe9")
    code, answer = server.predict(body)
    assert code == 200
    assert answer["predictions"][0]["status"] == "text: it is not valid UTF-8"
    assert_rows(answer["predictions"][1:], 0)


IMAGE = {"b64": "AAAA"}
TENSORS = ("input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask")
BAD_REQUESTS = {
    "empty": (b"", "JSON Parse error: The document is empty"),
    "cut short": (b'{"instances": [', "JSON Parse error: "),
    "no object": (b"[1]", "Is not object"),
    "no key": ({}, "Missing 'inputs' or 'instances' key"),
    "both keys": ({"inputs": {}, "instances": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
    "no list": ({"instances": {"image": IMAGE}}, "Excepting 'instances' to be an list/array"),
    "no rows": ({"instances": []}, "No values in 'instances' array"),
    "plain rows": ({"instances": ["what?"]}, "instances is a plain list, but expecting list of objects"),
    "missing input": ({"instances": [{"image": IMAGE}]}, "keys must be equal to: image,text"),
    "missing column": ({"inputs": {"image": [IMAGE]}}, "Missing named input: text in 'inputs' object."),
    "unknown input": (
        {"instances": [{"image": IMAGE, "text": "a", "seed": 1}]},
        "JSON object: does not have named input: seed",
    ),
    "wrong type": ({"instances": [{"image": IMAGE, "text": 5}]}, "is not of expected type: string"),
    "null": ({"instances": [{"image": IMAGE, "text": None}]}, "Type: Null is not of expected type: string"),
    "bad base64": ({"instances": [{"image": {"b64": "A*A="}, "text": "a"}]}, "Unable to base64 decode"),
    "no base64": ({"instances": [{"image": {"b46": "AAAA"}, "text": "a"}]}, "not formatted correctly for base64 data"),
    "shapes differ": (
        {"instances": [{"image": IMAGE, "text": "a"}, {"image": IMAGE, "text": ["a", "b"]}]},
        "Expecting tensor size: 1 but got: 2",
    ),
    "ragged": ({"inputs": {"image": [IMAGE], "text": [["a", "b"], ["a"]]}}, "Encountered list at unexpected size: 1"),
    "mixed": ({"instances": [{"image": IMAGE, "text": "a"}, "a"]}, "Expecting object but got list at item 1"),
    "wrong signature": (
        {"signature_name": "classify", "instances": [1]},
        'Serving signature name: "classify" not found in signature def',
    ),
    "signature no string": ({"signature_name": 5, "instances": [1]}, "'signature_name' key must be a string value."),
    "number as string": (
        {"signature_name": "tensors", "inputs": {name: [["x"]] for name in TENSORS}},
        "Type: String is not of expected type: ",
    ),
}


@pytest.mark.parametrize("body", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_requests(server, body):
    body, sentence = body
    code, answer = server.predict(body)
    assert (code, answer.keys()) == (400, {"error"})
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": [IMAGE, IMAGE], "text": ["a"]},  # rows do not match
        {"image": [[IMAGE]], "text": [["a"]]},  # an axis too many
        {"image": IMAGE, "text": "a"},  # an axis too few
    ],
)
def test_shapes_that_the_signature_does_not_take(server, inputs):
    code, answer = server.predict({"inputs": inputs})
    assert (code, answer.keys()) == (400, {"error"})


@pytest.mark.parametrize(
    ("method", "path", "code", "sentence"),
    [
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", f"/v1/models/{MODEL}/versions/7", 404, f"Could not find version 7 of model {MODEL}"),
        ("GET", f"/v1/models/{MODEL}/versions/{10**30}", 400, "Failed to convert version: "),
        ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("GET", f"/v1/models/{MODEL}/versions/7/metadata", 404, f"Specific({MODEL}, 7)"),
        ("GET", "/v1/models/..%2F..%2Fetc", 404, "Could not find any versions of model ../../etc"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/model", 400, "Malformed request: GET /v1/model"),
        ("GET", f"/v1/models/{MODEL}:predict", 400, "Malformed request: GET "),
        ("POST", f"/v1/models/{MODEL}", 400, "Malformed request: POST "),
        ("POST", f"/v1/models/{MODEL}:run", 400, "Malformed request: POST "),
        ("POST", f"/v1/models/{MODEL}/versions/new:predict", 400, "Malformed request: POST "),
        ("DELETE", f"/v1/models/{MODEL}", 400, "Malformed request: DELETE "),
        ("PUT", f"/v1/models/{MODEL}:predict", 400, "Malformed request: PUT "),
        ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("POST", "/v1/models/..%2F1:predict", 404, "Servable not found for request: Latest(../1)"),
        ("POST", f"/v1/models/{MODEL}/versions/7:predict", 404, f"Specific({MODEL}, 7)"),
        ("POST", f"/v1/models/{MODEL}/labels/new:predict", 400, "Unrecognized servable version label: new"),
    ],
)
def test_wrong_addresses(server, method, path, code, sentence):
    body = {"instances": instances(0)} if method == "POST" else None
    status, answer = server.ask(method, path, body)
    assert (status, answer.keys()) == (code, {"error"})
    assert sentence in answer["error"]


def test_other_paths_are_not_found(server):
    assert server.ask_raw("GET", "/")[0] == 404
    assert server.ask_raw("GET", "/etc/passwd")[0] == 404


def test_metrics(server):
    server.predict({"instances": instances(0)})
    server.predict({"instances": []})
    code, page = server.ask_raw("GET", "/monitoring/prometheus/metrics")
    assert code == 200
    page = page.decode()
    counts = dict(re.findall(rf':request_count{{model_name="{MODEL}",status="(\w+)"}} (\d+)', page))
    assert int(counts["OK"]) > 0
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert re.search(rf':tensorflow:serving:request_latency_bucket{{model_name="{MODEL}",API="[Pp]redict"', page)
    assert re.search(rf':tensorflow:serving:runtime_latency_count{{model_name="{MODEL}"', page)


# --- gRPC -------------------------------------------------------------------------------------------------------------


def test_grpc_predict(prediction):
    response = prediction.Predict(predict_request(0, 1, 2), timeout=ANSWER_SECONDS)
    assert response.model_spec.name == MODEL
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    outputs = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    assert outputs["status"].tolist() == [b"", b"", b""]
    assert outputs["answers"].tolist() == expected()["answers"][:3].tolist()
    np.testing.assert_allclose(outputs["scores"], expected()["scores"][:3], rtol=0, atol=BATCH_TOLERANCE)


def test_grpc_output_filter(prediction):
    asked = predict_request(0)
    asked.output_filter.append("answers")
    assert prediction.Predict(asked, timeout=ANSWER_SECONDS).outputs.keys() == {"answers"}
    asked.output_filter.append("nothing")
    code, sentence = refusal(prediction.Predict, asked)
    assert code == "INVALID_ARGUMENT"
    assert sentence.startswith("output tensor alias not found in signature: nothing")


def test_grpc_version(prediction):
    asked = predict_request(0)
    asked.model_spec.version.value = 1
    assert prediction.Predict(asked, timeout=ANSWER_SECONDS).model_spec.version.value == 1
    asked.model_spec.version.value = 7
    code, sentence = refusal(prediction.Predict, asked)
    assert code == "NOT_FOUND"
    assert sentence.startswith("Servable not found for request: Specific(")


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"name": "../1"}, "NOT_FOUND", "Servable not found for request: Latest(../1)"),
        ({"signature": "classify"}, "FAILED_PRECONDITION", 'Serving signature key "classify" not found.'),
        ({"text": None}, "INVALID_ARGUMENT", "Missing but required: {text}"),
        ({"seed": 1}, "INVALID_ARGUMENT", "Sent extra: {seed}"),
        ({"text": [1.0]}, "INVALID_ARGUMENT", ""),  # a float where a string is expected
        ({"text": [b"a", b"b"]}, "INVALID_ARGUMENT", ""),  # two texts for one image
        ({"text": b"a"}, "INVALID_ARGUMENT", ""),  # no axis for the rows
    ],
)
def test_grpc_bad_requests(prediction, changes, code, sentence):
    got, details = refusal(prediction.Predict, predict_request(0, **changes))
    assert got == code
    assert sentence in details


def test_grpc_tensor_that_would_grow(prediction):
    """A proto may say a value once for all that follow: ten bytes for a tensor of any size."""
    asked = predict_request(0)
    asked.inputs["text"].tensor_shape.dim[0].size = 2**40
    code, _ = refusal(prediction.Predict, asked)
    assert code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")


def test_grpc_metadata(prediction):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = MODEL
    response = prediction.GetModelMetadata(asked, timeout=ANSWER_SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs.keys() == {"image", "text"}
    assert response.model_spec.version.value == 1
    del asked.metadata_field[:]
    assert refusal(prediction.GetModelMetadata, asked)[0] == "INVALID_ARGUMENT"
    asked.metadata_field.append("weights")
    assert refusal(prediction.GetModelMetadata, asked)[0] == "INVALID_ARGUMENT"
    assert refusal(prediction.GetModelMetadata, type(asked)(metadata_field=["signature_def"]))[1] == "Missing ModelSpec"


def test_grpc_status(channel):
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = MODEL
    (version,) = models.GetModelStatus(asked, timeout=ANSWER_SECONDS).model_version_status
    assert (version.version, version.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert version.status.error_code == 0
    asked.model_spec.version.value = 7
    assert refusal(models.GetModelStatus, asked) == ("NOT_FOUND", f"Could not find version 7 of model {MODEL}")
    asked.model_spec.name = "other"
    asked.model_spec.ClearField("version")
    assert refusal(models.GetModelStatus, asked) == ("NOT_FOUND", "Could not find any versions of model other")


def test_grpc_health(channel):
    if REMOTE:
        pytest.skip("TF Serving has it only with --enable_grpc_healthcheck_service")
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=ANSWER_SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
