"""BertTokenizer inside tf.data and inside a reloaded SavedModel, the vocabulary file being gone."""

import json
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from support import bert_texts
from tensorflow.core.protobuf import saved_model_pb2

from tfvl.preprocessing.text.tokenizer import BertTokenizer

TEXTS = ["How many [MASK] are there?", "", "naïve \U0001d16e 中国", "x" * 101, "[SEP][sep] cafe\u0301 İ"]
PAIRS = ["two", "red blue", "", "unaffable", "no"]
# What stock TF Serving 2.19 registers: TensorFlow's own ops, and tf.text 2.12's.
TEXT_OPS = {"FastWordpieceTokenizeWithOffsets"}
STRINGS = tf.TensorSpec([None], tf.string)


class Export(tf.Module):
    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @tf.function(input_signature=[STRINGS])
    def encode(self, text):
        encoded = self.tokenizer(text, return_length=True)
        return {**encoded, "text": self.tokenizer.detokenize(encoded["input_ids"])}

    @tf.function(input_signature=[STRINGS, STRINGS])
    def encode_pair(self, text, text_pair):
        return self.tokenizer(text, text_pair, padding="max_length", max_length=9)

    @tf.function(input_signature=[STRINGS])
    def refuse(self, text):
        return self.tokenizer(text, truncation=False, max_length=6)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Makes a tokenizer whose vocabulary file is deleted before any test runs."""
    vocab = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    shutil.copy(bert_texts.VOCAB, vocab)
    tokenizer = BertTokenizer(vocab)
    vocab.unlink()
    return tokenizer


@pytest.fixture(scope="module")
def artefact(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("artefact")
    export = Export(tokenizer)
    signatures = {"encode": export.encode, "encode_pair": export.encode_pair, "refuse": export.refuse}
    tf.saved_model.save(export, directory, signatures=signatures)
    return directory


def as_lists(encoded):
    return {name: value.numpy().tolist() for name, value in encoded.items()}


def test_tf_data_gives_the_eager_ids(tokenizer):
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2).map(tokenizer)
    for i, batch in enumerate(dataset):
        assert as_lists(batch) == as_lists(tokenizer(TEXTS[2 * i : 2 * i + 2]))


def test_tf_data_with_scalars_and_pairs(tokenizer):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, PAIRS))
    dataset = dataset.map(lambda text, pair: tokenizer(text, pair, padding="max_length", max_length=12)["input_ids"])
    expected = tokenizer(TEXTS, PAIRS, padding="max_length", max_length=12)["input_ids"]
    assert [row.numpy()[0].tolist() for row in dataset] == expected.numpy().tolist()


def test_reloaded_artefact_gives_the_eager_ids(tokenizer, artefact):
    signatures = tf.saved_model.load(artefact).signatures
    encoded = as_lists(signatures["encode"](tf.constant(TEXTS)))
    assert [text.decode() for text in encoded.pop("text")] == tokenizer.batch_decode(encoded["input_ids"], True)
    assert encoded == as_lists(tokenizer(TEXTS, return_length=True))
    pairs = signatures["encode_pair"](text=tf.constant(TEXTS), text_pair=tf.constant(PAIRS))
    assert as_lists(pairs) == as_lists(tokenizer(TEXTS, PAIRS, padding="max_length", max_length=9))


def test_artefact_works_in_a_process_without_tfvl(tokenizer, artefact):
    script = (
        "import json, sys, tensorflow as tf, tensorflow_text\n"
        "encode = tf.saved_model.load(sys.argv[1]).signatures['encode']\n"
        "print(json.dumps(encode(tf.constant(json.loads(sys.argv[2])))['input_ids'].numpy().tolist()))"
    )
    command = [sys.executable, "-c", script, str(artefact), json.dumps(TEXTS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=artefact).stdout
    assert json.loads(output) == tokenizer(TEXTS)["input_ids"].numpy().tolist()


def test_artefact_refuses_texts_that_are_too_long(artefact):
    refuse = tf.saved_model.load(artefact).signatures["refuse"]
    assert refuse(tf.constant(["the cats sat"]))["input_ids"].shape == (1, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more tokens than max_length=6"):
        refuse(tf.constant(["red", "the cats sat on red things"]))


def test_artefact_accepts_empty_batches_and_broken_bytes(artefact):
    encode = tf.saved_model.load(artefact).signatures["encode"]
    assert encode(tf.constant([], tf.string))["input_ids"].shape == (0, 0)
    assert encode(tf.constant([b"ca\xff\xfets\x00"]))["input_ids"].numpy().tolist() == [[101, 8870, 102]]


def test_artefact_has_one_vocabulary_and_only_ops_of_old_servers(artefact):
    model = saved_model_pb2.SavedModel.FromString((artefact / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    tokenizers = [node for node in nodes if node.op in TEXT_OPS]
    assert len(tokenizers) == 1, "each caller should share one trace"
    text_ops = {node.op for node in nodes if not hasattr(tf.raw_ops, node.op)}
    assert text_ops == TEXT_OPS
    assert not [node for node in nodes if "Table" in node.op or "Variable" in node.op or "ReadFile" in node.op]
    assert not any((artefact / "assets").iterdir())
    assert b"vocab.txt" not in (artefact / "saved_model.pb").read_bytes()
