"""`Runner`: answers questions from one `.tflite` file, as the Keras model and its processor do."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.answers.arrays import answer
from tfvl.answers.rows import Words
from tfvl.lite import file
from tfvl.lite.compiled import Compiled
from tfvl.lite.preparer import Preparer
from tfvl.lite.runtime import Interpreter

MAX_THREADS = 256
KINDS = {"S": "SO"}  # kinds of dtypes that are accepted for an input's kind: bytes may be objects


class Runner(Preparer):
    """A `.tflite` file that `tfvl.export.lite` wrote, with all that is in it: tokenizer, image processor, labels.

        runner = tfvl.lite.Runner("vilt_vqa.tflite")
        runner(images=["cats.jpg"], text=["how many cats?"])  # [{"answers": ["2", …], "scores": array([0.9, …])}]

    Ids and pixels are those of `BertTokenizer` and `ViltImageProcessor`, to the bit. If `ai-edge-litert` is installed,
    TensorFlow is imported only for files of the flavour `text`, whose operations are in tf.text; they are called in the
    same way. Threads may share a runner; the model then runs for one after the other.

    Args:
        path: the file.
        threads: number of CPU threads; None: one for each core, at most four.
        runtime: "litert" (ai-edge-litert) or "tensorflow"; None: the first of them that is installed.
        top_k: the most answers of a row; None: as the file was exported.
        warm: run the model once on blanks, so that the first request does not wait for that.
        weight_cache: a directory for XNNPACK's weight cache, made at the first start and mapped at every later one:
            half the loading time, and the weights are in memory once for all processes (see
            `tfvl.lite.weight_cache`). For files of fixed sizes, with ai-edge-litert.

    Attributes:
        file: the archive behind the model (`tfvl.lite.file.LiteFile`).
        inputs: the shapes of the model's inputs by name; -1 stands for any size.
        runtime: the runtime in use.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a `.tflite` file of tfvl, is damaged, no runtime is installed, the file or the runtime
            cannot have a weight cache, or an option has an impossible value.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        threads: int | None = None,
        runtime: str | None = None,
        top_k: int | None = None,
        warm: bool = True,
        weight_cache: str | os.PathLike | None = None,
    ):
        threads = min(os.cpu_count() or 1, 4) if threads is None else threads
        if not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads is {threads!r}, expected a whole number from 1 to {MAX_THREADS}")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k is {top_k!r}, expected a whole number from 1 on")
        super().__init__(file.read(Path(path)))
        self.words = Words(
            self.file.labels,
            self.tokenizer.tokens,
            self.tokenizer.mask_token,
            self.tokenizer.mask_id,
            self.file.description["top_k"] if top_k is None else top_k,
        )
        self._lock = threading.Lock()
        self._interpreter = self._loaded(self.file.flavour, threads, runtime, weight_cache)
        self.runtime = self._interpreter.runtime
        if not self._interpreter.takes(self.inputs):
            raise ValueError(f"{path}: the model's inputs are others than its description says; export it again")
        if warm and not self.resizable:
            self.run({name: np.zeros(shape, self.dtype(name)) for name, shape in self.inputs.items()})

    def _loaded(
        self, signature: str, threads: int, runtime: str | None, weight_cache: str | os.PathLike | None
    ) -> Interpreter | Compiled:
        if weight_cache is None:
            return Interpreter(self.file.path, signature, threads, runtime)
        if runtime == "tensorflow":
            raise ValueError("TensorFlow's runtime has no weight cache; leave runtime or weight_cache out")
        if signature != "tensors" or self.resizable:
            kind = "of any size" if self.resizable else f"of the flavour {signature}"
            raise ValueError(
                f"{self.file.path} is a file {kind}, which LiteRT's CompiledModel cannot run, so that it has no weight "
                "cache; leave weight_cache out"
            )
        return Compiled(self.file.path, signature, threads, Path(weight_cache))

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        regions: Any = None,
        boxes: Any = None,
        choices: Sequence[Sequence[str]] | None = None,
        phrases: Sequence[Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Asks a text about each image; returns a row for each.

        Args:
            images: for ViLT, one image or a list: encoded bytes, paths, PIL images or arrays; for a head that takes
                several with a text, a list of lists.
            text: one text, or one for each image. One text goes with every image, one image with every text.
            regions: for VisualBERT and LXMERT, in place of images: for each a `tfvl.Regions`, an array (regions,
                size), or the path of an `.npz` or `.npy`; for pairs, a list of lists of two.
            boxes: (regions, 4) for each array of regions, for LXMERT.
            choices: texts to choose from, for each text.
            phrases: the phrases of each text whose regions are asked for.

        Returns:
            For each row a dict as the SavedModel's `serving_default` gives: `answers` and `scores`, best first, or
            what else the head answers (`tfvl.answers.rows.KINDS`).

        Raises:
            ValueError: an input cannot be used, or does not fit the file's sizes, which the message then says.
        """
        visual = {"images": images, "regions": regions, "boxes": boxes}
        rows, inputs = self.prepare(text=text, choices=choices, phrases=phrases, **visual)
        outputs = self.outputs(inputs)
        try:
            return [
                answer(self.head, {name: value[number] for name, value in each.items()}, row, self.words)
                for row, each, number in zip(rows, *outputs, strict=True)
            ]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.file.path}: the model's outputs do not fit its head or labels ({error!r})"
            ) from None

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the bare model: maps the signature's inputs to its outputs, by name.

        Raises:
            ValueError: an input is missing, unknown, or of another shape or type than the file's; or the model cannot
                run on it, for example on an id outside the vocabulary.
        """
        if inputs.keys() != self.inputs.keys():
            raise ValueError(
                f"{self.file.path} takes {', '.join(sorted(self.inputs))}, got {', '.join(sorted(inputs)) or 'nothing'}"
            )
        arrays = {}
        for name, shape in self.inputs.items():
            array, dtype = np.asarray(inputs[name]), self.dtype(name)
            fits = array.ndim == len(shape) and all(e in (-1, g) for e, g in zip(shape, array.shape, strict=True))
            if not fits or array.dtype.kind not in KINDS.get(dtype.kind, dtype.kind):
                sizes = ", ".join("any" if size == -1 else str(size) for size in shape)
                raise ValueError(f"{name} is {array.dtype} {array.shape}, but the file takes {dtype} ({sizes})")
            arrays[name] = np.ascontiguousarray(array, dtype)
        with self._lock:  # an interpreter has one set of buffers
            return self._interpreter(arrays)

    def outputs(self, prepared: dict[str, list[np.ndarray]]) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        """Runs the model on as many rows at once as the file takes.

        Returns each row's outputs and its index in them.
        """
        found, places = [], []
        count = len(next(iter(prepared.values())))
        batch = max(self.ids_shape[0], 1)
        for start in range(0, count, batch):
            if self.resizable:
                inputs = {name: value[start][None] for name, value in prepared.items()}
            else:
                taken = [min(start + i, count - 1) for i in range(batch)]  # copies of the last row fill the batch
                inputs = {name: np.stack([value[i] for i in taken]) for name, value in prepared.items()}
            outputs = self.run(inputs)
            rows = min(batch, count - start)
            found += [outputs] * rows
            places += range(rows)
        return found, places
