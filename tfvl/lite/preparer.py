"""`Preparer`: turns requests into the inputs of a `.tflite` file's model, which it does not run."""

import numpy as np

from tfvl.answers.arrays import Row
from tfvl.answers.rows import HEADS, PAIR
from tfvl.lite import inputs
from tfvl.lite.file import LiteFile
from tfvl.lite.image import ImageProcessor
from tfvl.lite.tokenizer import Tokenizer
from tfvl.preprocessing.requests import Takes, requests_of

DTYPES = {"float32": np.dtype(np.float32), "string": np.dtype("S")}


class Preparer:
    """Prepares the inputs of a file: its tokenizer, image processor and sizes.

    Attributes:
        head: the row of the model's head in `tfvl.answers.rows.HEADS`.
        takes: the inputs that go with a text.

    Raises:
        ValueError: the parts do not fit together, or this version of tfvl does not know the head.
    """

    def __init__(self, described: LiteFile):
        self.file = described
        description = described.description
        self.inputs = {name: tuple(spec["shape"]) for name, spec in description["inputs"].items()}
        self.head = HEADS.get(description["head"])
        if self.head is None:
            raise ValueError(f"{described.path} holds a {description['head']}, which this tfvl cannot ask; update tfvl")
        self.image_processor = None
        try:
            self.tokenizer = Tokenizer(described.vocabulary, description["tokenizer"], described.characters)
            if "pixel_values" in self.inputs:
                size = self.inputs["pixel_values"][-3:-1]
                self.image_processor = ImageProcessor(
                    description["image_processor"], None if -1 in size else size, padded="pixel_mask" in self.inputs
                )
            self._check_inputs()
            images = self.inputs["pixel_values"][1] if self.image_processor else PAIR
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{described.path}: {error}") from None
        self.takes = Takes(self.head.reads, images if self.head.several else None)

    def prepare(self, **asked) -> tuple[list[Row], dict[str, list[np.ndarray]]]:
        """Returns the rows that the answers are about, and the model's inputs: under each name, an array for each row.

        Arguments and errors are those of `Runner.__call__`.
        """
        return inputs.prepare(self, requests_of(asked, self.takes, self.file.path))

    @property
    def ids_shape(self) -> tuple[int, ...]:
        """The shape of ids, (batch, [choices,] length), also of those made inside the model; -1 stands for any size."""
        if "input_ids" in self.inputs:
            return self.inputs["input_ids"]
        length = -1 if self.resizable else self.file.description["tokenizer"]["model_max_length"]
        return (*self.inputs["text"], length)

    @property
    def resizable(self) -> bool:
        return any(-1 in shape for shape in self.inputs.values())

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an input."""
        return DTYPES.get(self.file.description["inputs"][name].get("dtype"), np.dtype(np.int32))

    def _check_inputs(self) -> None:
        """Raises ValueError unless the model's inputs are those that its head reads."""
        made_of = {
            "image": "pixel_values" in self.inputs,
            "regions": any(name in self.inputs for name in inputs.FEATURES),
            "boxes": "visual_pos" in self.inputs,
            "choices": len(self.ids_shape) == 3,
            "phrases": "region_to_phrase_position" in self.inputs,
        }
        if {name for name in made_of if made_of[name]} != set(self.head.reads):
            raise ValueError(f"the model's inputs are not those of a {self.file.description['head']}; export it again")
