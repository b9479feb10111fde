"""Takes every task from its files to batches: data sets on disk, a loader for each of its models, and tiny models."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfvl
from support import datasets
from support.vilt import randomise
from tfvl.training.data.images import ImageFolder
from tfvl.training.data.loading import Loader, Pictures, StoredRegions
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan, bucket_keys
from tfvl.training.tasks.table import TASKS

VOCABULARY = Path(tfvl.__file__).parent / "bundled" / "bert-base-uncased" / "vocab.txt"
LABEL2ID = {answer: place for place, answer in enumerate(datasets.ANSWERS)}
# the same float32 sums over a batch of another size, in another order
LOSS_TOLERANCE = {"rtol": 1e-4}

SOURCES = {  # task: split, what writes its files, the names of its images
    "vqa": ("train", datasets.write_vqa, datasets.vqa_images()),
    "gqa": ("train_balanced", datasets.write_gqa, ["2000", "2001", "2002"]),
    "nlvr2": ("dev", datasets.write_nlvr2, datasets.nlvr2_images()),
    "retrieval": ("train", datasets.write_karpathy, datasets.karpathy_images()),
    "vcr-answer": ("val", datasets.write_vcr, [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)]),
    "vcr-rationale": ("val", datasets.write_vcr, [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)]),
    "entities": ("val", datasets.write_entities, ["36979", "65567"]),
    "pretraining": ("train", datasets.write_karpathy, datasets.karpathy_images()),
}
TINY = {
    "Vilt": {
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 16,
        "modality_type_vocab_size": 3,
        "num_images": 2,
    },
    "VisualBert": {
        "hidden_size": 12,
        "visual_embedding_dim": datasets.FEATURE_SIZE,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "Lxmert": {
        "hidden_size": 12,
        "visual_feat_dim": datasets.FEATURE_SIZE,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "l_layers": 1,
        "x_layers": 1,
        "r_layers": 1,
        "num_qa_labels": 5,
        "num_object_labels": 7,
        "num_attr_labels": 5,
        "task_qa": False,
    },
}


def family_of(model: str) -> str:
    return next(family for family in TINY if model.startswith(family))


def tiny_head(model: str) -> keras.Model:
    """Makes a tiny model with random weights, so that other inputs give other losses."""
    labels = {"num_labels": 5} if "Lxmert" not in model else {}
    if "ImagesAndText" in model or "VisualReasoning" in model:
        labels = {"num_labels": 2}
    model_class = getattr(tfvl, model)
    head = model_class(model_class.config_class(**TINY[family_of(model)] | labels))
    randomise(head)
    return head


def tokenizer(max_length: int = 40) -> tfvl.BertTokenizer:
    return tfvl.BertTokenizer(VOCABULARY, model_max_length=max_length)


def processor_of(model: str, tokenizer: tfvl.BertTokenizer):
    if family_of(model) == "Vilt":
        return tfvl.ViltProcessor(tfvl.ViltImageProcessor(size=32, size_divisor=16), tokenizer)
    return getattr(tfvl, f"{family_of(model)}Processor")(tokenizer, datasets.FEATURE_SIZE)


def write_all(root: Path) -> Path:
    """Writes every data set, with pictures and regions, into a directory of its own."""
    for task, (_, write, names) in SOURCES.items():
        write(root / task)
        datasets.write_images(root / task / "images", names)
        datasets.write_regions(root / task / "regions.h5", names).close()
    return root


def visual_of(root: Path, processor, cache_bytes: int = 0) -> Pictures | StoredRegions:
    """Opens the pictures or the regions of a data set, whichever the processor takes."""
    if isinstance(processor, tfvl.ViltProcessor):
        return Pictures(ImageFolder(root / "images"), processor.image_processor, cache_bytes)
    return StoredRegions(tfvl.RegionStore(root / "regions.h5"), processor, cache_bytes=cache_bytes)


def make_loader(
    data_sets: Path, tokenizer, task: str, model: str, *, cache_bytes: int = 0, strict=False, **options
) -> Loader:
    root, found = data_sets / task, TASKS[task]
    processor = processor_of(model, tokenizer)
    visual = visual_of(root, processor, cache_bytes)
    label2id = LABEL2ID if found.answers else None
    examples = found.examples(root, SOURCES[task][0], images=visual, label2id=label2id, strict=strict)
    return found.loader(found.models[model], examples, visual, processor, LABEL2ID, **options)


def pipeline_of(
    data_sets, tokenizer, task: str, model: str, batch_size: int = 5, limit: int | None = None
) -> BatchPipeline:
    """Makes the pipeline of a split in buckets, so that batches are not in the data set's order."""
    root, found, processor = data_sets / task, TASKS[task], processor_of(model, tokenizer)
    examples = found.examples(root, SOURCES[task][0], limit=limit)
    loader = found.loader(found.models[model], examples, visual_of(root, processor), processor, LABEL2ID)
    plan = BatchPlan(len(examples), batch_size, shuffle=False, keys=bucket_keys(loader), drop_remainder=False)
    return BatchPipeline(loader, plan)


def numbers_in(tokenizer, ids) -> list[int]:
    """Returns the first number in each text."""
    texts = tokenizer.batch_decode(np.asarray(ids), skip_special_tokens=True)
    return [int(next(word for word in text.replace(".", " ").split() if word.isdecimal())) for text in texts]


def assert_equal(one, other) -> None:
    """Asserts that two batches have the same values, to the bit."""
    one, other = tf.nest.flatten(one), tf.nest.flatten(other)
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
