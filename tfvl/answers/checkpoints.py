"""The table of known checkpoints: those that are bundled, and those that the papers' authors have on the hub.

README's tables, `tfvl check --published` and `tfvl.list_pretrained` read it (standard library only).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BYTES = 4  # of a parameter in float32
VQA, REASONING, CHOICE = "visual-question-answering", "visual-reasoning", "multiple-choice"
MASK, RETRIEVAL, PHRASES, REGIONS = "fill-mask", "image-text-retrieval", "phrase-grounding", "region-detection"
TOKENS = "token-classification"


@dataclass(frozen=True)
class Checkpoint:
    """A row of the table.

    Attributes:
        name: what `from_pretrained` takes: a hub id, or the name of a bundled model.
        architecture: name of the class that reads it.
        task: its default task, by `tfvl.pipeline`'s name.
        parameters: the number of its weights.
        figures: what was measured of it here, by name; empty if it could not be downloaded.
    """

    name: str
    architecture: str
    task: str
    parameters: int
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_bundled(self) -> bool:
        """Whether the package contains it; the names of others, hub ids, begin with an owner and "/"."""
        return "/" not in self.name


VILT, VISUAL_BERT, LXMERT = "dandelin/vilt-b32", "uclanlp/visualbert", "unc-nlp/lxmert"

# Figures are shares, on held-out drawn scenes: each bundled model's README says how they were measured.
CHECKPOINTS = (
    Checkpoint("shapes-vilt", "ViltForQuestionAnswering", VQA, 239_706, {"accuracy": 0.992}),
    Checkpoint("shapes-visual-bert", "VisualBertForQuestionAnswering", VQA, 148_314, {"accuracy": 0.996}),
    Checkpoint("shapes-lxmert", "LxmertForQuestionAnswering", VQA, 356_634, {"accuracy": 0.994}),
    Checkpoint("shapes-vilt-mlm", "ViltForPreTraining", MASK, 232_570, {"masked words": 0.953, "match": 0.995}),
    Checkpoint(
        "shapes-vilt-retrieval",
        "ViltForImageAndTextRetrieval",
        RETRIEVAL,
        228_161,
        {"a scene finds its caption": 1.0, "a caption finds its scene": 1.0},
    ),
    Checkpoint("shapes-vilt-nlvr2", "ViltForImagesAndTextClassification", REASONING, 245_186, {"accuracy": 0.998}),
    Checkpoint("shapes-visual-bert-nlvr2", "VisualBertForVisualReasoning", REASONING, 147_074, {"accuracy": 0.993}),
    Checkpoint("shapes-visual-bert-choice", "VisualBertForMultipleChoice", CHOICE, 146_689, {"accuracy": 0.997}),
    Checkpoint(
        "shapes-visual-bert-phrases",
        "VisualBertForRegionToPhraseAlignment",
        PHRASES,
        154_213,
        {"phrases found": 0.994},
    ),
    Checkpoint("shapes-detector", "RegionDetector", REGIONS, 126_245, {"objects covered": 0.992}),
    Checkpoint(f"{VILT}-mlm", "ViltForMaskedLM", MASK, 112_217_658),
    Checkpoint(f"{VILT}-mlm-itm", "ViltForPreTraining", MASK, 112_219_196),
    Checkpoint(f"{VILT}-finetuned-vqa", "ViltForQuestionAnswering", VQA, 117_588_537),
    Checkpoint(f"{VILT}-finetuned-nlvr2", "ViltForImagesAndTextClassification", REASONING, 113_962_754),
    Checkpoint(f"{VILT}-finetuned-coco", "ViltForImageAndTextRetrieval", RETRIEVAL, 111_595_777),
    Checkpoint(f"{VILT}-finetuned-flickr30k", "ViltForImageAndTextRetrieval", RETRIEVAL, 111_595_777),
    Checkpoint(f"{VISUAL_BERT}-vqa", "VisualBertForQuestionAnswering", VQA, 113_856_825),
    Checkpoint(f"{VISUAL_BERT}-vqa-pre", "VisualBertForPreTraining", MASK, 112_074_812),
    Checkpoint(f"{VISUAL_BERT}-vqa-coco-pre", "VisualBertForPreTraining", MASK, 112_074_812),
    Checkpoint(f"{VISUAL_BERT}-nlvr2", "VisualBertForVisualReasoning", REASONING, 110_665_730),
    Checkpoint(f"{VISUAL_BERT}-nlvr2-pre", "VisualBertForPreTraining", MASK, 111_288_380),
    Checkpoint(f"{VISUAL_BERT}-nlvr2-coco-pre", "VisualBertForPreTraining", MASK, 111_288_380),
    Checkpoint(f"{VISUAL_BERT}-vcr", "VisualBertForMultipleChoice", CHOICE, 110_271_745),
    Checkpoint(f"{VISUAL_BERT}-vcr-pre", "VisualBertForPreTraining", MASK, 110_895_164),
    Checkpoint(f"{VISUAL_BERT}-vcr-coco-pre", "VisualBertForPreTraining", MASK, 110_895_164),
    Checkpoint(f"{LXMERT}-base-uncased", "LxmertForPreTraining", MASK, 228_051_752),
    Checkpoint(f"{LXMERT}-vqa-uncased", "LxmertForQuestionAnswering", VQA, 213_930_297),
    Checkpoint(f"{LXMERT}-gqa-uncased", "LxmertForQuestionAnswering", VQA, 211_952_178),
    Checkpoint("unc-nlp/frcnn-vg-finetuned", "RegionDetector", REGIONS, 65_545_166),
)
ARCHITECTURES: Mapping[str, str] = {row.name: row.architecture for row in CHECKPOINTS}


def list_pretrained(task: str | None = None) -> list[dict[str, Any]]:
    """Lists the checkpoints that tfvl knows: those that are bundled, then the papers' on the hub. Others load as well.

    Args:
        task: lists only those for this task, by `tfvl.pipeline`'s name, such as "visual-question-answering".

    Returns:
        A dict for each: `name` (what `from_pretrained` takes), `architecture`, `task`, `parameters`, `megabytes` (of
        the weights in float32), `bundled` (whether it needs no download), and `figures`, what was measured of it here
        on held-out data, as shares. No checkpoint of the hub was measured, since it could not be reached.

    Raises:
        ValueError: there is no checkpoint for such a task; the sentence names the possible tasks.
    """
    if task is not None and task not in {row.task for row in CHECKPOINTS}:
        raise ValueError(
            f"task is {task!r}, expected one of {', '.join(dict.fromkeys(row.task for row in CHECKPOINTS))}"
        )
    return [
        {
            "name": row.name,
            "architecture": row.architecture,
            "task": row.task,
            "parameters": row.parameters,
            "megabytes": round(row.parameters * BYTES / 1e6, 1),
            "bundled": row.is_bundled,
            "figures": dict(row.figures),
        }
        for row in CHECKPOINTS
        if task in (None, row.task)
    ]
