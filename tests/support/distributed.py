"""Trains in several processes on this machine, as several machines would do it.

As a script it is one of the workers: `support/distributed.py DIRECTORY`, where `DIRECTORY/<case>` holds a model for
each of `CASES`; it writes `<case>-<index>-<count>.npz`, the weights, and `.json`, the results of `fit` and `evaluate`.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from support.paths import ROOT, TESTS

DEADLINE = 1800  # seconds, for processes on a loaded machine
STARTS = 3  # one that TensorFlow takes for dead, because it got no processor for a while, is started again
STEPS = 4
ROWS = [0, 1, 2, 1]  # of the examples in support.classes: a batch for two workers
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0], "float32")  # the first worker's rows weigh 3, the second's 0.5
CASES = {  # the class, and what its optimizer does beside the paper's
    "vqa": ("ViltForQuestionAnswering", {}),
    "words": ("ViltForMaskedLM", {"gradient_accumulation_steps": 2}),
    "several losses": ("LxmertForPreTraining", {}),
}
CLIP_NORM = 0.05  # below every step's, so that it matters what is clipped
RATE = 1e-3
# AdamW divides a gradient by its own size plus this. With the papers' 1e-8, a gradient that is nothing but rounding
# moves its weight as far as any, up or down by the order of the sums; with this it hardly does.
EPSILON = 1e-2


@contextlib.contextmanager
def well_conditioned():
    """A context in which every new AdamW has the epsilon `EPSILON`."""
    from tfvl.modeling.optimizers import AdamW

    made = AdamW.__init__
    AdamW.__init__ = lambda self, *arguments, **options: made(self, *arguments, **options | {"epsilon": EPSILON})
    try:
        yield
    finally:
        AdamW.__init__ = made


def batch_of(head: str, index: int, count: int) -> tuple:
    """Returns this worker's rows of the batch: inputs, labels and weights. Most masked words are in the first row."""
    import tensorflow as tf

    import tfvl
    from support.classes import training_example

    inputs, labels = training_example(head)
    if getattr(tfvl, head).label_names == ("labels",):
        labels = labels["labels"]
    inputs, labels = tf.nest.map_structure(lambda value: np.asarray(value)[ROWS], (dict(inputs), labels))
    for words in [labels] if head == "ViltForMaskedLM" else [labels.get("labels")] if isinstance(labels, dict) else []:
        words[1::2, 2:] = -100  # the second worker has two words or fewer in a row
    return tf.nest.map_structure(lambda value: value[index::count], (inputs, labels, WEIGHTS))


def train(case: str, directory: Path, workers) -> tuple[dict, dict]:
    """Trains a case for some steps; returns the weights, and what was measured."""
    import tensorflow as tf

    import tfvl

    head, options = CASES[case]
    with workers.scope(), well_conditioned():
        model = getattr(tfvl, head).from_pretrained(directory / case)
        model.compile(model.default_optimizer(learning_rate=RATE, global_clipnorm=CLIP_NORM, **options))
    dataset = tf.data.Dataset.from_tensors(batch_of(head, *workers.shard))
    measured = model.fit(workers.dataset(dataset.repeat(STEPS)), verbose=0).history
    measured |= {"evaluated": model.evaluate(workers.dataset(dataset), verbose=0)}
    inputs, _, _ = batch_of(head, 0, 2)
    predicted = model.predict_on_batch({name: value[: 1 + workers.index] for name, value in inputs.items()})
    measured |= {"predicted": next(len(value) for value in predicted.values())}
    return {name: variable.numpy() for name, variable in model.weight_names().items()}, measured


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """Processes that train together; as a context manager it ends them all.

    Args:
        arguments: arguments of the Python interpreter.
        logs: a directory for the output of the processes, `<n>.log` for process n.
        count: number of processes.
    """

    def __init__(self, arguments: list, logs: Path, count: int = 2):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self.processes, self.logs = [], [logs / f"{index}.log" for index in range(count)]
        logs.mkdir(exist_ok=True, parents=True)
        paths = os.pathsep.join([str(TESTS), str(ROOT)])
        for index, log in enumerate(self.logs):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = os.environ | {"PYTHONPATH": paths, "TF_CONFIG": json.dumps(config)}
            with open(log, "w") as file:
                command = [sys.executable, *map(str, arguments)]
                self.processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self) -> list[int]:
        """Waits for all processes, and returns their exit codes."""
        end = time.monotonic() + DEADLINE
        return [process.wait(max(1.0, end - time.monotonic())) for process in self.processes]

    def said(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in self.logs)


def run_together(arguments: list, logs: Path, count: int = 2) -> str:
    """Runs a program in all processes, and again if one was taken for lost; returns their output."""
    from tfvl.training.distributed import LOST_WORKER

    for _ in range(STARTS):
        with Cluster(arguments, logs, count) as cluster:
            codes = cluster.wait()
            if LOST_WORKER not in codes:
                break
    assert codes == [0] * count, cluster.said()
    return cluster.said()


def main(directory: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tfvl.training.distributed import WorkerLost, workers

    try:
        here = workers()
        with here.together():
            for case in CASES:
                weights, measured = train(case, directory, here)
                name = f"{case}-{here.index}-{here.count}"
                np.savez(directory / f"{name}.npz", **weights)
                (directory / f"{name}.json").write_text(json.dumps(measured))
    except WorkerLost as lost:
        sys.exit(lost.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
