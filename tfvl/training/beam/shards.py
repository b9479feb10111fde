"""Maps a function over the shards of a data set, on the workers of any Apache Beam runner.

There is one pipeline for everything: the numbers of the shards, a reshuffle that spreads them over the workers, and one
step that works on a shard. The step has no outputs. The records of a shard, and its result, are files in a directory
that the command and its workers share. Thus the pipeline needs nothing that runners do differently: Beam's
DaskRunner, for one, merges tagged outputs, drops what `finish_bundle` emits, runs only the last step and those before
it, has no metrics, and hashes string keys differently in each process.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import socket
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from tfvl.files.tfrecord import framed, read_records
from tfvl.training.beam.directories import join, local_file, new_files, remove, write_json

SHARED = ".shards"  # the directory that the command and its workers share, inside the one that they write
DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"  # Beam does not find it by its short name
BUFFERED_RECORDS = 10_000
RECORDS, RESULT = "{:05d}.tfrecord", "{:05d}.json"

Work = Callable[[int, list[bytes]], Any]


class Task(ABC):
    """The work that is done on every shard. It is pickled, and each worker process opens it once for each run."""

    @abstractmethod
    def open(self) -> Work:
        """Loads what all shards need and returns the function from (number of the shard, records) to a JSON value.

        Several threads may call the function. Both may raise ValueError, whose sentence the user reads.
        """


class Mapped(NamedTuple):
    """A task's results, in the order of the shards, and how many shards each worker ("host:process id") did."""

    values: list[Any]
    workers: Counter[str]


def shard_of(name: str, shards: int) -> int:
    """Returns the number of the shard that a name belongs to; it is the same in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def map_shards(task: Task, records: Iterable[tuple[int, bytes]], directory: str, flags: Iterable[str]) -> Mapped:
    """Runs a task on every shard that has records.

    Args:
        task: the work to do on each.
        records: pairs of (number of the shard, record); each shard gets its records in this order.
        directory: the directory that the command and the workers write into, under the same path.
        flags: options of Beam, such as `--runner FlinkRunner`.

    Raises:
        ValueError: the task raised it for a shard, or a worker does not see the directory.
    """
    shared = join(directory, SHARED)
    try:
        shards = write_shards(shared, records)
        run_pipeline(Job(uuid.uuid4().hex, shared, task), shards, flags)
        results = [read_result(shared, shard) for shard in shards]
    finally:
        remove(shared)
    for result in results:
        if "refused" in result:
            raise ValueError(result["refused"])
    return Mapped([result["value"] for result in results], Counter(result["worker"] for result in results))


def write_shards(directory: str, records: Iterable[tuple[int, bytes]], name: str = RECORDS) -> list[int]:
    """Writes each shard's records as a TFRecord file, and returns the numbers of the shards that have any.

    Args:
        directory: the directory for the files.
        records: pairs of (number of the shard, record).
        name: format of the files' names, with a place for the number of the shard.
    """
    records, used = iter(records), set()
    with new_files(directory) as local:
        while some := list(itertools.islice(records, BUFFERED_RECORDS)):
            by_shard: dict[int, list[bytes]] = {}
            for shard, record in some:
                by_shard.setdefault(shard, []).append(framed(record))
            for shard, frames in by_shard.items():
                with open(local / name.format(shard), "ab") as file:
                    file.writelines(frames)
            used |= by_shard.keys()
    return sorted(used)


def run_pipeline(job: "Job", shards: list[int], flags: Iterable[str]) -> None:
    """Runs the pipeline to its end, on the runner that the flags name."""
    pipeline = beam.Pipeline(options=beam_options(flags))
    _ = pipeline | beam.Create(shards) | beam.Reshuffle() | beam.ParDo(RunShard(job))
    result = pipeline.run()
    try:
        result.wait_until_finish()
    finally:
        if hasattr(result, "client"):  # Dask's, which Beam leaves open
            result.client.close()


def beam_options(flags: Iterable[str]) -> PipelineOptions:
    """Returns Beam's options; gives `--runner DaskRunner` its full name, and a task for every shard.

    Raises:
        ValueError: Beam does not know a flag. Runners behind a job server (Flink, Spark) have flags that only the
            server knows, and are not checked.
    """
    flags = [*flags]
    with without_warnings():
        runner = (PipelineOptions(flags).view_as(StandardOptions).runner or "").rpartition(".")[2].lower()
        if runner.removesuffix("runner") == "dask":
            import apache_beam.runners.dask.dask_runner  # noqa: F401  # declares the flags --dask_…

            flags.append(f"--runner={DASK}")
            if not any(flag.startswith(("--dask_npartitions", "--dask_partition_size")) for flag in flags):
                flags.append("--dask_partition_size=1")  # Beam's choice is 128: one worker would get everything
        options = PipelineOptions(flags)
        unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    if unknown and runner.removesuffix("runner") in ("", "direct", "dask", "dataflow"):
        raise ValueError(f"neither tfvl nor Apache Beam knows {', '.join(f'--{name}' for name in sorted(unknown))}.")
    return options


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silences Beam's log while options are read, since it warns that it discards the flags of every runner."""
    logger = logging.getLogger("apache_beam.options.pipeline_options")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class Job:
    """A run of a task; two are equal if they are the same run, whichever process has unpickled them."""

    run: str
    directory: str
    task: Task = field(compare=False)


@functools.lru_cache(maxsize=1)
def opened(job: Job) -> Work:
    """Opens the task of a run, once in each worker process, even if the runner makes a new step for every shard."""
    return job.task.open()


class RunShard(beam.DoFn):
    """The step of the pipeline, which works on a shard and writes its result."""

    def __init__(self, job: Job):
        self.job = job

    def process(self, shard: int) -> None:
        directory = self.job.directory
        try:
            work = opened(self.job)
            with local_file(directory, RECORDS.format(shard)) as path:
                records = list(read_records(path))
            result = {"value": work(shard, records)}
            Metrics.counter("tfvl", "records done").inc(len(records))
        except ValueError as error:  # the same sentence from every runner, and no second try
            result = {"refused": str(error)}
        worker = f"{socket.gethostname()}:{os.getpid()}"
        write_json(directory, RESULT.format(shard), result | {"worker": worker})


def read_result(directory: str, shard: int) -> dict:
    """Reads the result of a shard. Raises ValueError if no worker has written it."""
    try:
        with local_file(directory, RESULT.format(shard)) as path:
            return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"no worker has written the result of shard {shard} into {directory}; workers must see this directory "
            "under the same path."
        ) from None
