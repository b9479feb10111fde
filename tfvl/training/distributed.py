"""Training on several machines: each runs a process, started with the same command and its own `TF_CONFIG`."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOST_WORKER = 75  # exit code: EX_TEMPFAIL of sysexits.h, "try again"; nothing else in tfvl ends with it
SHOWN = 160  # a sentence repeats so many characters of TensorFlow's reason
TASKS = ("chief", "worker")
EXAMPLE = '{"cluster": {"worker": ["first:2222", "second:2222"]}, "task": {"type": "worker", "index": 0}}'


class WorkerLost(RuntimeError):  # noqa: N818  # nothing is wrong with this process
    """Another worker is gone, so that the current step fails; all workers start again from the last checkpoint."""

    exit_code = LOST_WORKER


@dataclass(frozen=True)
class Workers:
    """The place of this process among those that train one model together.

    Attributes:
        index: this process's number; 0 is the chief, which alone writes files.
        count: the number of processes.
        strategy: a `tf.distribute` strategy under whose scope the model is made; None if there is only one process.
    """

    index: int = 0
    count: int = 1
    strategy: Any = None

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """The argument `shard` of `BatchPipeline`."""
        return self.index, self.count

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which the model and the optimizer are made, so that all processes share variables."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def dataset(self, dataset):
        """Wraps a dataset of this process's own rows for `fit`, which would otherwise split it among the processes."""
        if self.strategy is None:
            return dataset
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    def agree(self, number: int, what: str) -> None:
        """Waits for all workers, and checks that all of them have the same `number`, which counts `what`.

        Raises:
            ValueError: another worker has another number.
        """
        if self.strategy is None:
            return
        import tensorflow as tf

        own = tf.constant([number, number * number], tf.int64)
        total, squares = self.strategy.reduce("SUM", own, axis=None).numpy().tolist()
        if squares * self.count != total * total:
            raise ValueError(
                f"The workers have different {what}, this one {number}; give all the same files and options."
            )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A context in which TensorFlow's errors about a lost worker become one sentence.

        Raises:
            WorkerLost: a worker is gone. If its whole machine is, TensorFlow notices within a minute, by heartbeats.
        """
        if self.count == 1:
            yield
            return
        import tensorflow as tf

        errors = tf.errors
        gone = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
        try:
            yield
        except (*gone, errors.FailedPreconditionError, errors.InternalError) as error:
            if not isinstance(error, gone) and "ollective" not in str(error):
                raise
            raise WorkerLost(
                f"One of the {self.count} workers is gone ({cause_of(error)}); start the same command again on all "
                "machines, and training goes on from the last checkpoint."
            ) from error


def workers(environment: Mapping[str, str] = os.environ) -> Workers:
    """Joins the processes that `TF_CONFIG` names; returns `Workers()` if it is not set or names one process.

    Call it before anything else of TensorFlow. It waits until all processes are there.

    Raises:
        ValueError: `TF_CONFIG` is not what TensorFlow defines, or names a task that is not in its cluster; or the
            process sees several GPUs.
        WorkerLost: another process died before all had joined.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return Workers()
    index, count = place_of(text)
    if count == 1:
        return Workers()
    import tensorflow as tf

    with Workers(index, count).together():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    devices = strategy.num_replicas_in_sync // count
    if devices > 1:
        raise ValueError(f"This process sees {devices} GPUs; start one for each, with its own CUDA_VISIBLE_DEVICES.")
    return Workers(index, count, strategy)


def cause_of(error: Exception) -> str:
    """Returns what TensorFlow says of a lost worker, without the names of graph nodes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if "aborted by" in line), lines[-1] if lines else type(error).__name__)
    return cause.rpartition("aborted by: ")[2][:SHOWN].rstrip(". :")


def place_of(text: str) -> tuple[int, int]:
    """Returns the number of the process that a `TF_CONFIG` describes, chiefs first, and the number of processes."""
    try:
        config = json.loads(text)
        cluster = {job: list(addresses) for job, addresses in config.get("cluster", {}).items()}
        task = config.get("task", {})
        job, number = task.get("type"), task.get("index")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG is not understood ({error}), expected JSON such as {EXAMPLE}.") from None
    if not cluster:
        return 0, 1
    if job not in TASKS or not cluster.keys() <= set(TASKS):
        raise ValueError(
            f"TF_CONFIG has the task type {job!r} and the jobs {', '.join(cluster)}, expected {' or '.join(TASKS)}: "
            f"training is synchronous, such as {EXAMPLE}."
        )
    if type(number) is not int or not 0 <= number < len(cluster.get(job, ())):
        raise ValueError(
            f"TF_CONFIG has the task index {number!r}, but the cluster has {len(cluster.get(job, ()))} of type {job}; "
            "expected the number of this process's address in it, from 0 on."
        )
    before = len(cluster.get("chief", ())) if job == "worker" else 0
    return before + number, sum(map(len, cluster.values()))
