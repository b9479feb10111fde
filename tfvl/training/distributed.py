"""Training on several machines: one process on each, started with the same command and its own `TF_CONFIG`."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOST_WORKER = 75  # exit code: EX_TEMPFAIL of sysexits.h, "try again"; nothing else in tfvl ends with it
SHOWN = 160  # characters of TensorFlow's reason
TASKS = ("chief", "worker")
EXAMPLE = '{"cluster": {"worker": ["first:2222", "second:2222"]}, "task": {"type": "worker", "index": 0}}'


class WorkerLost(RuntimeError):  # noqa: N818  # not an error of anybody's here
    """Another worker is gone, and with it the step that all were in; all start again from the last checkpoint."""

    exit_code = LOST_WORKER


@dataclass(frozen=True)
class Workers:
    """This process among those that train one model.

    Attributes:
        index: its number; 0 is the chief, which alone writes files.
        count: how many there are.
        strategy: a `tf.distribute` strategy under whose scope the model is made; None for one process alone.
    """

    index: int = 0
    count: int = 1
    strategy: Any = None

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """What `BatchPipeline(shard=…)` takes."""
        return self.index, self.count

    def scope(self) -> contextlib.AbstractContextManager:
        """Where the model and the optimizer are made: variables that all processes keep the same."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def dataset(self, dataset):
        """A dataset of this process's own rows, as `fit` takes it; without this, `fit` would share it out again."""
        if self.strategy is None:
            return dataset
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    def agree(self, number: int, what: str) -> None:
        """Waits for all workers, and makes sure that they are about to do the same.

        Raises:
            ValueError: they have another number; the sentence says of what.
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
        """Turns what TensorFlow raises where another worker dies into one sentence.

        Raises:
            WorkerLost: a worker is gone. Where its machine is, TensorFlow notices by heartbeats, within a minute.
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
    """The process's place by `TF_CONFIG`; `Workers()` where that is not set or names one process.

    Call it before anything else of TensorFlow. It waits until all processes are there.

    Raises:
        ValueError: `TF_CONFIG` is not what TensorFlow defines, or names a task that is not in its cluster; or the
            process sees several GPUs.
        WorkerLost: another process died while all were waited for.
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
    """What TensorFlow says of a lost worker, without the places in the graph."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if "aborted by" in line), lines[-1] if lines else type(error).__name__)
    return cause.rpartition("aborted by: ")[2][:SHOWN].rstrip(". :")


def place_of(text: str) -> tuple[int, int]:
    """The number of the process that a `TF_CONFIG` describes, chiefs first, and how many there are."""
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
