"""The table of heads: what each public model class reads, the kind of its answer, and the outputs that it is given in.

The export's graph, the lite runner, the server and the tasks all read this table; a head that is not in it can be
loaded and trained, but neither asked nor exported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

STRING, FLOAT, INT = "string", "float32", "int32"


@dataclass(frozen=True)
class Output:
    """One output of the signature `serving_default`, a row for each request.

    Attributes:
        dtype: name of its dtype.
        axes: the axes after the rows'. A number is a fixed size; a name says what is counted along the axis: "labels"
            (the best of the model's labels, at most top_k), "words" (the best of the vocabulary, at most top_k),
            "masks" (the [MASK]s of a text), "tokens" (of the text), "choices", "phrases", "regions" (of the request),
            "hidden" (the model's width).
        needs: name of the model's output that it is made of, or `REGION_BOXES`; a model without that, e.g. since its
            configuration leaves a task out, does not have this output. "" if all models have it.
        places_of: the axis of the request that the values are indices of, e.g. "regions" for the index of a region.
    """

    dtype: str
    axes: tuple[str | int, ...] = ()
    needs: str = ""
    places_of: str = ""

    @property
    def blank(self) -> bytes | int:
        """The value that fills padding, and the whole row if its status says that it has no answer."""
        return b"" if self.dtype == STRING else 0


BEST = {"answers": Output(STRING, ("labels",)), "scores": Output(FLOAT, ("labels",))}
MASKS = {
    "answers": Output(STRING, ("words",)),
    "scores": Output(FLOAT, ("words",)),
    "filled": Output(STRING),
    "candidates": Output(STRING, ("masks", "words")),
    "candidate_scores": Output(FLOAT, ("masks", "words")),
}
# The models' outputs that answers are made of.
WORD_SCORES, ANSWER_SCORES = "prediction_logits", "question_answering_score"
OBJECT_SCORES, ATTRIBUTE_SCORES = "visual_prediction_scores_obj", "visual_prediction_scores_attr"
# The boxes of the regions that a detector inside of an exported model has found.
REGION_BOXES = "region_boxes"

# Each kind of answer, with its outputs.
KINDS: Mapping[str, Mapping[str, Output]] = {
    # the pooled hidden state, under the name that the model has for it
    "pooled": {name: Output(FLOAT, ("hidden",), needs=name) for name in ("pooler_output", "pooled_output")},
    # the best labels of the configuration (`Config.answer_names`)
    "labels": BEST,
    # the words for the [MASK]s of a text; a text without one cannot be answered
    "masks": MASKS,
    # the same, but a text needs no [MASK]; whether text and image belong together; and the other pre-training tasks
    "pretraining": MASKS
    | {
        "match": Output(FLOAT),
        "question_answers": Output(STRING, ("labels",), needs=ANSWER_SCORES),
        "question_scores": Output(FLOAT, ("labels",), needs=ANSWER_SCORES),
        "object_ids": Output(INT, ("regions",), needs=OBJECT_SCORES),
        "object_scores": Output(FLOAT, ("regions",), needs=OBJECT_SCORES),
        "attribute_ids": Output(INT, ("regions",), needs=ATTRIBUTE_SCORES),
        "attribute_scores": Output(FLOAT, ("regions",), needs=ATTRIBUTE_SCORES),
    },
    # how well the text fits the image, as a logit; the answer is the text
    "match": {"answers": Output(STRING, (1,)), "scores": Output(FLOAT, (1,))},
    # a label for each token of the text
    "tokens": {
        "tokens": Output(STRING, ("tokens",)),
        "answers": Output(STRING, ("tokens",)),
        "scores": Output(FLOAT, ("tokens",)),
    },
    # the best of the texts that the request gives to choose from
    "choices": {"answers": Output(STRING, ("choices",)), "scores": Output(FLOAT, ("choices",))},
    # the best region of each phrase that the request names; its box, if the model has found the regions itself
    "phrases": {
        "region_ids": Output(INT, ("phrases",), places_of="regions"),
        "scores": Output(FLOAT, ("phrases", "regions")),
        "boxes": Output(FLOAT, ("phrases", 4), needs=REGION_BOXES),
    },
}
STATUS = {"status": Output(STRING)}
PAIR = 2  # the number of images with a text, for heads that read the regions of several images


@dataclass(frozen=True)
class Words:
    """The words that a model's class indices and token ids stand for, and how many answers a row gets.

    Attributes:
        labels: the answer that each class stands for (`Config.answer_names`).
        tokens: the token of each id.
        mask_token, mask_id: the vocabulary's [MASK] token and its id.
        top_k: the largest number of answers that a row gets.
    """

    labels: Sequence[str]
    tokens: Mapping[int, str]
    mask_token: str
    mask_id: int
    top_k: int

    @cached_property
    def vocabulary_size(self) -> int:
        """The number of token ids: one more than the largest."""
        return max(self.tokens) + 1


@dataclass(frozen=True)
class Head:
    """A row of the table.

    Attributes:
        kind: the kind of the answer, one of `KINDS`.
        reads: what a request holds beside its text: "image" or "regions", "boxes" (of the regions), "choices",
            "phrases".
        several: whether several images, or the regions of several, go with a text.
        logits: the model's output that the answer is made of.
        activation: the function that turns logits into scores: "softmax" or "sigmoid".
        match: the model's output that says whether text and image belong together, and the class that means they do.
        upstream: the class of transformers that has these weights, if none there has this name; and the names there of
            outputs that have another one here, by the names here.
    """

    kind: str
    reads: tuple[str, ...]
    several: bool = False
    logits: str = "logits"
    activation: str = "softmax"
    match: tuple[str, int] = ("", 0)
    upstream: tuple[str, Mapping[str, str]] = ("", {})

    @property
    def outputs(self) -> dict[str, Output]:
        """The outputs of the signature `serving_default` by name; the last is the status of the row."""
        return {**KINDS[self.kind], **STATUS}


IMAGE, REGIONS, BOXES = ("image",), ("regions",), ("regions", "boxes")

HEADS: Mapping[str, Head] = {
    "ViltModel": Head("pooled", IMAGE),
    "ViltForMaskedLM": Head("masks", IMAGE),
    "ViltForPreTraining": Head(
        "pretraining",
        IMAGE,
        logits=WORD_SCORES,
        match=("cross_relationship_score", 1),
        upstream=("ViltForMaskedLM", {WORD_SCORES: "logits"}),
    ),
    "ViltForQuestionAnswering": Head("labels", IMAGE, activation="sigmoid"),
    "ViltForImagesAndTextClassification": Head("labels", IMAGE, several=True),
    "ViltForImageAndTextRetrieval": Head("match", IMAGE),
    "ViltForTokenClassification": Head("tokens", IMAGE),
    "VisualBertModel": Head("pooled", REGIONS),
    "VisualBertForPreTraining": Head("pretraining", REGIONS, logits=WORD_SCORES, match=("seq_relationship_logits", 0)),
    "VisualBertForQuestionAnswering": Head("labels", REGIONS),
    "VisualBertForMultipleChoice": Head("choices", (*REGIONS, "choices")),
    "VisualBertForVisualReasoning": Head("labels", REGIONS, several=True),
    "VisualBertForRegionToPhraseAlignment": Head("phrases", (*REGIONS, "phrases")),
    "LxmertModel": Head("pooled", BOXES),
    "LxmertForPreTraining": Head("pretraining", BOXES, logits=WORD_SCORES, match=("cross_relationship_score", 1)),
    "LxmertForQuestionAnswering": Head("labels", BOXES, logits=ANSWER_SCORES),
}


def head_name(model_class: type) -> str | None:
    """Returns the name of the class, or of its nearest base class, that has a row in the table.

    None if there is none.
    """
    return next((base.__name__ for base in model_class.__mro__ if base.__name__ in HEADS), None)
