"""Prepared data sets, read without Beam: the same examples and batches as from the published files, and damage."""

import json

import numpy as np
import pytest
from support import datasets, runs
from support.prepared import write_prepared
from support.tasks import LABEL2ID

import tfvl
from tfvl.files.tfrecord import framed, read_records
from tfvl.training.data import prepared
from tfvl.training.data.examples import Example, Phrase
from tfvl.training.data.images import ImageFolder
from tfvl.training.data.loading import Pictures
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan, bucket_keys
from tfvl.training.run import opening
from tfvl.training.run.trainer import train
from tfvl.training.tasks.table import TASKS


def all_of(examples) -> list[Example]:
    return [examples[place] for place in range(len(examples))]


@pytest.fixture(scope="module")
def vqa(tmp_path_factory):
    """Writes a data set with two splits; returns its directories (published, prepared)."""
    root = tmp_path_factory.mktemp("vqa")
    data = root / "data"
    for split in ("train", "val"):
        datasets.write_vqa(data, split=split)
        datasets.write_images(data / "images", datasets.vqa_images(split=split))
    for split in ("train", "val"):
        write_prepared(root / "prepared", "vqa", data, split)
    return data, root / "prepared"


# --- what is read ---------------------------------------------------------------------------------------------------


def test_every_field_of_an_example_comes_back():
    phrases = (Phrase(0, 2, ((1.0, 2.0, 3.5, 4.0), (5.0, 6.0, 7.0, 8.0))), Phrase(4, 4, ((9.0, 9.0, 10.0, 11.0),)))
    examples = [
        Example("é\ud800", ("a/b", "c"), "ü\n", ("x", ""), ("yes", "yes", "no"), 0, "yes/no", phrases),
        Example("", ("a",), "t", label=-3),
        Example("1", ("a",), "t"),
    ]
    assert [prepared.decode(prepared.encode(number, one)) for number, one in enumerate(examples)] == [
        *enumerate(examples)
    ]
    assert prepared.encode(7, examples[0]) == prepared.encode(7, examples[0])
    with pytest.raises(ValueError, match="the record is no example"):
        prepared.decode(b"\x0a\x03\x0a\x01\x0a")


def test_examples_come_in_the_published_order(vqa):
    data, out = vqa
    for split in ("train", "val"):
        assert all_of(TASKS["vqa"].examples(out, split)) == all_of(TASKS["vqa"].examples(data, split))
    assert all_of(TASKS["vqa"].examples(out / "val", "val")) == all_of(TASKS["vqa"].examples(data, "val"))
    assert len(TASKS["vqa"].examples(out, "train", limit=5)) == 5


def batches(data, visual, tokenizer) -> list:
    """Returns the batches of an epoch, shuffled and in buckets."""
    processor = tfvl.ViltProcessor(visual.image_processor, tokenizer)
    examples = TASKS["vqa"].examples(data, "train", images=visual, label2id=LABEL2ID, strict=True)
    loader = TASKS["vqa"].loader(tfvl.ViltForQuestionAnswering, examples, visual, processor, LABEL2ID)
    pipeline = BatchPipeline(loader, BatchPlan(len(examples), 4, keys=bucket_keys(loader)))
    return [pipeline.batch(1, step) for step in range(pipeline.steps)]


def test_training_gets_the_same_batches(vqa, tokenizer):
    data, out = vqa
    image_processor = tfvl.ViltImageProcessor(size=32, size_divisor=16)
    sources = ((data, ImageFolder(data / "images")), (out, opening.image_source(str(out))))
    published, same = (batches(where, Pictures(source, image_processor), tokenizer) for where, source in sources)
    assert len(published) == 6
    for (inputs, labels, weights), (others, other_labels, other_weights) in zip(published, same, strict=True):
        assert inputs.keys() == others.keys()
        for name, value in inputs.items():
            np.testing.assert_array_equal(value, others[name])
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(weights, other_weights)


def test_regions_of_all_splits(tmp_path):
    data = tmp_path / "data"
    names = []
    for split in ("train", "val"):
        datasets.write_vqa(data, split=split)
        names += datasets.vqa_images(split=split)
    datasets.write_regions(data / "regions.h5", names).close()
    for split in ("train", "val"):
        write_prepared(tmp_path / "out", "vqa", data, split, "regions")
    shards = opening.region_source(None, str(tmp_path / "out"))
    assert sorted(shards) == sorted(names)
    assert len(shards) == len(names)
    with tfvl.RegionStore(data / "regions.h5") as store:
        np.testing.assert_array_equal(shards[names[-1]].features, store[names[-1]].features)
    with pytest.raises(ValueError, match="there is no image 'x' among the 24 of 6 files"):
        shards["x"]
    with pytest.raises(ValueError, match=r"train was prepared without images; prepare it again with --images"):
        opening.image_source(str(tmp_path / "out"))


def test_captions_serve_retrieval_and_pretraining(tmp_path):
    datasets.write_karpathy(tmp_path / "data")
    datasets.write_images(tmp_path / "data" / "images", datasets.karpathy_images())
    write_prepared(tmp_path / "out", "retrieval", tmp_path / "data", "val")
    assert len(TASKS["pretraining"].examples(tmp_path / "out", "val")) == 5
    with pytest.raises(ValueError, match="was prepared for the task 'retrieval', not for 'vqa'"):
        TASKS["vqa"].examples(tmp_path / "out", "val")


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    datasets.write_vqa(tmp_path / "data", 9)
    datasets.write_images(tmp_path / "data" / "images", datasets.vqa_images(9))
    return write_prepared(tmp_path / "out", "vqa", tmp_path / "data", "train") / "train"


def test_a_torn_or_changed_file_is_one_sentence(copy):
    file = copy / "examples-1.tfrecord"
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], whole[:60] + b"!" + whole[61:], b"\xff" * 40):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"examples-1\.tfrecord: the (record|file).*; prepare the data set again"):
            TASKS["vqa"].examples(copy.parent, "train")
    file.unlink()
    with pytest.raises(ValueError, match=r"names 'examples-1\.tfrecord', which is missing; prepare the data"):
        TASKS["vqa"].examples(copy.parent, "train")


def test_missing_records_are_noticed(copy):
    file = copy / "examples-1.tfrecord"
    records = list(read_records(file))
    file.write_bytes(b"".join(map(framed, records[:-1])))
    with pytest.raises(ValueError, match="has 8 examples of 9; prepare it again"):
        TASKS["vqa"].examples(copy.parent, "train")
    file.write_bytes(framed(b"\x0a\x03\x0a\x01\x0a"))
    with pytest.raises(ValueError, match=r"examples-1\.tfrecord: the record is no example"):
        TASKS["vqa"].examples(copy.parent, "train")


@pytest.mark.parametrize(
    "changes",
    [
        {"examples": ["../data/v2_mscoco_train2014_annotations.json"]},
        {"examples": ["/etc/passwd"]},
        {"examples": []},
        {"examples": [1]},
        {"regions": ["r.h5"] * 2},
        {"regions": [f"{number}.h5" for number in range(prepared.MAX_FILES)]},
        {"images": 3},
        {"count": "9"},
        {"format": 2},
    ],
)
def test_descriptions_that_cannot_be_used(changes, copy):
    values = json.loads((copy / "prepared.json").read_text())
    (copy / "prepared.json").write_text(json.dumps(values | changes))
    with pytest.raises(
        ValueError, match=r"prepared\.json is damaged or of another version; prepare the data set again"
    ):
        TASKS["vqa"].examples(copy.parent, "train")


def test_a_description_that_is_no_json(copy):
    (copy / "prepared.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"prepared\.json is damaged"):
        prepared.find(copy.parent, "train")


# --- tfvl train -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_prepared_data_ends_with_the_same_weights(tmp_path):
    root = runs.write_all(tmp_path)
    for split in ("train", "val"):
        write_prepared(root / "prepared", "vqa", root / "data", split)
    train(runs.settings(root, epochs=1), root / "published")
    train(runs.settings(root, epochs=1, data=str(root / "prepared")), root / "same")
    runs.assert_same_run(root / "published", root / "same")
