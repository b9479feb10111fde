"""Reading a checkpoint needs little more memory than its own size: each format in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.paths import ROOT
from support.porting import Call, Global, storage, write_legacy, write_zip

from tfvl.porting.safetensors_file import write_safetensors

# The variables are one times the file; half as much again is what the issue allows for everything else.
MOST = 1.5
# A file that is not half as large would be measured together with the noise of the allocator.
LEAST_BYTES = 100e6

# Loads the file into a model of plain variables and prints the growth of the peak over the size of the file.
CHILD = """
import json, sys
import keras
import numpy as np
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.load import load_weights, uninitialised_variables
from tfvl.porting.rules import DENSE, Rule

def peak():  # not ru_maxrss: a new process inherits that of the one that started it
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

class Model:
    base_model_prefix = "base"
    weight_rules = (Rule("words", "words"), Rule(tuple(f"{part}.{{i}}" for part in "qkv"), "qkv/{i}", DENSE))

    def __init__(self, shapes):
        self.variables = [keras.Variable("zeros", shape, name=name.replace("/", "_")) for name, shape in shapes.items()]
        self.names = dict(zip(shapes, self.variables))

    def weight_names(self):
        return self.names

file, shapes = sys.argv[1], json.loads(sys.argv[2])
keras.ops.transpose(keras.ops.convert_to_tensor(np.ones((2, 3), "float32")))
size = sum(tensor.nbytes for tensor in open_checkpoint(file).values())
before = peak()
with uninitialised_variables():
    model = Model(shapes)
report = load_weights(model, open_checkpoint(file))
print((peak() - before) / size)
assert report.nbytes == size
assert all(float(variable.numpy().ravel()[-1]) == 1 for variable in model.variables)
"""

# In proportion to a base-size model: a fifth of the file is one embedding table, no other tensor above one percent.
WORDS, WIDTH, LAYERS = (8_000, 700), 512, 30
SOURCES = {"words": WORDS} | {f"{part}.{i}": (WIDTH, WIDTH) for i in range(LAYERS) for part in "qkv"}
VARIABLES = {"words": WORDS} | {f"qkv/{i}": (WIDTH, 3 * WIDTH) for i in range(LAYERS)}


def ones(shape) -> np.ndarray:
    return np.ones(shape, np.float32)


def make_safetensors(directory: Path) -> Path:
    file = directory / "model.safetensors"
    write_safetensors(file, {name: lambda s=shape: ones(s) for name, shape in SOURCES.items()})
    return file


def described() -> dict:
    hooks = Call(Global("collections", "OrderedDict"), ())
    return {
        name: Call(
            Global("torch._utils", "_rebuild_tensor_v2"),
            (storage(shape[0] * shape[1], name), 0, shape, (shape[1], 1), False, hooks),
        )
        for name, shape in SOURCES.items()
    }


def make_zip(directory: Path) -> Path:
    return write_zip(directory / "x.bin", described(), {name: ones(shape).tobytes() for name, shape in SOURCES.items()})


def make_legacy(directory: Path) -> Path:
    data = {name: (shape[0] * shape[1], ones(shape).tobytes()) for name, shape in SOURCES.items()}
    return write_legacy(directory / "x.bin", described(), data)


def make_h5(directory: Path) -> Path:
    with h5py.File(directory / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [b"all"]
        group = file.create_group("all")
        group.attrs["weight_names"] = [name.encode() for name in SOURCES]
        for name, shape in SOURCES.items():
            group.create_dataset(name, data=ones(shape))
    return directory / "tf_model.h5"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("make", [make_safetensors, make_zip, make_legacy, make_h5])
def test_peak_memory(tmp_path, make):
    file = make(tmp_path)
    assert file.stat().st_size > LEAST_BYTES
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(file), json.dumps(VARIABLES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ratio = float(done.stdout)
    assert 0.9 < ratio < MOST
