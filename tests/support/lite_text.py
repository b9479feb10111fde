"""Runs tokenizers alone in TFLite."""

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
from tensorflow_text.core.pybinds.tflite_registrar import SELECT_TFTEXT_OPS

from support import added_tokens
from tfvl.export.tflite import text as lite_text
from tfvl.files.quiet import quiet_logger, quiet_stderr
from tfvl.lite import file, tokenizer
from tfvl.preprocessing.text.token_table import SPECIAL_TOKENS

Ids = Callable[[Sequence[bytes]], np.ndarray]
BATCH = 256
DEFAULTS = {
    **{"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "never_split": None},
    **SPECIAL_TOKENS,
    "additional_special_tokens": [],
}


def text_flavour(exact: tokenizer.Tokenizer, length: int, batch: int = BATCH) -> Ids:
    """Returns the text flavour's tokenizer, a function from texts to padded ids (texts, length).

    It runs as many texts as a batch has at once, however few are given.
    """
    tables = lite_text.tables_of(exact)
    return as_tflite(partial(lite_text.encode, tables=tables, length=length, limit=length), batch)


def as_tflite(encode: Callable[[tf.Tensor], dict[str, tf.Tensor]], batch: int = BATCH) -> Ids:
    """Converts a function of a string tensor to one that TFLite runs.

    TensorFlow cannot run it: there tf.text 2.21's NgramsStringJoin ends the process if it gets several rows.
    """
    function = tf.function(lambda text: encode(text)["input_ids"], autograph=False)
    with quiet_logger(), quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow will delete the class
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function(tf.TensorSpec([batch], tf.string))], tf.Module()
        )
        converter.allow_custom_ops = True
        converter.experimental_lower_to_saved_model = False  # a file in between takes longer than the conversion
        content = converter.convert()
        interpreter = InterpreterWithCustomOps(model_content=content, custom_op_registerers=SELECT_TFTEXT_OPS)
        interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(texts: Sequence[bytes]) -> np.ndarray:
        filled = [*texts, *[b""] * (batch - len(texts))]
        interpreter.set_tensor(taken["index"], np.array(filled, object))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[: len(texts)]

    return lambda texts: np.concatenate([run(texts[start : start + batch]) for start in range(0, len(texts), batch)])


def client_tokenizer(vocab: dict, **options) -> tokenizer.Tokenizer:
    """Makes the tokenizer of a file in the older layout, in which added tokens are words of the vocabulary."""
    options = DEFAULTS | options
    vocab = with_added(vocab, options["additional_special_tokens"])
    return tokenizer.Tokenizer(vocab, options, tokenizer.pack(options))


def tokenizer_file(path: Path, vocab: dict, options: dict) -> Path:
    """Writes a `.tflite` file with a tokenizer and no model that could run."""
    described = {"head": "ViltModel", "config": {}, "tokenizer": options, "inputs": {}, "outputs": [], "top_k": 1}
    file.write(file.LiteFile(path, described, vocab, ("a",), tokenizer.pack(options)), b"\0\0\0\0TFL3")
    return path


def case_file(path: Path, case: added_tokens.Case) -> Path:
    """Writes such a file with the tokenizer of one of the cases of added tokens."""
    vocab, options = tokenizer.described(added_tokens.ours(case).get_config())
    return tokenizer_file(path, vocab, options | {"model_max_length": 40})


def case_client(case: added_tokens.Case) -> tokenizer.Tokenizer:
    """Makes the tokenizer that a client makes from the file of a case."""
    vocab, options = json.loads(json.dumps(tokenizer.described(added_tokens.ours(case).get_config())))
    return tokenizer.Tokenizer(vocab, options, tokenizer.pack(options))


def with_added(vocab: dict, added: Sequence[str]) -> dict:
    return vocab | {token: len(vocab) + i for i, token in enumerate(each for each in added if each not in vocab)}
