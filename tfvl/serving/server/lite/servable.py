"""Serves `.tflite` files in the embedded server, with the signatures of a SavedModel of the same checkpoint."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from tfvl.answers.arrays import Row, answer
from tfvl.lite import Runner
from tfvl.serving.client.errors import invalid
from tfvl.serving.server.batching import joined
from tfvl.serving.server.directories import lite_files
from tfvl.serving.server.lite import rows as lite_rows
from tfvl.serving.server.lite import signatures as lite_signatures
from tfvl.serving.server.servable import DEFAULT_SIGNATURE, Servable, Tensors

MAX_WORDS = 200  # characters of TFLite's messages, which also repeat all earlier errors


def missing(version: Path) -> str:
    """Returns what a version lacks of one whole `.tflite` file; "" if nothing."""
    files = lite_files(version)
    if len(files) != 1:
        return f"one .tflite file is expected, found {', '.join(file.name for file in files)}"
    return "" if files[0].stat().st_size else f"{files[0].name} is empty"


def load(version: Path, threads: int | None = None) -> Servable:
    """Loads a file and runs it once, which warms it up; raises what `Runner` and `LiteModel` raise."""
    (path,) = lite_files(version)
    # The interpreter maps its file, and the process would die if that were overwritten. So it gets a copy, which has no
    # name any more once it is mapped.
    with tempfile.TemporaryDirectory(prefix="tfvl-serve-") as directory:
        copy = Path(shutil.copy(path, directory))
        try:
            model = LiteModel(Runner(copy, threads=threads, warm=False))
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), str(path))) from None
    return Servable(model.signatures, model.run, model.close, max_rows=model.batch)


class LiteModel:
    """Runs a `.tflite` file behind two signatures: raw requests to answers, and the bare model.

    There is one interpreter with all threads, not one for each core: a single request is answered sooner, the weights,
    which XNNPACK packs anew for each interpreter, are in memory once, and under load the matrix products keep the few
    cores of a small machine busy just as well. Texts and images are prepared outside of the runner's lock, so that with
    `--batch-threads 2` one request is prepared while another runs.

    Attributes:
        batch: the number of rows that one call of the model takes.

    Raises:
        RequestError, ValueError: the model cannot run, has nothing to answer, or does not fit its description.
    """

    def __init__(self, runner: Runner):
        self._runner = runner
        self._layout = lite_rows.Layout(lite_signatures.outputs_of(runner), lite_signatures.axis_sizes(runner))
        bare = lite_signatures.bare_signature(runner)
        self._bare_outputs = bare.outputs
        self._runs = {DEFAULT_SIGNATURE: self.answers, runner.file.flavour: self.bare}
        self.signatures = {
            DEFAULT_SIGNATURE: lite_signatures.default_signature(runner),
            runner.file.flavour: bare,
        }
        self.batch = max(runner.ids_shape[0], 1)
        try:
            self.answers(lite_signatures.example(runner))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"{runner.file.path}: the model's outputs do not fit its description ({error!r})"
            ) from None

    def run(self, name: str, inputs: Tensors, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Runs a signature; arguments and result are those of `Servable.run`."""
        results = self._runs[name](inputs)
        return {key: results[key] for key in outputs}

    def close(self) -> None:
        """Frees the interpreter and its memory."""
        self._runner = self._runs = None

    def bare(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Runs the bare model. Raises RequestError for values that it cannot take, such as ids beyond a vocabulary."""
        count = len(next(iter(inputs.values())))
        if not count:
            shapes = {name: info.tensor_shape.dim[1:] for name, info in self._bare_outputs.items()}
            return {
                name: np.zeros([0, *(max(axis.size, 0) for axis in axes)], np.float32) for name, axes in shapes.items()
            }
        lite_rows.check_ids(inputs, self._runner.file.config)
        found, places = self._outputs({name: list(value) for name, value in inputs.items()})
        return {
            name: np.stack([each[name][place] for each, place in zip(found, places, strict=True)]) for name in found[0]
        }

    def answers(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Answers raw requests, with a status for each row; a bad row does not keep the others from an answer."""
        count = len(inputs["text"])
        requests = [lite_rows.request(inputs, row) for row in range(count)]
        statuses, prepared = [request.status for request in requests], {}
        for row, request in enumerate(requests):
            if not statuses[row]:
                try:
                    prepared[row] = self._runner.prepare(**request.asked)
                except ValueError as error:
                    statuses[row] = lite_rows.sentence(error)
        answered = self._answered(prepared)
        results = []
        for row, (request, status) in enumerate(zip(requests, statuses, strict=True)):
            said = answered.get(row)
            if isinstance(said, ValueError):
                said, status = None, lite_rows.sentence(said)
            results.append(self._layout.row(said, request, status))
        results = results or [self._layout.row(None, lite_rows.RowRequest(widths=lite_rows.widths_of(inputs)), "")]
        return {name: joined([each[name] for each in results])[:count] for name in results[0]}

    def _answered(self, prepared: dict[int, tuple[list[Row], dict]]) -> dict[int, dict | ValueError]:
        """Returns the head's answer to each prepared row, or the error that says why there is none."""
        if not prepared:
            return {}
        rows, arrays = zip(*prepared.values(), strict=True)
        found, places = self._outputs({name: [each[name][0] for each in arrays] for name in arrays[0]})
        said: dict[int, dict | ValueError] = {}
        for number, (row,), outputs, place in zip(prepared, rows, found, places, strict=True):
            try:
                of_row = {name: value[place] for name, value in outputs.items()}
                said[number] = answer(self._runner.head, of_row, row, self._runner.words)
            except ValueError as error:  # e.g. the text has no [MASK] to fill
                said[number] = error
        return said

    def _outputs(self, prepared: dict[str, list[np.ndarray]]) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        """Returns `Runner.outputs` of the prepared rows; only one thread at a time runs the model."""
        try:
            return self._runner.outputs(prepared)
        except (RuntimeError, ValueError) as error:
            raise invalid(f"the model cannot run on this: {' '.join(str(error).split())[:MAX_WORDS]}") from None
