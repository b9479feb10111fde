"""Writes the record of a run: `history.csv`, TensorBoard's events, and a picture of the curves."""

import csv
import io
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfvl.files.whole import write_text, written_files

FIRST = ("step", "epoch", "seconds", "learning_rate", "loss")  # columns; the metrics follow
Row = dict[str, float]


class History:
    """Writes a row for each step into `history.csv` and TensorBoard's log directory, none of them twice.

    Args:
        out: the run's directory.
        rows: the rows in the checkpoint from which training goes on; later ones in the files are dropped.
    """

    def __init__(self, out: Path, rows: Sequence[Row] = ()):
        self.path, self.rows = out / "history.csv", [dict(row) for row in rows]
        self._write()
        self.events = Events(out / "logs", int(self.rows[-1]["step"]) if self.rows else 0)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._write()
        self.events.add(int(row["step"]), {name: value for name, value in row.items() if name not in FIRST[:3]})

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Returns the steps that have a value in a column, and these values."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]

    def names(self) -> list[str]:
        return list(dict.fromkeys([*FIRST, *(name for row in self.rows for name in row)]))

    def close(self) -> None:
        self.events.close()

    def _write(self) -> None:
        file = io.StringIO()
        writer = csv.DictWriter(file, self.names(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, file.getvalue())


class Events:
    """Writes scalars for TensorBoard, which need not be installed.

    Args:
        directory: the run's log directory; the log files in it are merged into one, without events after `step`.
        step: the last step whose events are kept.
    """

    def __init__(self, directory: Path, step: int):
        old = sorted(directory.glob("events.out.tfevents.*"))
        found = (event for path in old for event in _events(path))
        kept = {event.step: event for event in found if event.step <= step and event.summary.value}
        path = directory / f"events.out.tfevents.{int(time.time())}.tfvl.{os.getpid()}"
        version = tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")
        with written_files(path) as (new,):
            self._writer = tf.io.TFRecordWriter(str(new))  # the writer keeps writing to the file after it is renamed
            for event in (version, *kept.values()):
                self._writer.write(event.SerializeToString())
            self._writer.flush()
        for each in old:
            each.unlink()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = tf.compat.v1.Event(wall_time=time.time(), step=step, summary=tf.compat.v1.Summary(value=scalars))
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _events(path: Path) -> list[Any]:
    """Reads the events of a file, up to where a killed process stopped writing."""
    events = []
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            events.append(tf.compat.v1.Event.FromString(record.numpy()))
    except tf.errors.DataLossError:
        pass
    return events


def draw_curves(history: History, metric: str, path: Path) -> bool:
    """Draws loss, metric and learning rate over the steps as a PNG; warns and returns False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        warnings.warn(f"{path.name} is not drawn: matplotlib is missing (pip install matplotlib).", stacklevel=2)
        return False
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), dpi=80, layout="constrained")
    names = [name for name in ("loss", metric, "learning_rate") if history.column(name)[0]]
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), number)
        axes.plot(*history.column(name), linewidth=1.2, marker="o" if name == metric else None, markersize=3)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    with written_files(path) as (new,):
        figure.savefig(new)
    return True
