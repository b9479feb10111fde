"""`tfvl.export.check`: what it reports; Python in the graph, local paths, files that are no SavedModel."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from tfvl.export import check


def save(directory, function, *specs):
    module = tf.Module()
    module.function = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(directory), signatures=module.function)
    return check(directory)


def test_a_clean_model_has_no_problems(tmp_path):
    def function(text):
        return {
            "pieces": tf_text.regex_split(text, " ").to_tensor(),
            "name": tf.constant("vilt/encoder/layer_0/kernel"),
        }

    report = save(tmp_path, function, tf.TensorSpec([None], tf.string, name="text"))
    assert report.problems == ()
    assert report.ops["RegexSplitWithOffsets"] == 1
    assert report.graph_bytes == (tmp_path / "saved_model.pb").stat().st_size
    assert report.signatures == {
        "serving_default": {
            "inputs": {"text": "string (?)"},
            "outputs": {"name": "string ()", "pieces": "string (?, ?)"},
        }
    }


def test_python_in_the_graph_is_found_inside_functions(tmp_path):
    def function(x):
        return tf.map_fn(lambda row: tf.numpy_function(np.sort, [row], tf.float32), x)

    report = save(tmp_path, function, tf.TensorSpec([None, 3], tf.float32))
    assert report.problems == ("op PyFunc: runs Python code, which a server does not have",)


def test_paths_of_this_machine_are_found(tmp_path):
    def function(x):
        return tf.strings.join([x, 'File "/home/me/model.py", line 3', "and/or", "/", "a / b"])

    report = save(tmp_path / "model", function, tf.TensorSpec([None], tf.string))
    assert report.problems == ("path of the machine that exported it: /home/me/model.py",)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xff not a proto"])
def test_what_is_no_saved_model_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ValueError, match=r"saved_model\.pb is "):
        check(tmp_path)
