"""What upstream publishes of its checkpoints: inputs, the outputs for them, and answers, each with its source.

The numbers are from transformers' integration tests (commit 02b27d9), which compare them at 1e-4; the answers are from
model pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfvl.answers.checkpoints import ARCHITECTURES

TOLERANCE = 1e-4  # absolute; transformers prints four decimals and compares with this tolerance
TESTS = "transformers, tests/models/{0}/test_modeling_{0}.py, {1}"
PAGES = "transformers, docs/source/en/model_doc/{0}.md"
CATS = ("huggingface/cats-image", "cats_image.jpeg")  # COCO 000000039769
DOGS = tuple(("hf-internal-testing/fixtures_nlvr2", f"image{number}.jpeg") for number in (1, 2))
TWICE = "The left image contains twice the number of dogs as the right image"


@dataclass(frozen=True)
class Question:
    """An example on a model page of the hub: a text, its pictures, the answer that the page prints, and the page."""

    text: str
    pictures: tuple[tuple[str, str], ...]
    answer: str
    source: str


@dataclass(frozen=True)
class Published:
    """What upstream publishes of one checkpoint.

    Attributes:
        name: hub id.
        read_by: the class with which upstream's test reads it, if that is not its own (`answers.checkpoints`).
        inputs: the arrays of the test by name, if it gives arrays.
        text, pictures: instead of `inputs`, the text and pictures for the processor, each picture as (data set, file).
        text_from: the checkpoint whose processor is used, if that is not its own.
        expected: maps an output to (index of a slice, its values); None if upstream publishes no numbers.
        shapes: maps an output to its shape.
        source: the source of the numbers.
        questions: the questions with published answers.
    """

    name: str
    read_by: str = ""
    inputs: Mapping[str, np.ndarray] | None = None
    text: str = ""
    pictures: tuple[tuple[str, str], ...] = ()
    text_from: str = ""
    expected: Mapping[str, tuple[tuple, list]] | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    source: str = ""
    questions: tuple[Question, ...] = ()

    @property
    def architecture(self) -> str:
        """The name of the class that reads the checkpoint here."""
        return self.read_by or ARCHITECTURES[self.name]


def visual_bert_inputs(size: int, choices: int = 0) -> dict[str, np.ndarray]:
    """Makes inputs of six words, and ten regions whose features are all 0.5."""
    lead = (1, choices) if choices else (1,)
    types = np.ones(6) if choices else np.array([0, 0, 0, 1, 1, 1])
    return {
        "input_ids": np.broadcast_to(np.arange(1, 7), (*lead, 6)).astype(np.int32),
        "token_type_ids": np.broadcast_to(types, (*lead, 6)).astype(np.int32),
        "visual_embeds": np.full((*lead, 10, size), 0.5, np.float32),
    }


def lxmert_inputs() -> dict[str, np.ndarray]:
    """Makes inputs of eleven words and ten regions; features and boxes are each drawn with seed 0, as in the test."""
    ids = [[101, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 102]]
    features, boxes = (np.random.RandomState(0).rand(1, 10, size).astype(np.float32) for size in (2048, 4))
    return {"input_ids": np.array(ids, np.int32), "visual_feats": features, "visual_pos": boxes}


def visual_bert(name: str, size: int, choices: int = 0, **facts) -> Published:
    return Published(f"uclanlp/visualbert-{name}", inputs=visual_bert_inputs(size, choices), **facts)


def vilt(name: str, text: str, pictures=(CATS,), **facts) -> Published:
    return Published(f"dandelin/vilt-b32-{name}", text=text, pictures=pictures, **facts)


MASKED = "a bunch of [MASK] laying on a [MASK]."
CATS_ASKED = "How many cats are there?"
VILT_PROCESSOR = "dandelin/vilt-b32-finetuned-vqa"

CHECKPOINTS = (
    vilt(
        "mlm",
        MASKED,
        text_from=VILT_PROCESSOR,
        expected={"logits": ((0, 0, slice(3)), [-12.5061, -12.5123, -12.5174])},
        shapes={"logits": (1, 11, 30522)},
        source=TESTS.format("vilt", "test_inference_masked_lm"),
        questions=(Question(MASKED, (CATS,), "cats", TESTS.format("vilt", "test_inference_masked_lm")),),
    ),
    vilt("mlm-itm", MASKED),
    vilt(
        "finetuned-vqa",
        CATS_ASKED,
        expected={"logits": ((0, slice(3)), [-15.9495, -18.1472, -10.3041])},
        shapes={"logits": (1, 3129)},
        source=TESTS.format("vilt", "test_inference_visual_question_answering"),
        questions=(Question(CATS_ASKED, (CATS,), "2", PAGES.format("vilt")),),
    ),
    vilt(
        "finetuned-nlvr2",
        f"{TWICE}, and at least two dogs in total are standing.",
        DOGS,
        text_from=VILT_PROCESSOR,
        expected={"logits": ((0,), [-2.3713, 2.9168])},
        shapes={"logits": (1, 2)},
        source=TESTS.format("vilt", "test_inference_natural_language_visual_reasoning"),
        questions=(Question(f"{TWICE}.", DOGS, "True", PAGES.format("vilt")),),
    ),
    vilt("finetuned-coco", "An image of two cats chilling on a couch"),
    vilt("finetuned-flickr30k", "An image of two cats chilling on a couch"),
    visual_bert(
        "vqa-coco-pre",
        2048,
        expected={
            "prediction_logits": (
                (0, slice(3), slice(3)),
                [[-5.1858, -5.1903, -4.9142], [-6.2214, -5.9238, -5.8381], [-6.3027, -5.9939, -5.9297]],
            ),
            "seq_relationship_logits": ((), [[0.7393, 0.1754]]),
        },
        shapes={"prediction_logits": (1, 16, 30522), "seq_relationship_logits": (1, 2)},
        source=TESTS.format("visual_bert", "test_inference_vqa_coco_pre"),
    ),
    visual_bert(
        "vqa",
        2048,
        expected={
            "logits": (
                (0, slice(10)),
                [-8.9898, 3.0803, -1.8016, 2.4542, -8.3420, -2.0224, -3.3124, -4.4139, -3.1491, -3.8997],
            )
        },
        shapes={"logits": (1, 3129)},
        source=TESTS.format("visual_bert", "test_inference_vqa"),
    ),
    visual_bert(
        "nlvr2",
        1024,
        expected={"logits": ((), [[-1.1436, 0.8900]])},
        shapes={"logits": (1, 2)},
        source=TESTS.format("visual_bert", "test_inference_nlvr"),
    ),
    visual_bert(
        "vcr",
        512,
        choices=4,
        expected={"logits": ((), [[-7.7697] * 4])},
        shapes={"logits": (1, 4)},
        source=TESTS.format("visual_bert", "test_inference_vcr"),
    ),
    *(
        visual_bert(f"{task}-{stage}", size)
        for task, size in (("vqa", 2048), ("nlvr2", 1024), ("vcr", 512))
        for stage in ("pre", "coco-pre")
        if (task, stage) != ("vqa", "coco-pre")
    ),
    Published(
        "unc-nlp/lxmert-base-uncased",
        "LxmertModel",
        lxmert_inputs(),
        expected={
            "language_output": (
                (0, slice(3), slice(3)),
                [[0.2417, -0.9807, 0.1480], [1.2541, -0.8320, 0.5112], [1.4070, -1.1052, 0.6990]],
            )
        },
        shapes={"language_output": (1, 11, 768)},
        source=TESTS.format("lxmert", "test_inference_no_head_absolute_embedding"),
    ),
    Published("unc-nlp/lxmert-vqa-uncased", inputs=lxmert_inputs()),
    Published("unc-nlp/lxmert-gqa-uncased", inputs=lxmert_inputs()),
)
