"""What `check` says of a SavedModel whose variables are not all there, or not as they were written."""

import re
import shutil
import warnings

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfvl.cli.app import main
from tfvl.export import check
from tfvl.export.loaded import LoadedModel
from tfvl.export.op_check.variables import INDEX, read_index

DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Makes a SavedModel with variables of numbers and of texts, one of more than 32 bytes."""
    module = tf.Module()
    module.values = [tf.Variable(np.arange(6).astype(kind)) for kind in ("float32", "int64", "bool")]
    module.text = tf.Variable(["", "a", "é" * 300])

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def function(x):
        return {"y": x + module.values[0], "text": module.text}

    module.function = function
    directory = tmp_path_factory.mktemp("saved") / "1"
    tf.saved_model.save(module, str(directory), signatures=function)
    return directory


@pytest.fixture
def model(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "1")
    return tmp_path / "1"


def test_whole_variables_are_no_problem(model):
    assert check(model).problems == ()
    assert "text/.ATTRIBUTES/VARIABLE_VALUE" in read_index(model / INDEX)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda model: shutil.rmtree(model / "variables"), "variables.index is missing, but the graph has variables"),
        (lambda model: (model / DATA).unlink(), "data-00000-of-00001 is missing"),
        (lambda model: (model / DATA).write_bytes((model / DATA).read_bytes()[:100]), "the file has 100 bytes, but it"),
        (lambda model: (model / INDEX).write_bytes((model / INDEX).read_bytes()[:100]), "damaged (it does not end as"),
        (lambda model: (model / INDEX).write_bytes(b""), "damaged (it does not end as one)"),
    ],
    ids=["none", "no data", "100 bytes", "a cut index", "an empty index"],
)
def test_missing_variables_are_a_problem(model, damage, sentence, capsys):
    damage(model)
    assert any(sentence in problem for problem in check(model).problems)
    assert main(["check", str(model)]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(ValueError, match="cannot be loaded"):
        LoadedModel(str(model))


def test_any_changed_byte_is_noticed(model):
    """Of the file of variables, and of the index, each place in turn would take long: a few of them."""
    random, entries = np.random.default_rng(16), read_index(model / INDEX)
    for file in (DATA, INDEX):
        content = (model / file).read_bytes()
        for place in random.integers(0, len(content), 40):
            changed = bytearray(content)
            changed[place] ^= 1 << int(random.integers(8))
            (model / file).write_bytes(changed)
            found = check(model).problems
            assert found or (file is INDEX and read_index(model / INDEX) == entries), (file, place)
        (model / file).write_bytes(content)
    assert check(model).problems == ()


def test_a_damaged_graph_is_a_sentence(model, capsys):
    random, content = np.random.default_rng(5), (model / "saved_model.pb").read_bytes()
    for place in random.integers(0, len(content), 30):
        (model / "saved_model.pb").write_bytes(content[:place] + bytes(3) + content[place + 3 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert main(["check", str(model)]) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err


def test_an_asset_that_the_graph_names_must_be_there(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    module = tf.Module()
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    start = tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), tf.string, line, tf.int64, number)
    module.table = tf.lookup.StaticHashTable(start, -1)
    module.function = tf.function(lambda x: module.table.lookup(x), input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.function)
    report = check(tmp_path / "1")
    assert not any("words.txt is missing" in problem for problem in report.problems)
    assert report.reaches == {"files": ("InitializeTableFromTextFileV2",)}
    (tmp_path / "1" / "assets" / "words.txt").unlink()
    assert any("words.txt is missing" in problem for problem in check(tmp_path / "1").problems)
    for name in ("../../words.txt", str(tmp_path / "words.txt")):
        saved = saved_model_pb2.SavedModel.FromString((tmp_path / "1" / "saved_model.pb").read_bytes())
        saved.meta_graphs[0].asset_file_def[0].filename = name
        (tmp_path / "1" / "saved_model.pb").write_bytes(saved.SerializeToString())
        sentence = f"the asset {name!r} leads out of {tmp_path / '1' / 'assets'}"
        assert sentence in check(tmp_path / "1").problems
        with pytest.raises(ValueError, match=re.escape(sentence)):
            LoadedModel(str(tmp_path / "1"))
