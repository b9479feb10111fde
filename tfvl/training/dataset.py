"""`tfvl.dataset`, which turns rows in memory, such as a notebook's, into batches for `model.fit`."""

import functools
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfvl.preprocessing.regions.regions import Regions
from tfvl.training.data.loading import Pictures, StoredRegions
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan
from tfvl.training.data.tables import column_name
from tfvl.training.tasks.own import EVERYTHING, OWN, Columns, own_task
from tfvl.training.tasks.table import TASKS

MAX_CACHED_BYTES = 1 << 28  # for decoded images


def dataset(
    rows,
    model,
    processor,
    batch_size: int = 8,
    *,
    columns: Mapping[str, str] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    strict: bool = False,
):
    """Turns rows of your own into a dataset that `model.fit` and `model.evaluate` take.

    Args:
        rows: a list of dicts, a pandas frame, or a `Dataset` of Hugging Face's `datasets`, with the columns `image`,
            `question` and `answer` (or `answers`, a list) for question answering; `image`, `image2`, `sentence`,
            `label` for `ViltForImagesAndTextClassification` and `VisualBertForVisualReasoning`; `image`, `caption` for
            retrieval and pre-training; `image`, `text`, `labels` for token classification. An image is a path,
            encoded bytes, a PIL image or an array. VisualBERT and LXMERT need `tfvl.Regions` instead, or a processor
            with a detector, which finds the regions in such an image.
        model: a model with a head; the answers are those of its `config.label2id`.
        processor: the model's processor.
        batch_size: rows in a batch; the last batch may have fewer.
        columns: your names of the columns, a dict with keys among "image", "image2", "question" (the text) and
            "answer" (the label).
        shuffle: whether each epoch has another order of the rows.
        seed: seeds the order, and the masks and negatives of pre-training.
        strict: whether the first row that cannot be used is an error; else a warning counts such rows.

    Returns:
        A `tf.data.Dataset` of (inputs, labels, weights): the processor's dict, labels in the form that the model's own
        loss takes, and float32 weights (batch,), which are 0 for rows whose image cannot be read.

    Raises:
        ValueError: no row can be used, columns are missing, or there is no way to read rows for the model's head.
    """
    name = next((name for name, own in OWN.items() if type(model).__name__ in TASKS[name].models), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} has no head that rows are read for; {', '.join(OWN)} are.")
    table = Rows(rows)
    named: dict[str, Any] = dict(columns or {})
    task = own_task(name, table, Columns(**named, share=0.0))
    found = task.found_columns()
    table.image_columns = tuple(found[part] for part in ("image", "image2") if part in found)
    visual = RowPictures(table, processor) if processor.sees == "images" else RowRegions(table, processor)
    labels = model.config.label2id
    examples = task.examples("", EVERYTHING, images=visual, label2id=labels if task.answers else None, strict=strict)
    if examples.report.counts:
        warnings.warn(f"{examples.report}; {' '.join(examples.report.sentences)}", stacklevel=2)
    loader = task.loader(type(model), examples, visual, processor, labels, seed=seed)
    plan = BatchPlan(len(examples), batch_size, seed=seed, shuffle=shuffle, drop_remainder=False)
    return BatchPipeline(loader, plan).next_epoch()


class Rows:
    """Rows in memory, with the methods of a table of a file; an image is named "column:number" after its cell.

    Attributes:
        image_columns: names of the columns that hold images.
    """

    name, naming = "the list of rows", "columns={{{!r}: …}}"
    files = ((Path("rows"), ""),)

    def __init__(self, rows):
        if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas frame
            rows = rows.to_dict("records")
        if hasattr(rows, "column_names") and not isinstance(rows.column_names, list):
            raise ValueError("there are several splits of rows; give one of them, such as rows['train'].")
        if not len(rows):
            raise ValueError("there are no rows.")
        self._rows = rows
        self.image_columns: tuple[str, ...] = ()
        names = rows.column_names if hasattr(rows, "column_names") else {name: None for row in rows for name in row}
        self._names = {column_name(name): name for name in names}
        self.columns = tuple(self._names)

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        texts = self._rows
        if hasattr(texts, "remove_columns"):  # else `datasets` would decode images of which only the names are needed
            texts = texts.remove_columns([self._names[column] for column in self.image_columns])
        for number, row in enumerate(texts):
            images = {column: f"{column}:{number}" for column in self.image_columns}
            yield f"row {number}", "", {column_name(name): value for name, value in row.items()} | images

    def __contains__(self, name: str) -> bool:
        column, _, number = name.rpartition(":")
        if hasattr(self._rows, "remove_columns"):
            return True
        image = self._rows[int(number)].get(self._names[column])
        return os.path.isfile(image) if isinstance(image, (str, os.PathLike)) else image is not None

    def read(self, name: str, limit: int = -1) -> Any:
        """Returns the image as it was given. Raises ValueError if the cell is empty."""
        column, _, number = name.rpartition(":")
        image = self._rows[int(number)][self._names[column]]
        if isinstance(image, Mapping) and not {"bytes", "path"} - image.keys():  # as `datasets` keep it undecoded
            image = image["path"] if image["bytes"] is None else image["bytes"]
        if image is None:
            raise ValueError(f"row {number} has no image")
        return image


class RowPictures(Pictures):
    """Reads the images of rows, for ViLT."""

    def __init__(self, rows: Rows, processor):
        super().__init__(rows, processor.image_processor, MAX_CACHED_BYTES)


class RowRegions(StoredRegions):
    """Reads the regions of rows for VisualBERT and LXMERT, or has the processor's detector find them."""

    def __init__(self, rows: Rows, processor):
        super().__init__(rows, processor, cache_bytes=MAX_CACHED_BYTES)

    @functools.cached_property
    def feature_size(self) -> int:
        return self.processor.feature_size or self._read(f"{self.store.image_columns[0]}:0").features.shape[1]

    def _read(self, name: str) -> Regions:
        image = self.store.read(name)
        if not isinstance(image, Regions):
            if self.processor.detector is None:
                raise ValueError("it is no tfvl.Regions, and the processor has no detector that finds them")
            (image,) = self.processor.detector.regions([image], [name])
        if not len(image):
            raise ValueError("it has no regions")
        return image

    def _id(self, name: str) -> str:
        return name
