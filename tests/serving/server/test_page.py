"""The page at `/`: which files there are, what describes the model, and the headers that keep other pages out."""

import http.client
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from support.export import artefact
from support.lite_files import bundled_file
from support.server import exported, serving
from tensorflow.core.protobuf import saved_model_pb2

from tfvl.serving.server.page import HEADERS, Page
from tfvl.web.folder import page_files

MODEL = "asked"


@pytest.fixture(scope="module", params=["SavedModel", "lite"])
def server(request):
    path = exported() if request.param == "SavedModel" else bundled_file()
    with serving(path, MODEL, page=True) as server:
        yield server


def get(server, path: str, method: str = "GET", **headers) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=600)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, dict(response.getheaders()), content


def test_the_files_are_those_of_the_package(server):
    files = page_files()
    status, headers, content = get(server, "/")
    assert (status, content) == (200, files["index.html"])
    assert headers["content-type"] == "text/html; charset=utf-8"
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
    for name, expected in files.items():
        status, headers, content = get(server, f"/{name}")
        assert (status, content) == (200, expected)
        kind = kinds.get(name.rpartition(".")[2], "application/json")
        assert headers["content-type"].partition(";")[0] == kind
    status, headers, content = get(server, "/", "HEAD")
    assert (status, content) == (200, b"")
    assert headers["content-length"] == str(len(files["index.html"]))


def test_the_description_is_of_the_model(server):
    status, _, content = get(server, "/description.json")
    assert status == 200
    described = json.loads(content)
    examples = described.pop("examples")
    assert len(examples) == 4
    for each in examples:
        status, headers, picture = get(server, f"/{each['images'][0]}")
        assert (status, headers["content-type"]) == (200, "image/png")
        assert picture.startswith(b"\x89PNG")
    assert described == {
        "engine": "server",
        "address": f"v1/models/{MODEL}",
        "title": MODEL,
        "kind": "labels",
        "reads": ["image"],
        "images": 1,
        "top_k": 5,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/README.md",
        "/../README.md",
        "/page.js/",
        "//page.js",
        "/%70age.js",
        "/..%2fREADME.md",
        "/page/index.html",
        "/etc/passwd",
        "/../../../../etc/passwd",
        "/index.html/../page.js",
        "/description.json/",
        "/v1/models/../../index.html",
    ],
)
def test_nothing_else_of_the_disk_is_there(server, path):
    status, _, content = get(server, path)
    assert status in (400, 404)
    assert "error" in json.loads(content)


@pytest.mark.parametrize("path", ["/", "/page.js", "/description.json", "/nothing", f"/v1/models/{MODEL}"])
def test_every_answer_has_the_headers(server, path):
    _, headers, _ = get(server, path)
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize("path", ["/", "/page.js", "/description.json"])
def test_other_names_and_other_pages_are_refused(server, path):
    own = f"127.0.0.1:{server.rest_port}"
    assert get(server, path, Host=own, Origin=f"http://{own}")[0] == 200
    for headers in (
        {"Host": "evil.test"},
        {"Host": f"localhost.evil.test:{server.rest_port}"},
        {"Host": own, "Origin": "http://evil.test"},
        {"Host": own, "Origin": "null"},
        {"Host": own, "Origin": f"http://127.0.0.1:{server.rest_port + 1}"},
    ):
        status, answered, content = get(server, path, **headers)
        assert status == 403, headers
        assert "is not served; start the server with" in json.loads(content)["error"]
        assert answered["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_without_the_option_there_is_no_page():
    with serving(bundled_file(), MODEL) as server:
        for path in ("/", "/index.html", "/description.json"):
            status, headers, _ = get(server, path)
            assert status == 404
            assert "content-security-policy" not in headers


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("ViltForMaskedLM", {"kind": "masks", "reads": ["image"], "images": 1, "top_k": 4}),
        ("ViltForImageAndTextRetrieval", {"kind": "match", "reads": ["image"], "images": 1, "top_k": 5}),
        ("ViltForImagesAndTextClassification", {"kind": "labels", "reads": ["image"], "images": 2, "top_k": 4}),
        ("VisualBertForMultipleChoice", {"kind": "choices", "reads": ["regions", "choices"], "images": 1, "top_k": 5}),
        ("ViltModel", {"kind": "pooled", "reads": ["image"], "images": 1, "top_k": 5}),
    ],
)
def test_the_description_follows_from_the_signatures(head, expected):
    graph = saved_model_pb2.SavedModel.FromString((artefact(head).directory / "saved_model.pb").read_bytes())
    servable = SimpleNamespace(signatures=dict(graph.meta_graphs[0].signature_def))
    service = SimpleNamespace(names=[head], lease=lambda name: nullcontext(SimpleNamespace(servable=servable)))
    described = json.loads(Page(service).get("/description.json").body)
    assert {name: described[name] for name in expected} == expected
