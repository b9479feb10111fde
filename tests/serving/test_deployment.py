"""What an operator copies from `serving/`: every file is read by its own rules, and README's commands are run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from support.paths import ROOT

from tfvl import shapes
from tfvl.cli import app as cli
from tfvl.serving.server import configs

SERVING = ROOT / "serving"
README = (SERVING / "README.md").read_text(encoding="utf-8")
PINNED = "tensorflow/serving:2.20.0"
# README prints what one machine gave; another's kernels add in another order.
SCORE_TOLERANCE = 1e-5


def message(name: str, fields: dict[str, tuple[int, str]]):
    """Makes a message of TF Serving whose proto is in no wheel (session_bundle_config.proto, monitoring_config.proto).

    A field is (number, type); "int64?" stands for google.protobuf.Int64Value, a capital for a message of fields of its
    own, made before.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="test", syntax="proto3")
    file.message_type.add(name="Wrapper").field.add(name="value", number=1, type=kinds.TYPE_INT64, label=1)
    prometheus = file.message_type.add(name="Prometheus")
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=1)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=1)
    proto = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        if kind[0].isupper():
            proto.field.add(name=field, number=number, type=kinds.TYPE_MESSAGE, type_name=f".test.{kind}", label=1)
        else:
            proto.field.add(name=field, number=number, type=getattr(kinds, f"TYPE_{kind.upper()}"), label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))


BATCHING = message(
    "BatchingParameters",
    {
        "max_batch_size": (1, "Wrapper"),
        "batch_timeout_micros": (2, "Wrapper"),
        "max_enqueued_batches": (3, "Wrapper"),
        "num_batch_threads": (4, "Wrapper"),
        "pad_variable_length_inputs": (7, "bool"),
    },
)
MONITORING = message("MonitoringConfig", {"prometheus_config": (1, "Prometheus")})


def same(text: str, file: str, message_class) -> None:
    """Asserts that tfvl's text and the file that the operator copies mean the same."""
    parsed = text_format.Parse((SERVING / file).read_text(encoding="utf-8"), message_class())
    assert text_format.Parse(text, message_class()) == parsed


def test_batching_and_monitoring_are_what_tfvl_serve_uses():
    same(configs.batching_config(), "batching.config", BATCHING)
    same(configs.monitoring_config(), "monitoring.config", MONITORING)
    changed = text_format.Parse(configs.batching_config(max_batch_size=16, timeout_ms=0.5, threads=3), BATCHING())
    assert (changed.max_batch_size.value, changed.batch_timeout_micros.value) == (16, 500)
    assert changed.num_batch_threads.value == 3


def test_models():
    protos = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2", reason="tensorflow-serving-api is not installed"
    )
    models, labels = {"vilt_vqa": "/models/vilt_vqa"}, {"vilt_vqa": {"stable": 1}}
    same(configs.models_config(models, labels=labels), "models.config", protos.ModelServerConfig)
    awkward = 'a "quoted" café\\ \n\x01'
    text = configs.models_config({"one": awkward, "two": "/2"}, latest=1)
    first, second = text_format.Parse(text, protos.ModelServerConfig()).model_config_list.config
    assert (first.base_path, second.name) == (awkward, "two")
    assert first.model_version_policy.latest.num_versions == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"models": {"a/b": "/a"}}, "the model name 'a/b' is not usable"),
        ({"models": {"..": "/a"}}, "the model name '..' is not usable"),
        ({"models": {"a": "/a"}, "latest": 0}, "latest is 0"),
        ({"models": {"a": "/a"}, "labels": {"b": {"stable": 1}}}, "labels are given for b, but the models are a"),
    ],
)
def test_models_that_make_no_sense(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        configs.models_config(**arguments)


def test_batching_that_makes_no_sense():
    with pytest.raises(ValueError, match="max_batch_size is 0, expected a positive number"):
        configs.batching_config(max_batch_size=0)


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"--(\w+)=(\S+)", argument).groups() for argument in arguments)


def dockerfile() -> dict[str, str]:
    text = re.sub(r"\\\n", " ", (SERVING / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: " ".join(rest for other, rest in lines if other == name) for name, _ in lines}


def test_compose_and_dockerfile_run_the_server_alike():
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    instructions = dockerfile()
    assert service["image"] == instructions["FROM"] == PINNED
    assert service["entrypoint"] == ["tensorflow_model_server"]
    program, *arguments = json.loads(instructions["ENTRYPOINT"])
    assert program == "tensorflow_model_server"
    baked, composed = flags(arguments), flags(service["command"])
    assert baked.items() <= composed.items()
    for flag in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        assert (SERVING / Path(composed[flag]).name).is_file()
    assert service["volumes"] == ["../models:/models:ro", ".:/config:ro"]
    assert "/models/${MODEL}" in instructions["COPY"]
    assert int(service["user"].split(":")[0]) > 0
    assert int(instructions["USER"].split(":")[0]) > 0
    assert {port.split(":")[2] for port in service["ports"]} == {composed["port"], composed["rest_api_port"]}


def test_kubernetes():
    documents = list(yaml.safe_load_all((SERVING / "kubernetes.yaml").read_text()))
    objects = {document["kind"]: document for document in documents}
    deployment = objects["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == objects["Service"]["spec"]["selector"] == labels
    assert "replicas" not in deployment  # the autoscaler's
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/vilt_vqa", "port": "rest"}
    assert container["resources"].keys() == {"requests", "limits"}
    autoscaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    (rule,) = yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"])["rules"]
    assert rule["name"]["as"] == autoscaler["metrics"][0]["pods"]["metric"]["name"]
    path = deployment["template"]["metadata"]["annotations"]["prometheus.io/path"]
    assert path == configs.METRICS_PATH
    security = deployment["template"]["spec"]["securityContext"]
    assert security["runAsNonRoot"]


def test_readme_names_every_file():
    named = set(re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE))
    assert named == {path.name for path in SERVING.iterdir() if path.is_file()} - {"README.md"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="module")
def server(directory):
    """Runs README's first commands: exports the model, and serves it by the embedded server."""
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
    from support.server import start

    models = directory / "models" / "vilt_vqa"
    (command,) = re.findall(r"^tfvl (export .+) models/vilt_vqa/1$", README, re.MULTILINE)
    assert cli.main([*command.split(), str(models / "1")]) == 0
    started = start(models, directory / "log", "--name", "vilt_vqa")
    yield started
    started.stop()


@pytest.mark.serving
def test_readme_s_requests_give_the_printed_answers(server, directory):
    """Literally, but for the ports, which may be taken here, and what the fixture has done already."""
    steps, more = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)[:2]
    assert [line.split()[0] for line in steps.splitlines()] == ["pip", "tfvl", "docker", "python", "curl"]
    assert "tfvl serve models/vilt_vqa &" in steps
    picture, question = steps.splitlines()[3:]
    assert picture == "python -c \"from tfvl import shapes; shapes.draw_scene(23).image().save('scene.png')\""
    shapes.draw_scene(23).image().save(directory / "scene.png")

    (promised,) = re.findall(r"^```json\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (expected,) = json.loads(promised)["predictions"]
    (answer,) = json.loads(shell(question, server, directory))["predictions"]
    np.testing.assert_allclose(answer.pop("scores"), expected.pop("scores"), rtol=0, atol=SCORE_TOLERANCE)
    assert answer == expected

    status, metadata, both, metrics, asked = (line for line in more.splitlines() if not line.startswith("#"))
    (version,) = json.loads(shell(status, server, directory))["model_version_status"]
    assert version["state"] == "AVAILABLE"
    signatures = json.loads(shell(metadata, server, directory))["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"].keys() == {"image", "text"}
    first, second = json.loads(shell(both, server, directory))["predictions"]
    scene = shapes.draw_scene(23)
    assert (first["answers"][0], second["answers"][0]) == (str(len(scene.things)), "yes")
    assert ':tensorflow:serving:request_count{model_name="vilt_vqa",status="OK"}' in shell(metrics, server, directory)
    table = shell(asked.replace("tfvl ", f"{sys.executable} -m tfvl ", 1), server, directory)
    assert "red" in table.split("│")[1]


def shell(command: str, server, directory: Path) -> str:
    command = command.replace("localhost:8501", server.rest)
    if command.startswith("curl "):
        command = command.replace("curl ", "curl --silent --show-error --fail ", 1)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SERVING.parent), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=directory, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.serving
def test_readme_s_python(server, directory, monkeypatch, capsys):
    monkeypatch.chdir(directory)
    shapes.draw_scene(23).image().save("scene.png")
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    exec(code.replace("localhost:8500", server.grpc), {})
    assert capsys.readouterr().out.splitlines() == [
        "what color is the triangle? red",
        f"how many objects are there? {len(shapes.draw_scene(23).things)}",
    ]


@pytest.mark.serving
def test_the_load_test(server, directory):
    """A short one; what it measures on a machine that does other things means nothing."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    command = [sys.executable, str(SERVING / "loadtest.py"), "run", f"grpc://{server.grpc}", "--model", "vilt_vqa"]
    options = ["--seconds", "1", "--clients", "2", "--timeout", "600", "--png", str(directory / "latency.png")]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SERVING.parent), "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(directory)},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line[0] == "│"]
    assert [row[-1] for row in rows] == ["none"] * 5
    assert all(int(row[1]) > 0 for row in rows)
    assert "at half load, p99 / p50:" in done.stdout
    assert (directory / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_profile(tmp_path):
    """The parts and the whole, of a tiny model; its commands as README has them."""
    for arguments in (["base", "models/vilt_base/1", "--size", "tiny"], ["profile", "models/vilt_base/1"]):
        assert f"loadtest.py {' '.join(arguments[:2])} " in README
        options = ["--repeats", "2"] if arguments[0] == "profile" else []
        done = subprocess.run(
            [sys.executable, str(SERVING / "loadtest.py"), *arguments, *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(SERVING.parent), "PATH": "/usr/bin:/bin"},
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line[0] == "│"]
    assert [row[0] for row in rows[:4]] == ["decode", "resize, normalise", "tokenise", "model"]
    assert re.search(r"in-graph preprocessing: \d+\.\d%", done.stdout)
