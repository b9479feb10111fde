"""What a graph reaches beyond its inputs and outputs is named by `check`, and before a model is run."""

import contextlib
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfvl.cli.app import main
from tfvl.export import check
from tfvl.export.loaded import LoadedModel
from tfvl.export.op_check.outside import REACHES, reached
from tfvl.export.op_check.targets import NEWEST, target

READS_AND_WRITES = {"files": ("ReadFile", "WriteFile")}


def save(directory, function, *specs):
    module = tf.Module()
    module.variable = tf.Variable([1.0, 2.0])
    module.function = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(directory), signatures=module.function)
    return directory


@pytest.fixture
def stranger(tmp_path):
    """Makes a SavedModel that writes its question into a file and answers with a file of this machine."""

    def function(text):
        tf.io.write_file(str(tmp_path / "written"), text)
        return {"answers": tf.io.read_file(str(tmp_path / "secret"))}

    return save(tmp_path / "1", function, tf.TensorSpec([], tf.string, name="text"))


def test_files_that_a_graph_reads_and_writes_are_named(stranger, capsys):
    assert check(stranger).reaches == READS_AND_WRITES
    main(["check", str(stranger)])
    assert "reaches beyond inputs and outputs: files (ReadFile, WriteFile)" in capsys.readouterr().out


def test_it_is_said_before_a_strangers_model_runs(stranger):
    with (
        pytest.warns(UserWarning, match=r"reaches files \(ReadFile, WriteFile\); run it only if you trust"),
        contextlib.suppress(ValueError),  # its signature is not one of tfvl's
    ):
        LoadedModel(str(stranger))


def test_saving_and_reading_back_the_variables_is_no_reach(tmp_path):
    def function(x):
        tf.print("seen")
        return {"y": x + 1}

    assert check(save(tmp_path / "1", function, tf.TensorSpec([], tf.float32))).reaches == {}


def test_python_and_a_print_into_a_file_are_named(tmp_path):
    def function(x):
        tf.print("seen", output_stream=f"file://{tmp_path}/log")
        return {"y": tf.numpy_function(np.sort, [x], tf.float32)}

    report = check(save(tmp_path / "1", function, tf.TensorSpec([3], tf.float32)))
    assert report.reaches == {"files": ("PrintV2",), "Python": ("PyFunc",)}


def test_the_functions_for_saving_hide_nothing(stranger):
    """An op that saves, elsewhere; another op, where variables are read back; and a saver that others call."""
    content = (stranger / "saved_model.pb").read_bytes()

    def graph():
        return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]

    def function_with(meta_graph, op):
        return next(each for each in meta_graph.graph_def.library.function if op in {node.op for node in each.node_def})

    elsewhere = graph()
    function_with(elsewhere, "ReadFile").node_def.add(name="more", op="SaveV2")
    assert "SaveV2" in reached(elsewhere)["files"]
    restoring = graph()
    function_with(restoring, "RestoreV2").node_def.add(name="more", op="WriteFile")
    function_with(restoring, "RestoreV2").node_def.add(name="also", op="SaveV2")
    assert reached(restoring)["files"] == ("ReadFile", "SaveV2", "WriteFile")
    called = graph()
    saver = function_with(called, "SaveV2").signature.name
    called.graph_def.node.add(name="call", op="PartitionedCall").attr["f"].func.name = saver
    assert "SaveV2" in reached(called)["files"]
    by_name = graph()
    by_name.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saver
    assert "SaveV2" in reached(by_name)["files"]


def test_the_table_names_ops_that_there_are():
    ops = target(NEWEST).ops
    for kind, patterns in REACHES.items():
        for pattern in patterns:
            assert any(re.fullmatch(pattern, op) for op in ops), (kind, pattern)
    harmless = (
        "MatMul",
        "DecodeJpeg",
        "ReadVariableOp",
        "RegexSplitWithOffsets",
        "StatefulPartitionedCall",
        "MapDataset",
    )
    assert not [op for op in harmless for pattern in sum(REACHES.values(), ()) if re.fullmatch(pattern, op)]
