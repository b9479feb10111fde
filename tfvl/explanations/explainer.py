"""`Explainer`, which explains the answers to requests by one method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvl.answers import arrays
from tfvl.answers.rows import HEADS, PAIR, Head, Words, head_name
from tfvl.explanations.alignment import alignment
from tfvl.explanations.chosen import PHRASES, choose
from tfvl.explanations.explanation import Explanation
from tfvl.explanations.occlusion import occlusion
from tfvl.explanations.scores import OF_MAPS, own_grid, scores_of_maps
from tfvl.preprocessing.image.decode import to_levels
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request, Takes, is_whole_number
from tfvl.preprocessing.text.phrases import locate, tokens_of
from tfvl.preprocessing.visuals import MAX_PIXELS
from tfvl.processors.base import Processor

METHODS = (*OF_MAPS, "occlusion", "alignment")
ANSWERS = 3  # answers that a picture shows


@dataclass
class Explainer:
    """Explains a model's answers by one method. Arguments and errors are those of `explain`."""

    model: Any
    processor: Any
    method: str
    layer: int = -1
    attention_head: int | None = None

    def __post_init__(self):
        name = head_name(type(self.model))
        if name is None or not isinstance(self.processor, Processor):
            got = f"{type(self.model).__name__} and {type(self.processor).__name__}"
            raise ValueError(f"explain takes a model of tfvl whose head answers, and its processor, got {got}")
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"the Keras backend is {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow to explain"
            )
        self.name, self.head = type(self.model).__name__, HEADS[name]
        self.check_method(methods_of(self.model, self.head))
        self.patch = getattr(self.model.config, "patch_shape", None)
        self.answers_questions = getattr(self.model, "answer_head", None) is not None  # in pre-training
        tokenizer = self.processor.tokenizer
        self.special = set(tokenizer.all_special_ids)
        self.words = Words(
            self.model.config.answer_names,
            tokens_of(tokenizer),
            tokenizer.mask_token,
            tokenizer.mask_token_id,
            ANSWERS,
        )

    def check_method(self, possible: tuple[str, ...]) -> None:
        """Raises ValueError if the method is not one of those that are possible."""
        if not possible:
            raise ValueError(f"{self.name} has no head that answers, so that there is nothing to explain")
        if self.method not in possible:
            raise ValueError(f"method is {self.method!r}, but {self.name} can be explained by {', '.join(possible)}")

    def takes(self, visual: str) -> Takes:
        """Returns the inputs that the model takes if "images", or "regions", are given."""
        reads = self.head.reads
        seen = ("regions", "boxes") if visual == "regions" and "regions" in reads else ("image",)
        images = self.model.config.num_images if self.processor.sees == "images" else PAIR
        more = [name for name in reads if name in ("choices", "phrases")]
        return Takes((*seen, *more), images if self.head.several else None)

    def __call__(self, request: Request, target: Any, word: str | int | None) -> Explanation:
        regions = self.regions_of(request)
        inputs = {name: tf.constant(value) for name, value in self.inputs_of(request, regions).items()}
        ids = inputs["input_ids"].numpy()[0]
        place = self.place_of(word, request, inputs)
        names = self.names(request, ids, regions)
        number = self.number_of(target, names)
        found = getattr(self, self.method, None)
        chosen, scores, outputs = (found or self.of_maps)(inputs, number, place, word)
        answer = int(chosen.answer[0])
        real = inputs["attention_mask"].numpy()[0] > 0  # `.tflite` files keep padding
        ids, real = (each[answer] if each.ndim == 2 else each for each in (ids, real))
        ids, numbers = ids[real], {name: np.asarray(value)[0] for name, value in scores.items()}
        if "region_scores" in numbers:
            numbers["region_scores"] = numbers["region_scores"][inputs["visual_attention_mask"].numpy()[0] > 0]
        return Explanation(
            text=request.text,
            method=self.method,
            answer=names[answer],
            score=float(chosen.score[0]),
            tokens=[self.words.tokens.get(int(each), "") for each in ids],
            token_scores=numbers["token_scores"][real].astype(np.float32),
            **self.of_patches(numbers),
            region_scores=numbers.get("region_scores"),
            answers=self.answers(outputs, request, ids, regions),
            images=[] if isinstance(request.visuals[0], Regions) else self.levels(request),
            regions=regions,
            seen=self.seen(inputs),
        )

    # --- inputs -------------------------------------------------------------------------------------------------------

    def regions_of(self, request: Request) -> list[Regions]:
        """Returns the regions of a request's images, which are given or found by the detector."""
        if self.processor.sees == "images":
            return []
        visuals = list(request.visuals)
        if isinstance(visuals[0], Regions):
            return visuals
        if self.processor.detector is None:
            self.processor.detect(visuals)  # raises, since there is no detector
        return self.processor.detector.regions(visuals)

    def inputs_of(self, request: Request, regions: list[Regions]) -> dict[str, tf.Tensor]:
        """Returns the model's inputs for a request, one row without padding."""
        text: dict[str, list] = {"text": [request.text]}
        if request.choices:
            text["text_pair"] = [list(request.choices)]
        seen = regions or list(request.visuals)
        rows = [seen] if self.head.several else seen
        inputs = self.processor(**text, **({"regions": rows} if regions else {"images": rows}))
        if request.phrases:
            inputs[PHRASES] = self.located(request.phrases, inputs)
        return inputs

    def located(self, phrases: Sequence[str], inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Finds the last token of each phrase, int32 (1, phrases). Raises ValueError for a phrase not in the text."""
        tokenizer = self.processor.tokenizer
        places = locate(tf.constant([list(phrases)]), inputs, tokenizer, tokenizer.model_max_length)
        for phrase, place in zip(phrases, places.numpy()[0], strict=True):
            if place < 0:
                raise ValueError(f"{phrase!r} is not in the text, or beyond the model's length")
        return places

    def place_of(self, word: str | int | None, request: Request, inputs: Mapping[str, tf.Tensor]) -> int:
        """Returns the index of the token, mask or phrase that is asked about; -1: the first.

        Raises ValueError if there is no such one.
        """
        if word is None:
            return -1
        if self.head.kind == "phrases":
            if word not in (*request.phrases, *range(len(request.phrases))):
                raise ValueError(f"word is {word!r}, expected one of the phrases, {', '.join(request.phrases)}")
            return word if isinstance(word, int) else list(request.phrases).index(word)
        if self.head.kind not in ("tokens", "masks", "pretraining") and self.method != "alignment":
            raise ValueError(f"{self.name} gives one answer to a text, not one to a word; leave word out")
        first = self.pieces(word, inputs)[0]
        of_mask = self.head.kind in ("masks", "pretraining") and self.method != "alignment"
        if of_mask and int(inputs["input_ids"][0, first]) != self.words.mask_id:
            raise ValueError(f"word is {word!r}, expected {self.words.mask_token} or the place of one")
        return first

    def pieces(self, word: str | int, inputs: Mapping[str, tf.Tensor]) -> list[int]:
        """Returns the indices of a word's pieces. Raises ValueError if the text does not hold the word."""
        real = np.flatnonzero(inputs["attention_mask"][0] > 0)
        if isinstance(word, int):
            if not 0 <= word < len(real):
                raise ValueError(f"word is {word}, but the text has {len(real)} tokens, from 0 to {len(real) - 1}")
            return [int(real[word])]
        last, count = self.pieces_of(word, inputs["input_ids"].numpy()[0][real])
        return real[last - count + 1 : last + 1].tolist()

    def pieces_of(self, word: str, ids: np.ndarray) -> tuple[int, int]:
        """Returns the index of a word's last piece in ids without padding, and the number of its pieces."""
        inputs = {"input_ids": tf.constant(ids[None]), "attention_mask": tf.ones([1, len(ids)], tf.int32)}
        return int(self.located([word], inputs)[0, 0]), len(self.processor.tokenizer.tokenize(word))

    def number_of(self, target: Any, names: Mapping[int, Any]) -> int:
        """Returns the index of the answer to explain; -1: the best one. Raises ValueError for an unknown answer."""
        if target is None:
            return -1
        if is_whole_number(target) and target in names:
            return int(target)
        if isinstance(target, str) and target in names.values():
            return next(number for number, name in names.items() if name == target)
        some = ", ".join(map(str, list(names.values())[:8])) + (", …" if len(names) > 8 else "")
        raise ValueError(f"target is {target!r}, which is no answer of {self.name}; expected one of {some}")

    def names(self, request: Request, ids: np.ndarray, regions: list[Regions]) -> Mapping[int, Any]:
        """Returns all possible answers by their indices."""
        kind = self.head.kind
        if kind == "masks" or (kind == "pretraining" and self.words.mask_id in ids):
            return self.words.tokens
        if kind == "match" or (kind == "pretraining" and not self.answers_questions):
            return {self.head.match[1]: request.text}
        if kind == "choices":
            return dict(enumerate(request.choices))
        if kind == "phrases":
            return {number: number for number in range(sum(map(len, regions)))}
        return dict(enumerate(self.words.labels))

    # --- methods ------------------------------------------------------------------------------------------------------

    def of_maps(self, inputs, number: int, place: int, word):
        options = {"layer": self.layer, "attention_head": self.attention_head}
        target = tf.constant([number]), tf.constant([place])
        return scores_of_maps(self.model, self.head, inputs, self.words, self.method, *target, **options)

    def choose(self, inputs, number: int, place: int):
        outputs = self.model(dict(inputs), output_attentions=False, output_hidden_states=False, training=False)
        rows = tf.shape(inputs["input_ids"])[0]
        targets = (tf.fill([rows], each) for each in (number, place))
        return choose(self.model, self.head, outputs, inputs, self.words, *targets), outputs

    def occlusion(self, inputs, number: int, place: int, word):
        chosen, outputs = self.choose(inputs, number, place)
        answer = int(chosen.answer[0])

        def logits_of(rows):
            rows = {name: tf.constant(value) for name, value in rows.items()}
            return self.choose(rows, answer, place)[0].logit.numpy()

        given = {name: value.numpy() for name, value in inputs.items()}
        scores = occlusion(logits_of, given, self.special, self.words.mask_id, self.patch)
        if scores["token_scores"].ndim == 3:  # a row for each choice
            scores["token_scores"] = scores["token_scores"][:, answer]
        return chosen, scores | self.grid_of(inputs), outputs

    def alignment(self, inputs, number: int, place: int, word):
        chosen, outputs = self.choose(inputs, number, place)
        base = getattr(self.model, self.model.base_model_prefix, self.model)
        hidden = base({name: inputs[name] for name in inputs if name in base.input_names}, training=False)
        states, length = hidden["last_hidden_state"][0], inputs["input_ids"].shape[1]
        asked = [] if word is None else [each - 1 for each in self.pieces(word, inputs) if 0 < each < length - 1]
        if word is not None and not asked:
            raise ValueError(f"word is {word!r}, a special token; expected a word of the text")
        words, patches = alignment(states[1 : length - 1], states[length + 1 :], asked)
        grid = self.grid_of(inputs)
        rows, columns = grid["grid"][0]
        patches = tf.reshape(patches, [1, rows, columns])
        return chosen, {"token_scores": tf.pad(words, [[1, 1]])[None], "patch_scores": patches, **grid}, outputs

    def grid_of(self, inputs) -> dict[str, np.ndarray]:
        """Returns `grid` (1, [images,] 2), and `image_class_score`, 0, since these methods do not hide that token."""
        if "pixel_values" not in inputs:
            return {}
        mask = inputs["pixel_mask"]
        flat = tf.reshape(mask, [-1, *mask.shape[-2:]])
        rows, columns = (size // patch for size, patch in zip(mask.shape[-2:], self.patch, strict=True))
        grid = own_grid(flat, flat.shape[0], rows, columns).numpy()
        leading = mask.shape[:-2]
        return {"grid": grid.reshape(*leading, 2), "image_class_score": np.zeros(leading, np.float32)}

    # --- results ------------------------------------------------------------------------------------------------------

    @staticmethod
    def of_patches(numbers: Mapping[str, np.ndarray]) -> dict[str, Any]:
        if "patch_scores" not in numbers:
            return {}
        grids = numbers["patch_scores"].astype(np.float32), numbers["grid"], numbers["image_class_score"]
        if grids[1].ndim == 1:
            scores, (rows, columns), image_class = grids
            return {"patch_scores": scores[:rows, :columns], "image_class_score": float(image_class)}
        cut = tuple(scores[:rows, :columns] for scores, (rows, columns) in zip(*grids[:2], strict=True))
        return {"patch_scores": cut, "image_class_score": tuple(map(float, grids[2]))}

    def levels(self, request: Request) -> list[np.ndarray]:
        return [to_levels(visual, MAX_PIXELS).levels for visual in request.visuals]

    def seen(self, inputs: Mapping[str, tf.Tensor]) -> list[tuple[int, int, int, int]]:
        if "pixel_mask" not in inputs:
            return []
        masks = tf.reshape(inputs["pixel_mask"], [-1, *inputs["pixel_mask"].shape[-2:]]).numpy()
        return [(int(each[:, 0].sum()), int(each[0].sum()), *self.patch) for each in masks]

    def answers(self, outputs, request: Request, ids: np.ndarray, regions: list[Regions]) -> list[tuple[str, float]]:
        """Returns the best answers with their scores; empty if the head has only one."""
        if self.head.kind in ("tokens", "phrases", "match"):
            return []
        row = arrays.Row(ids.tolist(), request.text, request.choices, request.phrases, sum(map(len, regions)))
        numbers = {name: np.asarray(value)[0] for name, value in outputs.items() if hasattr(value, "shape")}
        said = arrays.answer(self.head, numbers, row, self.words)
        names, scores = said["answers"], said["scores"]
        if not len(names) and "question_answers" in said:
            names, scores = said["question_answers"], said["question_scores"]
        return [(name, float(score)) for name, score in zip(names, scores, strict=True)]


def methods_of(model, head: Head) -> tuple[str, ...]:
    """Returns the methods by which a head can be explained; empty if it gives no answers."""
    if head.kind == "pooled":
        return ()
    aligned = model.base_model_prefix == "vilt" and not head.several
    return tuple(method for method in METHODS if method != "alignment" or aligned)
