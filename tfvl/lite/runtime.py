"""One small interface to the TFLite runtimes of Python, which takes and returns arrays by name."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tfvl.files.extras import hint
from tfvl.files.quiet import quiet_stderr, quiet_tensorflow

RUNTIMES = ("litert", "tensorflow")
INSTALL = f"no TFLite runtime is installed; {hint('ai_edge_litert', extra='lite')}"
INSTALL_TEXT = (
    "a file of the flavour text runs with the operations of tensorflow-text; "
    "install it, or export the file with --flavour tensors"
)


class Interpreter:
    """A model in `tf.lite.Interpreter`, or its successor in `ai-edge-litert`, which is the same but for its kernels.

    Args:
        path: the `.tflite` file.
        signature: the name of one of its signatures.
        threads: number of CPU threads.
        runtime: one of `RUNTIMES`; None: the first that is installed, or, for the signature `text`, "tensorflow".

    Attributes:
        tensors: maps "input NAME" and "output NAME" to a shape, with -1 for any size, and a dtype.

    Raises:
        ValueError: no runtime is installed, tf.text is missing for the signature `text`, or the model cannot be read.
    """

    def __init__(self, path: Path, signature: str, threads: int, runtime: str | None):
        self.runtime, interpreter_class = interpreter_of(runtime, signature)
        try:
            with warnings.catch_warnings(), quiet_stderr():
                warnings.simplefilter("ignore")  # TensorFlow's warning that it will delete the class
                self._interpreter = interpreter_class(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            runner = self._interpreter.get_signature_runner(signature)
        except (ValueError, RuntimeError) as error:
            raise cannot_load(path, error) from None
        self._inputs = {name: each["index"] for name, each in runner.get_input_details().items()}
        self._outputs = {name: each["index"] for name, each in runner.get_output_details().items()}
        details = runner.get_input_details().items()
        self._shapes = {name: tuple(each["shape"].tolist()) for name, each in details}
        self._sizes = {name: tuple(each["shape_signature"].tolist()) for name, each in details}  # -1 for any
        outputs = runner.get_output_details().items()
        self.tensors = {
            f"{kind} {name}": (tuple(each["shape_signature"].tolist()), np.dtype(each["dtype"]).name)
            for kind, named in (("input", details), ("output", outputs))
            for name, each in named
        }
        del runner  # the model runs only if nothing else refers to it, but an exception may keep this frame alive

    def takes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Returns whether the model has inputs of these names and shapes; -1 stands for any size."""
        return self._sizes == dict(shapes)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model once; if the shapes of inputs have changed, it allocates memory anew.

        Raises:
            ValueError: the runtime cannot run the model on these inputs.
        """
        shapes = {name: inputs[name].shape for name in self._inputs}
        try:
            if shapes != self._shapes:
                self._shapes = {}  # until all is laid out
                for name, index in self._inputs.items():
                    self._interpreter.resize_tensor_input(index, shapes[name])
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, inputs[name])
            self._interpreter.invoke()
        except RuntimeError as error:
            raise cannot_run(error) from None
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def cannot_load(path: Path, error: Exception) -> ValueError:
    """Returns the error for a model that a runtime cannot read."""
    return ValueError(f"{path}: the model cannot be loaded ({' '.join(str(error).split())})")


def cannot_run(error: RuntimeError) -> ValueError:
    """Returns the error for inputs that a model cannot take, such as an id beyond its table of words."""
    return ValueError(f"the model cannot run on these inputs ({' '.join(str(error).split())})")


def interpreter_of(runtime: str | None, signature: str | None = None) -> tuple[str, Callable]:
    """Returns the name and the class of a runtime. Raises ValueError if it is not installed."""
    if runtime not in (None, *RUNTIMES):
        raise ValueError(f"runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if signature == "text":
        return text_interpreter_of(runtime)
    if runtime != "tensorflow":
        try:
            from ai_edge_litert.interpreter import Interpreter as LiteRT

            return "litert", LiteRT
        except ImportError:
            if runtime == "litert":
                raise ValueError(INSTALL) from None
    try:
        quiet_tensorflow()
        import tensorflow as tf

        return "tensorflow", tf.lite.Interpreter
    except ImportError:
        raise ValueError(INSTALL) from None


def text_interpreter_of(runtime: str | None) -> tuple[str, Callable]:
    """Returns a runtime with tf.text's operations, by default TensorFlow's, since tf.text imports it in any case."""
    try:
        quiet_tensorflow()
        if runtime == "litert":
            from ai_edge_litert.interpreter import InterpreterWithCustomOps
        else:
            from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
        from tensorflow_text.core.pybinds.tflite_registrar import SELECT_TFTEXT_OPS
    except ImportError as error:
        raise ValueError(f"{INSTALL_TEXT} ({error})") from None
    return runtime or "tensorflow", partial(InterpreterWithCustomOps, custom_op_registerers=SELECT_TFTEXT_OPS)
