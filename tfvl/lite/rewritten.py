"""`attach`: puts tfvl's archive behind a model that another tool, such as ai-edge-quantizer, has rewritten."""

import dataclasses
import os
import zipfile
from pathlib import Path

from tfvl.lite import file
from tfvl.lite.runtime import Interpreter

REWRITTEN = "as another program left them"  # stands for the weights in place of a value of `quantize`


def attach(model_file: str | os.PathLike, *, like: str | os.PathLike) -> Path:
    """Puts the archive of one `.tflite` file of tfvl behind the model of another file, so that `Runner` takes that too.

        tfvl.export.lite(model, processor, "vilt.tflite")
        # … ai-edge-quantizer makes small.tflite of it, with weights in 4 bits and without the archive
        tfvl.lite.attach("small.tflite", like="vilt.tflite")

    Args:
        model_file: a `.tflite` file without an archive, whose model was made from that of `like`; the file is replaced
            when it is complete. Whether its weights give the same answers cannot be read from the file:
            `tfvl check FILE --against SRC` compares the answers.
        like: a file that `tfvl.export.lite` wrote.

    Returns: the path of `model_file`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: `like` is not a file of tfvl, `model_file` is not a `.tflite` file or has an archive already, or its
            model has other inputs, outputs or operators than a file of the same flavour as `like` can have.
    """
    path, original = Path(model_file), file.read(like)
    model = path.read_bytes()
    if model[4:8] != file.IDENTIFIER:
        raise ValueError(f"{path} is no .tflite file; give what another program made of {like}")
    if zipfile.is_zipfile(path):
        raise ValueError(f"{path} has an archive behind its model already; give a file without one")
    rewritten, expected = (Interpreter(each, original.flavour, 1, None) for each in (path, original.path))
    if rewritten.tensors != expected.tensors:
        name = next(name for name, tensor in expected.tensors.items() if rewritten.tensors.get(name) != tensor)
        raise ValueError(
            f"{path} was not made of {like}: {name} is {rewritten.tensors.get(name, 'missing')}, "
            f"not {expected.tensors[name]}"
        )
    unknown = custom_operators(model, rewritten.runtime) - file.CUSTOM_OPERATORS[original.flavour]
    if unknown:
        raise ValueError(f"{path} holds {min(unknown)}, which is no builtin operator of TFLite")
    description = original.description | {"quantize": REWRITTEN, "sensitivity": []}
    file.write(dataclasses.replace(original, path=path, description=description), model)
    return path


def custom_operators(model: bytes, runtime: str) -> set[str]:
    """Returns the names of a model's operators that are not TFLite's own."""
    if runtime == "litert":
        from ai_edge_litert import schema_py_generated as schema
    else:
        from tensorflow.lite.python import schema_py_generated as schema
    root = schema.Model.GetRootAs(model, 0)
    codes = map(root.OperatorCodes, range(root.OperatorCodesLength()))
    return {code.CustomCode().decode() for code in codes if code.CustomCode() is not None}
