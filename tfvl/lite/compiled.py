"""LiteRT's second way to run a model, `CompiledModel`: as fast as its interpreter, and with a weight cache."""

import weakref
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tfvl.files.quiet import quiet_stderr
from tfvl.lite import weight_cache
from tfvl.lite.runtime import INSTALL, cannot_load, cannot_run, interpreter_of


class Compiled:
    """A model of fixed sizes in `ai_edge_litert.compiled_model.CompiledModel`, with the methods of `Interpreter`.

    Args:
        path: the `.tflite` file.
        signature: the name of one of its signatures.
        threads: number of CPU threads.
        directory: the directory of weight caches, see `tfvl.lite.weight_cache`.

    Raises:
        ValueError: ai-edge-litert is not installed or cannot read the model, or the directory cannot be used.
    """

    runtime = "litert"

    def __init__(self, path: Path, signature: str, threads: int, directory: Path):
        try:
            from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options
        except ImportError:
            raise ValueError(INSTALL) from None

        def compile_with(cache: Path) -> CompiledModel:
            cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=str(cache))
            return CompiledModel.from_file(str(path), options=Options(HardwareAccelerator.CPU, cpu))

        self._signature = signature
        verify(path)
        try:
            with quiet_stderr():
                model = weight_cache.load(path, directory, compile_with)
                self._input_details = model.get_input_tensor_details(signature)
                self._output_details = model.get_output_tensor_details(signature)
                inputs = {name: model.create_input_buffer_by_name(signature, name) for name in self._input_details}
                outputs = {name: model.create_output_buffer_by_name(signature, name) for name in self._output_details}
                for name, each in self._input_details.items():
                    inputs[name].write(np.zeros(each["shape"], each["dtype"]))  # LiteRT logs most at the first write
        except RuntimeError as error:
            raise cannot_load(path, error) from None
        self._held = SimpleNamespace(model=model, inputs=inputs, outputs=outputs)
        weakref.finalize(self, release, self._held)

    def takes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Returns whether the model has inputs of these names and shapes."""
        return {name: tuple(each["shape"]) for name, each in self._input_details.items()} == dict(shapes)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model once. Raises ValueError if the runtime cannot run it on these inputs."""
        held = self._held
        for name, buffer in held.inputs.items():
            buffer.write(inputs[name])
        try:
            held.model.run_by_name(self._signature, held.inputs, held.outputs)
        except RuntimeError as error:
            raise cannot_run(error) from None
        outputs = {}
        for name, each in self._output_details.items():
            shape = tuple(each["shape"])
            outputs[name] = held.outputs[name].read(int(np.prod(shape)), each["dtype"]).reshape(shape)
        return outputs


def verify(path: Path) -> None:
    """Raises ValueError for a damaged model, at which `CompiledModel` would end the process."""
    try:
        with quiet_stderr():
            interpreter_of("litert")[1](model_path=str(path))
    except (RuntimeError, ValueError) as error:
        raise cannot_load(path, error) from None


def release(held: SimpleNamespace) -> None:
    """Frees a model, also when the process ends, and discards what LiteRT then writes to stderr."""
    with quiet_stderr():
        vars(held).clear()
