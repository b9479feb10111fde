"""Loads and runs SavedModels through TensorFlow's C API, in a process that never imports tensorflow.

`run` starts that process (this file as a script) and hands it requests as JSON; in it ctypes opens the wheel's
`libtensorflow_cc`, `TF_LoadSessionFromSavedModel` reads the artefact, as TF Serving's loader does, and tf.text's
kernels come in by `TF_LoadLibrary`. What it proves is that an artefact needs nothing from Python.
"""

import base64
import ctypes
import glob
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# TF_DataType (tensorflow/c/tf_datatype.h); strings are apart, as they own memory.
_STRING = 7
_NUMBERS = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
_CODES = {np.dtype(dtype): code for code, dtype in _NUMBERS.items()}
_STRING_BYTES = 24  # sizeof(TF_TString)


def run(requests: list[dict], timeout: float = 900) -> list[dict[str, np.ndarray]]:
    """Answers every request in one clean process, loading each artefact once.

    A request is `{"directory": path, "signature": name, "inputs": {name: array}}`; arrays of str, bytes or `object` are
    string tensors. Returns the output dicts in the order of the requests. Raises `RuntimeError` with the output of the
    process if that fails.
    """
    encoded = [
        {**request, "directory": str(request["directory"]), "inputs": _pack(request["inputs"])} for request in requests
    ]
    done = subprocess.run(
        [sys.executable, "-I", __file__], input=json.dumps(encoded), capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise RuntimeError(f"the C API process failed with code {done.returncode}:\n{done.stderr[-4000:]}")
    return [_unpack(outputs) for outputs in json.loads(done.stdout)]


def _pack(arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    return {name: _pack_one(np.asarray(array)) for name, array in arrays.items()}


def _pack_one(array: np.ndarray) -> dict:
    if array.dtype.kind in "OSU":
        flat = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
        return {"shape": array.shape, "strings": [base64.b64encode(item).decode() for item in flat]}
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"shape": array.shape, "dtype": array.dtype.name, "data": data}


def _unpack(arrays: dict[str, dict]) -> dict[str, np.ndarray]:
    return {name: _unpack_one(packed) for name, packed in arrays.items()}


def _unpack_one(packed: dict) -> np.ndarray:
    if "strings" in packed:
        array = np.empty(len(packed["strings"]), dtype=object)
        array[:] = [base64.b64decode(item) for item in packed["strings"]]
    else:
        array = np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"])
    return array.reshape(packed["shape"])


# What the functions return that do not return an int.
_RETURNS = {
    ctypes.c_void_p: (
        *("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_NewBuffer", "TF_LoadSessionFromSavedModel"),
        *("TF_LoadLibrary", "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData", "TF_StringGetDataPointer"),
    ),
    ctypes.c_size_t: ("TF_StringGetSize", "TF_TensorByteSize"),
    ctypes.c_int64: ("TF_Dim",),
    ctypes.c_char_p: ("TF_Message",),
}


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Runtime:
    """TensorFlow's C library with tf.text's op kernels loaded."""

    def __init__(self):
        tensorflow, text = (Path(find_spec(name).origin).parent for name in ("tensorflow", "tensorflow_text"))
        ctypes.CDLL(str(tensorflow / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(str(tensorflow / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
        for restype, names in _RETURNS.items():
            for name in names:
                getattr(self.c, name).restype = restype
        self.status = ctypes.c_void_p(self.c.TF_NewStatus())
        for library in sorted(glob.glob(str(text / "python" / "ops" / "_*.so"))):
            self.c.TF_LoadLibrary(library.encode(), self.status)
            self.check()

    def check(self):
        if self.c.TF_GetCode(self.status):
            raise RuntimeError(self.c.TF_Message(self.status).decode())

    def tensor(self, array: np.ndarray) -> ctypes.c_void_p:
        """Makes a TF_Tensor with a copy of the array."""
        dims = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        strings = array.dtype == object
        code, size = (_STRING, _STRING_BYTES * array.size) if strings else (_CODES[array.dtype], array.nbytes)
        tensor = ctypes.c_void_p(self.c.TF_AllocateTensor(code, dims, array.ndim, ctypes.c_size_t(size)))
        data = self.c.TF_TensorData(tensor)
        if not strings:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
            return tensor
        for index, item in enumerate(array.reshape(-1)):
            slot = ctypes.c_void_p(data + _STRING_BYTES * index)
            self.c.TF_StringInit(slot)
            self.c.TF_StringCopy(slot, item, ctypes.c_size_t(len(item)))
        return tensor

    def array(self, tensor: ctypes.c_void_p) -> np.ndarray:
        """Copies a TF_Tensor to a NumPy array; strings become an object array of bytes."""
        shape = [self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))]
        data, code = self.c.TF_TensorData(tensor), self.c.TF_TensorType(tensor)
        if code != _STRING:
            raw = ctypes.string_at(data, self.c.TF_TensorByteSize(tensor)) if data else b""
            return np.frombuffer(raw, _NUMBERS[code]).reshape(shape)
        result = np.empty(shape, dtype=object)
        for index in range(result.size):
            slot = ctypes.c_void_p(data + _STRING_BYTES * index)
            size = self.c.TF_StringGetSize(slot)
            result.reshape(-1)[index] = ctypes.string_at(self.c.TF_StringGetDataPointer(slot), size)
        return result


class SavedModel:
    """One artefact, loaded; `signatures` maps name to ({input: (tensor name, dtype)}, {output: …})."""

    def __init__(self, runtime: Runtime, directory: str):
        self.runtime, c = runtime, runtime.c
        self.graph = ctypes.c_void_p(c.TF_NewGraph())
        options, meta_graph = ctypes.c_void_p(c.TF_NewSessionOptions()), ctypes.c_void_p(c.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(
            c.TF_LoadSessionFromSavedModel(
                options, None, directory.encode(), tags, 1, self.graph, meta_graph, runtime.status
            )
        )
        runtime.check()
        buffer = ctypes.cast(meta_graph, ctypes.POINTER(_Buffer)).contents
        self.signatures = signatures(ctypes.string_at(buffer.data, buffer.length))

    def __call__(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        c, (takes, returns) = self.runtime.c, self.signatures[signature]
        if takes.keys() != inputs.keys():
            raise ValueError(f"signature {signature} takes {sorted(takes)}, the request has {sorted(inputs)}")
        feeds = (_Output * len(takes))(*(self._endpoint(takes[name]) for name in inputs))
        fetches = (_Output * len(returns))(*(self._endpoint(tensor) for tensor in returns.values()))
        values = (ctypes.c_void_p * len(takes))(*(self.runtime.tensor(array).value for array in inputs.values()))
        results = (ctypes.c_void_p * len(returns))()
        c.TF_SessionRun(
            self.session, None, feeds, values, len(takes), fetches, results, len(returns), None, 0, None,
            self.runtime.status,
        )  # fmt: skip
        self.runtime.check()
        outputs = {
            name: self.runtime.array(ctypes.c_void_p(result)) for name, result in zip(returns, results, strict=True)
        }
        for tensor in (*values, *results):
            c.TF_DeleteTensor(ctypes.c_void_p(tensor))
        return outputs

    def _endpoint(self, tensor_name: str) -> _Output:
        operation, _, index = tensor_name.rpartition(":")
        found = self.runtime.c.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise ValueError(f"the graph has no operation {operation}")
        return _Output(found, int(index))


def signatures(meta_graph: bytes) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Reads signatures from a serialized MetaGraphDef: name to ({input: tensor name}, {output: tensor name})."""

    def tensors(infos: dict[str, bytes]) -> dict[str, str]:  # TensorInfo.name = 1
        return {name: fields(info)[1][0].decode() for name, info in infos.items()}

    # MetaGraphDef.signature_def = 5, SignatureDef.inputs = 1 and .outputs = 2
    return {
        name: (tensors(map_field(signature, 1)), tensors(map_field(signature, 2)))
        for name, signature in map_field(meta_graph, 5).items()
        if not name.startswith("__")
    }


def map_field(message: bytes, number: int) -> dict[str, bytes]:
    """Reads a map from strings to messages, which is repeated entries of key = 1, value = 2."""
    entries = (fields(entry) for entry in fields(message).get(number, ()))
    return {entry[1][0].decode(): entry[2][0] for entry in entries}


def fields(message: bytes) -> dict[int, list]:
    """Reads a protocol buffer's fields by number: length-delimited ones as bytes, varints as int; skips fixed ones."""
    found, at = {}, 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            found.setdefault(number, []).append(varint())
        elif kind == 2:
            size = varint()
            found.setdefault(number, []).append(message[at : at + size])
            at += size
        else:
            at += {1: 8, 5: 4}[kind]
    return found


def main():
    requests = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")  # the libraries may write to stdout
    os.dup2(2, 1)
    runtime, models, answers = Runtime(), {}, []
    for request in requests:
        directory = request["directory"]
        if directory not in models:
            models[directory] = SavedModel(runtime, directory)
        answers.append(_pack(models[directory](request["signature"], _unpack(request["inputs"]))))
    imported = {name.split(".")[0] for name in sys.modules} & {"tensorflow", "tensorflow_text", "keras", "tfvl"}
    if imported:
        raise RuntimeError(f"this process was to stay clean, but imported {imported}")
    json.dump(answers, out)
    out.flush()
    os._exit(0)  # without running TensorFlow's static destructors, in whatever order


if __name__ == "__main__":
    main()
