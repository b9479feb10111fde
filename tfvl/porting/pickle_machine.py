"""Reads what a torch pickle describes, without executing the pickle.

A pickle is a program for a stack machine. This machine knows the few instructions that build dicts, lists and tuples,
and instead of calling anything it recognises the functions with which torch describes a tensor. All else is refused
by name. Nothing is imported, and nothing that the file names is called.

Other objects that a training framework saves (of `FOREIGN`, such as Lightning's hyper-parameters and callbacks) become
an inert `Foreign` that has only a name, so that the weights can be read; in place of a tensor it is refused.

Source: torch/_utils.py (`_rebuild_tensor_v2`, `_rebuild_parameter`), torch/serialization.py (`persistent_id`).
"""

import io
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tfvl.errors import CheckpointError

_STORAGE_TYPES = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}


MAX_STEPS = 1 << 19  # a base-size model takes 12,000, with an optimizer's state 40,000
MAX_NAME = 256  # characters of a module and a class in it

# Modules whose classes a checkpoint may name, except for its weights.
FOREIGN = ("pytorch_lightning", "lightning", "lightning_fabric", "sacred", "argparse", "pathlib")


@dataclass(frozen=True)
class Storage:
    """Memory of `numel` elements of `dtype` that tensors share; a view in a legacy file begins at element `start`."""

    key: str
    dtype: str
    numel: int
    start: int = 0


@dataclass(frozen=True)
class DescribedTensor:
    """A tensor as a pickle describes it; offset and strides are numbers of elements, and nothing is checked yet."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


@dataclass(frozen=True)
class Foreign:
    """An object that a pickle would build from a class of `FOREIGN`; the arguments of the class are dropped."""

    name: str


def run_pickle(program: io.BytesIO, path: Path, storages: dict[str, Storage] | None = None) -> object:
    """Interprets one pickle: returns dicts, lists, tuples, strings, numbers, `DescribedTensor`s, `Foreign`s.

    Args:
        program: the pickle; when the function returns, the position is just after it.
        path: the file to name in errors.
        storages: a dict to which every storage that the pickle names is added, by its key.

    Raises:
        CheckpointError: the pickle wants anything else, takes more than `MAX_STEPS` steps, or is malformed.
    """
    return built(Machine({} if storages is None else storages), program, path, "state dict")


def built(machine: "Machine", program: BinaryIO, path: Path, wanted: str) -> object:
    """Runs the machine on a pickle; errors are those of `run_pickle`, and name what was `wanted`."""
    try:
        return machine.run(program)
    except RefusedError as refused:
        raise CheckpointError(f"{path}: the pickle wants {refused}, which no {wanted} needs; refused.") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{path}: the file is truncated or its pickle is malformed ({error!s:.200}).") from None


class RefusedError(Exception):
    """The pickle wants something that describing tensors does not need; the message says what."""


class Function(str):
    """A function or class that the pickle names, as `module name`. It is recognised where used, never imported."""


_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_MARK = object()
_PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
}
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """The stack machine of one pickle, which counts its steps.

    Every instruction is a step, and so is each list item that a call gets: many instructions may name the same list, so
    that a short program could copy it for ever. Nothing here recurses into values, so that it does not matter how
    deeply they are nested, nor how often one contains another.
    """

    def __init__(self, storages: dict[str, Storage]):
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.storages = storages
        self.steps = 0

    def run(self, program: BinaryIO) -> object:
        """Returns the value that the pickle builds; the position of the file is then just after the pickle."""
        while True:
            code = program.read(1)
            opcode = _OPCODES.get(code)
            if opcode is None:
                raise ValueError(f"no instruction is {code!r}" if code else "it has no end")
            self.spend(1)
            if opcode.name == "STOP":
                (value,) = self.stack
                return value
            self.step(opcode.name, self.argument(opcode, program))

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise RefusedError(f"more than {MAX_STEPS} steps")

    def argument(self, opcode: pickletools.OpcodeInfo, program: BinaryIO) -> object:
        """Reads the argument of an instruction from the file."""
        return None if opcode.arg is None else opcode.arg.reader(program)

    def step(self, name: str, argument) -> None:
        """Executes one instruction."""
        stack, memo = self.stack, self.memo
        if name in _PUSH:
            stack.append(argument)
        elif name in _PUSH_NEW:
            stack.append(_PUSH_NEW[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _SHORT_TUPLES:
            items = popped(stack, _SHORT_TUPLES[name])
            stack.append(tuple(items))
        elif name == "TUPLE":
            items = _popped_to_mark(stack)
            stack.append(tuple(items))
        elif name in ("APPEND", "APPENDS"):
            items = _popped_to_mark(stack) if name == "APPENDS" else popped(stack, 1)
            if not isinstance(stack[-1], Foreign):
                _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _popped_to_mark(stack) if name == "SETITEMS" else popped(stack, 2)
            if not isinstance(stack[-1], Foreign):
                _fill(_expect(stack[-1], dict), zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(*popped(stack, 2)))
        elif name == "BINPERSID":
            (reference,) = popped(stack, 1)
            self.spend(len(_expect(reference, tuple)))
            stack.append(_storage(reference))
            self.storages[stack[-1].key] = stack[-1]
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = popped(stack, 2)
            stack.append(self.called(function, _expect(arguments, tuple)))
        elif name == "BUILD":  # sets the _metadata of an OrderedDict, versions of modules, which are not needed
            popped(stack, 1)
            _expect(stack[-1], dict | Foreign)
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"the instruction {name}")

    def called(self, function: object, arguments: tuple) -> object:
        """Returns a description of what torch's call would return."""
        if isinstance(function, Function) and function.split(".")[0].split(" ")[0] in FOREIGN:
            return Foreign(function.replace(" ", "."))
        if not isinstance(function, Function) or function not in _CALLS:
            raise RefusedError(f"to call {_shown(function)}")
        self.spend(len(arguments) + sum(len(value) for value in arguments if isinstance(value, list | tuple)))
        return _CALLS[function](*arguments)


def _named(module: object, name: object) -> Function:
    if len(_expect(module, str)) + len(_expect(name, str)) > MAX_NAME:
        raise RefusedError(f"a class whose name has {len(str(module)) + len(str(name))} characters")
    return Function(f"{module} {name}")


def popped(stack: list, count: int) -> list:
    items = stack[-count:]
    if len(items) < count or _MARK in items:
        raise IndexError("an instruction finds too little on the stack")
    del stack[-count:]
    return items


def _popped_to_mark(stack: list) -> list:
    start = next(index for index in range(len(stack) - 1, -2, -1) if index < 0 or stack[index] is _MARK)
    if start < 0:
        raise IndexError("an instruction finds no mark on the stack")
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _expect(value, kind):
    if not isinstance(value, kind):
        raise TypeError(f"{kind} expected, found {type(value)}")
    return value


def _whole_number(value) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a size or an offset is no whole number")
    return value


def _fill(target: dict, items: Iterable) -> None:
    for key, value in items:
        # Only keys that are quick to hash: hashing a tuple nested a million deep would overflow the C stack.
        target[_expect(key, str | int)] = value


def _shown(value: object) -> str:
    """Formats a value of the pickle for a message, shortly and without its nested values."""
    return repr(value[:80].replace(" ", ".")) if isinstance(value, str) else f"a {type(value).__name__}"


def _storage(reference: tuple) -> Storage:
    """Returns the storage of a persistent id: ("storage", type, key, device, numel), in legacy files with a view."""
    kind, storage_type, key, _device, numel, *view = reference
    if kind != "storage":
        raise RefusedError(f"an object of kind {_shown(kind)} from outside the file")
    if not isinstance(storage_type, Function) or storage_type not in _STORAGE_TYPES:
        raise RefusedError(f"a storage of type {_shown(storage_type)}")
    _view_key, start, _view_numel = _expect(view[0], tuple) if view and view[0] is not None else (None, 0, None)
    return Storage(_expect(key, str), _STORAGE_TYPES[storage_type], _whole_number(numel), _whole_number(start))


def _tensor(storage, offset, shape, strides, *_gradient_and_hooks) -> DescribedTensor:
    shape, strides = _expect(shape, tuple), _expect(strides, tuple)
    return DescribedTensor(_expect(storage, Storage), _whole_number(offset), shape, strides)


def _parameter(tensor, *_gradient_and_hooks) -> DescribedTensor:
    return _expect(tensor, DescribedTensor)


def _ordered_dict(pairs=()) -> dict:
    result: dict = {}
    _fill(result, (_expect(pair, list | tuple) for pair in _expect(pairs, list | tuple)))
    return result


def _size(lengths=()) -> tuple:
    return tuple(_expect(lengths, list | tuple))


_CALLS: dict[str, Callable] = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
