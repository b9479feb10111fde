"""A tokenizer alone, as TFLite runs it."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
from tensorflow_text.core.pybinds.tflite_registrar import SELECT_TFTEXT_OPS

from tfvl.export.tflite import text as lite_text
from tfvl.files.quiet import quiet_logger, quiet_stderr
from tfvl.lite import tokenizer
from tfvl.preprocessing.text import vocabulary

Ids = Callable[[Sequence[bytes]], np.ndarray]
BATCH = 256
DEFAULTS = {
    **{"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "never_split": None},
    **vocabulary.SPECIAL_TOKENS,
    "additional_special_tokens": [],
}


def text_flavour(exact: tokenizer.Tokenizer, length: int) -> Ids:
    """The text flavour's: texts to ids (texts, length), padded."""
    tables = lite_text.tables_of(exact)
    return as_tflite(partial(lite_text.encode, tables=tables, length=length, limit=length))


def as_tflite(encode: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> Ids:
    """A function of a string tensor, as TFLite runs it.

    Not as TensorFlow does: there tf.text 2.21's NgramsStringJoin ends the process where it gets several rows.
    """
    function = tf.function(lambda text: encode(text)["input_ids"], autograph=False)
    with quiet_logger(), quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow will delete the class
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function(tf.TensorSpec([BATCH], tf.string))], tf.Module()
        )
        converter.allow_custom_ops = True
        content = converter.convert()
        interpreter = InterpreterWithCustomOps(model_content=content, custom_op_registerers=SELECT_TFTEXT_OPS)
        interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: Sequence[bytes]) -> np.ndarray:
        filled = [*batch, *[b""] * (BATCH - len(batch))]
        interpreter.set_tensor(taken["index"], np.array(filled, object))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[: len(batch)]

    return lambda texts: np.concatenate([run(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])


def client_tokenizer(vocab: dict, **options) -> tokenizer.Tokenizer:
    options = DEFAULTS | options
    vocab = vocabulary.with_added(vocab, options["additional_special_tokens"])
    return tokenizer.Tokenizer(vocab, options, tokenizer.pack(options))
