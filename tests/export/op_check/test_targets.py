"""What TF Serving's releases know: the tables themselves, and graphs with something that a release does not know."""

import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from support.export import HEADS, artefact
from support.export_regions import REGION_HEADS
from tensorflow.core.framework import graph_pb2, op_def_pb2
from tensorflow.python.framework import op_def_registry

from tfvl.cli import app as cli
from tfvl.export import check, warmup
from tfvl.export.op_check import targets

TABLE_BYTES = 500_000  # of all tables together; they are in every wheel of tfvl


def graph(op: str = "Identity", **attributes) -> graph_pb2.GraphDef:
    node = {"name": "node", "op": op, "attr": attributes or {"T": {"type": tf.float32.as_datatype_enum}}}
    return graph_pb2.GraphDef(node=[node], versions={"producer": 2000, "min_consumer": 12})


@pytest.mark.parametrize("class_name", [*HEADS, *REGION_HEADS])
def test_every_head_is_served_by_every_release(class_name):
    report = check(artefact(class_name).directory)
    assert report.releases == dict.fromkeys(targets.TARGETS, ())
    assert report.served_by == targets.TARGETS
    (request,) = report.warmup
    assert request.keys() == report.signatures["serving_default"]["inputs"].keys()


def test_the_tables_are_small_and_say_which_versions_they_are_of():
    files = list(targets.Path(targets.__file__).parent.glob("*.json.gz"))
    assert {file.name.removesuffix(".json.gz") for file in files} == set(targets.TARGETS)
    assert sum(file.stat().st_size for file in files) < TABLE_BYTES
    versions = [targets.target(release).tensorflow for release in targets.TARGETS]
    assert [version[:4] for version in versions] == list(targets.TARGETS)
    assert [targets.target(release).tensorflow_text for release in targets.TARGETS] == ["2.12.1", "2.20.0", "2.20.0"]
    producers = [targets.target(release).graph_def["producer"] for release in targets.TARGETS]
    assert producers == sorted(set(producers))


@pytest.mark.parametrize("release", [release for release in targets.TARGETS if tf.__version__.startswith(release)])
def test_the_table_is_what_this_tensorflow_registers(release):
    """Read from the wheel's libraries; here Python asks its own registry."""
    table = targets.target(release)
    assert table.graph_def["producer"] == tf.version.GRAPH_DEF_VERSION
    here = {name: op_def_registry.get(name) for name in table.ops}
    assert {name for name, op in here.items() if op is None} == set()
    for name, op in here.items():
        assert table.ops[name].keys() == {attr.name for attr in op.attr}, name
    cast = {attr.name: attr for attr in op_def_registry.get("Conv2D").attr}
    assert table.ops["Conv2D"]["padding"][2] == [value.decode() for value in cast["padding"].allowed_values.list.s]


def test_text_ops_that_came_later_are_missing_in_older_releases(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        tf_text.utf8_binarize, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    report = check(tmp_path)
    assert report.problems == ()
    assert report.served_by == ("2.20", "2.21")
    (problem,) = check(tmp_path, target="2.19").problems
    assert problem.startswith("op TFText>Utf8Binarize: neither in TensorFlow 2.19.1 nor in tensorflow-text 2.12.1")


FLOAT = {"type": tf.float32.as_datatype_enum}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (graph("NoSuchOp"), "op NoSuchOp: neither in TensorFlow"),
        (graph("PyFunc"), "op PyFunc: runs Python code"),
        (graph(T=FLOAT, newer={"b": True}), "does not know its attribute newer"),
        (graph(_note={"b": True}), "op Identity: TensorFlow 2.20.0 needs its attribute T"),
        (graph(T={"i": 3}), "its attribute T is not of the type type in TensorFlow"),
        (graph("Floor", T={"type": tf.string.as_datatype_enum}), "its attribute T cannot be DT_STRING in TensorFlow"),
        (graph("Substr", T={"type": tf.int32.as_datatype_enum}, unit={"s": b"WORD"}), "unit cannot be 'WORD' in"),
    ],
)
def test_what_a_release_does_not_know_is_named(changed, problem):
    found = targets.problems(changed, "2.20")
    assert any(problem in sentence for sentence in found), found
    in_function = graph_pb2.GraphDef(library={"function": [{"node_def": changed.node}]}, versions=changed.versions)
    in_function.library.function[0].signature.CopyFrom(op_def_pb2.OpDef(name="function"))
    assert targets.problems(in_function, "2.20") == found
    assert targets.problems(graph(), "2.20") == ()


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({"producer": 5000, "min_consumer": 4000}, "needs a reader of version 4000"),
        ({"producer": 2500, "bad_consumers": [2288]}, "refuses readers of version 2288"),
    ],
)
def test_the_version_of_the_graph_counts(versions, problem):
    (found,) = targets.problems(graph_pb2.GraphDef(versions=versions), "2.20")
    assert problem in found


def test_warm_up_requests_that_would_fail_are_found(tmp_path):
    module = tf.Module()
    module.serve = tf.function(lambda text: {"out": text}, input_signature=[tf.TensorSpec([None], tf.string, "text")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    assert check(tmp_path).warmup == ()
    text = tf.constant(["a"]).numpy()
    warmup.write(tmp_path, "model", "serving_default", {"text": text, "image": text})
    (problem,) = check(tmp_path).problems
    assert problem == "warm-up request 0: signature serving_default and the request differ in the inputs image"
    assert check(tmp_path).warmup == ({"image": "string (1)", "text": "string (1)"},)
    (tmp_path / warmup.FILE).write_bytes(b"x" * 100)
    (problem,) = check(tmp_path).problems
    assert problem.endswith("is not a file of warm-up requests, or is cut short")
    assert "\n" not in problem


def test_the_command(capsys):
    directory = str(artefact("ViltModel").directory)
    assert cli.main(["check", directory, "--target", "2.19"]) == 0
    output = capsys.readouterr().out
    assert "knows every op and attribute: 2.19, 2.20, 2.21" in output
    assert "warm-up requests: image string (1), text string (1)" in output
    assert cli.main(["check", directory, "--target", "1.15"]) == 2
    assert "no table for TF Serving '1.15'; the targets are 2.19, 2.20, 2.21" in capsys.readouterr().err


def test_the_command_line_starts_without_tensorflow():
    code = "import sys, tfvl.cli.app; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
