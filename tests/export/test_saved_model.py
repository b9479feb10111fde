"""What `tfvl.export.saved_model` writes: files, warm-up request, nothing local; and what it refuses to write over."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support import c_api
from support.checkpoint import VOCABULARY, tiny_model, tiny_processor
from support.export import HEADS, NLVR2, artefact, serve
from support.export_regions import INPUT_KINDS
from tensorflow.core.framework import tensor_pb2

import tfvl
from tfvl.export import saved_model


def test_a_plain_tensorflow_process_loads_it():
    """With tensorflow_text for its ops, and without tfvl."""
    code = (
        "import sys, json, tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(artefact('ViltForQuestionAnswering').directory)!r})\n"
        "answers = model.signatures['serving_default'](image=tf.constant([b'']), text=tf.constant(['how many ?']))\n"
        "print(json.dumps([answers['status'].numpy()[0].decode(), 'tfvl' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    status, tfvl_is_there = json.loads(done.stdout)
    assert "0 bytes" in status
    assert not tfvl_is_there


@pytest.mark.parametrize("class_name", [*HEADS, *INPUT_KINDS])
def test_nothing_local_and_every_weight_once(class_name):
    exported = artefact(class_name)
    report = tfvl.export.check(exported.directory)
    assert report.problems == ()
    weights = sum(np.prod(variable.shape) * 4 for variable in exported.model.weights)
    assert (
        weights
        <= (exported.directory / "variables/variables.data-00000-of-00001").stat().st_size
        < 1.5 * weights + 9000
    )
    local = {
        str(Path(tfvl.__file__).parent),
        str(Path(tf.__file__).parent),
        str(exported.directory.parent),
        str(Path.cwd()),
    }
    for file in (path for path in exported.directory.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not [path for path in local if path.encode() in content], file
    files = {str(path.relative_to(exported.directory)) for path in exported.directory.rglob("*") if path.is_file()}
    assert files == {
        *("saved_model.pb", "fingerprint.pb", "assets.extra/tf_serving_warmup_requests"),
        *("variables/variables.index", "variables/variables.data-00000-of-00001"),
    }


@pytest.mark.parametrize("class_name", ["ViltForQuestionAnswering", "ViltForMaskedLM", NLVR2, *INPUT_KINDS])
def test_the_warm_up_request_runs_and_is_answered(class_name):
    (record,) = tf.data.TFRecordDataset(str(artefact(class_name).directory / "assets.extra/tf_serving_warmup_requests"))
    fields = c_api.fields
    (log,) = fields(record.numpy())[6]  # PredictionLog.predict_log
    (request,) = fields(log)[1]  # PredictLog.request
    (spec,) = fields(request)[1]  # PredictRequest.model_spec
    assert fields(spec) == {1: [class_name.encode()], 3: [b"serving_default"]}  # ModelSpec.name, .signature_name
    protos = c_api.map_field(request, 2)  # PredictRequest.inputs
    inputs = {name: tf.make_ndarray(tensor_pb2.TensorProto.FromString(proto)) for name, proto in protos.items()}
    assert serve(class_name, **inputs)["status"].tolist() == [b""]


def test_the_warm_up_file_is_what_tensorflow_serving_reads():
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
    from tensorflow_serving.apis import prediction_log_pb2

    directory = artefact("ViltForQuestionAnswering").directory
    (record,) = tf.data.TFRecordDataset(str(directory / "assets.extra/tf_serving_warmup_requests"))
    request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    assert set(request.inputs) == {"image", "text"}


def export_tiny(directory: Path, **options) -> Path:
    return saved_model(
        tiny_model("ViltForImageAndTextRetrieval", num_hidden_layers=1), tiny_processor(), directory, **options
    )


def test_a_directory_in_use_is_refused_and_replaced_only_on_demand(tmp_path):
    for version in ("2", "10"):
        (tmp_path / "model" / version).mkdir(parents=True)
    with pytest.raises(FileExistsError, match=f"export to {tmp_path / 'model' / '11'}"):
        export_tiny(tmp_path / "model")

    target = tmp_path / "model" / "10"
    (target / "old").write_text("x")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_tiny(target)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert export_tiny(target, overwrite=True) == target
    assert not (target / "old").exists()
    assert tfvl.export.check(target).problems == ()
    assert sorted(path.name for path in target.parent.iterdir()) == ["10", "2"]  # no temporary directory stays

    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        export_tiny(tmp_path / "file", overwrite=True)


def test_what_cannot_be_exported_leaves_nothing_behind(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    with pytest.raises(ValueError, match="top_k is 0"):
        saved_model(model, processor, tmp_path / "1", top_k=0)
    other = tfvl.ViltProcessor(processor.image_processor, tfvl.BertTokenizer([*VOCABULARY, "more", "words"]))
    with pytest.raises(ValueError, match="ids reach 25 but the model has 24 word embeddings"):
        saved_model(model, other, tmp_path / "1")

    class Python(type(model)):  # a model that calls back into Python cannot be served
        def call(self, inputs, **options):
            outputs = super().call(inputs, **options)
            logits = tf.numpy_function(lambda x: x, [outputs["logits"]], tf.float32)
            return {"logits": tf.ensure_shape(logits, outputs["logits"].shape)}

    with pytest.raises(ValueError, match="PyFunc: runs Python code"):
        saved_model(Python(model.config), processor, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []
