"""Pictures and regions on their way to a batch: those that fail weigh nothing; the cache; images in TFRecords."""

from pathlib import Path

import numpy as np
import pytest
from support import datasets
from support.tasks import LOSS_TOLERANCE, assert_equal, make_loader, tiny_head

import tfvl
from tfvl.training.data.examples import Report
from tfvl.training.data.images import ImageRecords, write_image_records
from tfvl.training.data.loading import Cache, StoredRegions

# --- images that fail while training --------------------------------------------------------------------------------


def torn(tmp_path: Path, name: str) -> Path:
    """Writes VQA's data with one JPEG cut off in the middle."""
    datasets.write_vqa(tmp_path / "vqa")
    datasets.write_images(tmp_path / "vqa" / "images", datasets.vqa_images())
    file = tmp_path / "vqa" / "images" / f"{name}.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    return tmp_path


def test_a_torn_image_weighs_nothing_and_is_reported_once(data_sets, tmp_path, tokenizer):
    name = datasets.vqa_images()[1]  # of questions 2 and 3
    loader = make_loader(torn(tmp_path, name), tokenizer, "vqa", "ViltForQuestionAnswering")
    whole = make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    batch, same = np.array([0, 2, 8]), np.array([0, 8])
    (inputs, labels, weights), (expected, targets, _) = loader(batch, 0), whole(same, 0)
    loader(batch, 1)
    assert weights.tolist() == [1, 0, 1]
    assert loader.report.counts == {"images that fail": 1}
    assert f"image '{name}'" in loader.report.sentences[0]
    np.testing.assert_array_equal(inputs["pixel_mask"][[0, 2]].sum((1, 2)), expected["pixel_mask"].sum((1, 2)))
    head = tiny_head("ViltForQuestionAnswering")
    head.compile()
    losses = [
        head.compute_loss(y=y, y_pred=head(x), sample_weight=w)
        for x, y, w in ((inputs, labels, weights), (expected, targets, np.ones(2, np.float32)))
    ]
    np.testing.assert_allclose(*losses, **LOSS_TOLERANCE)


def test_an_image_too_thin_to_resize_weighs_nothing(tokenizer, tmp_path):
    datasets.write_vqa(tmp_path / "vqa")
    datasets.write_images(tmp_path / "vqa" / "images", datasets.vqa_images())
    (tmp_path / "vqa" / "images" / f"{datasets.vqa_images()[4]}.jpg").write_bytes(datasets.jpeg(0, 800, 8))
    loader = make_loader(tmp_path, tokenizer, "vqa", "ViltForQuestionAnswering")
    _, _, weights = loader(np.array([0, 8, 2, 9]), 0)
    assert [loader.examples[place].images[0] for place in (8, 9)] == [datasets.vqa_images()[4]] * 2
    assert weights.tolist() == [1, 0, 1, 0]
    assert "example 13008: images[0]: 8 x 800 pixels is too long and thin" in loader.report.sentences[0]


def test_a_torn_image_is_refused_where_strict(tmp_path, tokenizer):
    root = torn(tmp_path, datasets.vqa_images()[1])
    loader = make_loader(root, tokenizer, "vqa", "ViltForQuestionAnswering")
    loader.report = Report(strict=True)
    with pytest.raises(ValueError, match=r"example 10002: image 'COCO_train2014_000000000010': .* cannot be decoded"):
        loader(np.array([2]), 0)


def test_regions_that_fail_weigh_nothing(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", "LxmertForPreTraining")
    store = loader.visual.store
    empty = tfvl.Regions(np.zeros((0, datasets.FEATURE_SIZE)), image_id="empty")
    loader.visual.store = {name: store[name] for name in store} | {loader.examples[0].images[0]: empty}
    inputs, labels, weights = loader(np.array([0, 10]), 0)
    assert weights.tolist() == [0, 1]
    assert "has no regions" in loader.report.sentences[-1]
    assert inputs["visual_attention_mask"][0].sum() == 1
    assert not labels["obj_labels"]["obj"][1][0].any()


@pytest.mark.parametrize("model", ["LxmertForPreTraining", "VisualBertForPreTraining"])
def test_features_that_are_not_finite_weigh_nothing(model, data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", model)
    store = loader.visual.store
    name = loader.examples[5].images[0]
    broken = datasets.made_regions(name, 1, 4)
    broken.features[2, 3] = np.nan
    loader.visual.store = {image: store[image] for image in store} | {name: broken}
    inputs, _, weights = loader(np.array([0, 5, 10]), 0)
    assert weights.tolist() == [1, 0, 1]
    assert all(np.isfinite(value).all() for value in inputs.values())
    assert "not finite" in loader.report.sentences[-1]


def test_only_the_first_regions_are_taken(data_sets, tokenizer):
    whole = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering").visual
    first = StoredRegions(whole.store, whole.processor, max_regions=2)
    name = datasets.vqa_images()[3]
    assert len(whole.get(name)) == 6
    for field in ("features", "boxes", "objects_id", "attrs_conf"):
        np.testing.assert_array_equal(getattr(first.get(name), field), getattr(whole.get(name), field)[:2])


# --- the cache, and images in TFRecords -----------------------------------------------------------------------------


def test_the_cache_keeps_what_fits():
    read = []
    cache = Cache(lambda name: read.append(name) or name * 10, len, max_bytes=25)
    for _ in range(2):
        assert [cache(name) for name in "abc"] == ["a" * 10, "b" * 10, "c" * 10]
    assert read == ["a", "b", "c", "c"]


def test_batches_from_the_cache_are_the_same(data_sets, tokenizer):
    loaders = [
        make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering", cache_bytes=size) for size in (0, 1 << 20)
    ]
    for loader in loaders:
        loader(np.arange(8), 0)
    loaders[1].visual.source = None  # nothing is read any more
    assert_equal(loaders[0](np.arange(8), 1), loaders[1](np.arange(8), 1))


def test_tfrecords_give_what_the_folder_gives(data_sets, tokenizer, tmp_path):
    folder = make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    records = make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    names = datasets.vqa_images()
    paths = [tmp_path / f"{shard}.tfrecord" for shard in (0, 1)]
    for shard, path in enumerate(paths):
        write_image_records(path, [(name, folder.visual.source.read(name)) for name in names[shard::2]])
    records.visual.source = ImageRecords(paths)
    assert_equal(folder(np.arange(20), 0), records(np.arange(20), 0))
