"""Pipelines of batches: which examples make which batch, and that any step can be repeated, resumed and shared."""

import numpy as np
import pytest
from support.tasks import assert_equal, make_loader

from tfvl.training.data.pipeline import BatchPipeline, BatchPlan, bucket_keys

# --- which examples make which batch --------------------------------------------------------------------------------


def places(plan: BatchPlan, epoch: int) -> list[list[int]]:
    return [plan.places(epoch, step).tolist() for step in range(plan.steps)]


def test_every_epoch_is_another_order_of_all():
    plan = BatchPlan(20, 4, seed=1)
    epochs = [places(plan, epoch) for epoch in (0, 1)]
    assert [sorted(np.concatenate(epoch).tolist()) for epoch in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]
    assert places(BatchPlan(20, 4, seed=1), 0) == epochs[0]
    assert places(BatchPlan(20, 4, seed=2), 0) != epochs[0]


def test_remainders_and_no_shuffling():
    assert places(BatchPlan(10, 4, shuffle=False), 7) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert places(BatchPlan(10, 4, shuffle=False, drop_remainder=False), 0)[-1] == [8, 9]


def test_buckets_hold_examples_that_are_alike():
    generator = np.random.default_rng(0)
    shapes, lengths = generator.integers(0, 3, 1003), generator.integers(1, 40, 1003)
    plan = BatchPlan(1003, 10, keys=[shapes, lengths], drop_remainder=False)
    batches = [plan.places(0, step) for step in range(plan.steps)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert [len(batch) for batch in batches] == [10] * 100 + [3]
    spread = [np.ptp(lengths[batch]) for batch in batches]
    assert np.mean([len(set(shapes[batch])) == 1 for batch in batches]) > 0.9
    assert np.median(spread) <= 3  # without keys: about 33
    means = [lengths[batch].mean() for batch in batches[:-1]]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.4  # batches come in no order of length


def test_keys_are_of_shapes_and_lengths(data_sets, tokenizer):
    shapes, lengths = bucket_keys(make_loader(data_sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification"))
    # every third file is upright (48 × 64): the first images of the pairs are files 0, 2, 4, 6
    assert shapes.tolist() == [-2, -2, 2, 2, 2, 2, -2, -2]  # round(4 · log2(48 / 64))
    assert lengths.tolist() == [4] * 8
    (lengths,) = bucket_keys(make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering"))
    assert lengths[:4].tolist() == [5, 5, 6, 7]  # "is thing 0  red?" has an empty word


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, 4), "3 examples do not fill one batch of 4"),
        ((3, 0), "batch_size is 0, expected at least 1"),
    ],
)
def test_plans_that_cannot_be(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        BatchPlan(*arguments)


# --- repeating and resuming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["LxmertForPreTraining", "ViltForPreTraining"])
def test_a_pipeline_resumes_at_any_step(model, data_sets, tokenizer):
    """A new pipeline from step 3 of epoch 1 on gives to the bit what one that never stopped gives."""

    def pipeline(workers=None, seed=0):
        loader = make_loader(data_sets, tokenizer, "pretraining", model, seed=seed)
        return BatchPipeline(loader, BatchPlan(len(loader.examples), 8, seed=seed, keys=bucket_keys(loader)), workers)

    whole = list(pipeline().dataset(epochs=2))
    assert len(whole) == 12
    resumed = list(pipeline(workers=4).dataset(epoch=1, step=3))
    assert len(resumed) == 3
    for one, other in zip(whole[9:], resumed, strict=True):
        assert_equal(one, other)
    assert_equal(whole[10], pipeline().batch(1, 4))
    others = [whole[3], pipeline(seed=1).batch(1, 3)]  # the same step of another epoch, and with another seed
    for other in others:
        assert other[0]["input_ids"].shape != whole[9][0]["input_ids"].shape or np.any(
            other[0]["input_ids"] != whole[9][0]["input_ids"]
        )


def test_masks_do_not_depend_on_the_batch(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", "ViltForMaskedLM")
    together, labels, _ = loader(np.array([4, 9, 14]), 2)
    alone, own, _ = loader(np.array([9]), 2)
    length = alone["input_ids"].shape[1]
    np.testing.assert_array_equal(together["input_ids"][1, :length], alone["input_ids"][0])
    np.testing.assert_array_equal(labels[1, :length], own[0])
    assert (own != loader(np.array([9]), 3)[1]).any()


def test_texts_of_one_length(data_sets, tokenizer):
    """For XLA: options of the tokenizer reach every text."""
    options = {"padding": "max_length", "max_length": 24}
    for task, model in (("vqa", "LxmertForQuestionAnswering"), ("retrieval", "ViltForImageAndTextRetrieval")):
        loader = make_loader(data_sets, tokenizer, task, model, text_options=options)
        assert loader(np.array([0, 1]), 0)[0]["input_ids"].shape[-1] == 24


def test_ids_of_a_batch(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering")
    pipeline = BatchPipeline(loader, BatchPlan(len(loader.examples), 5))
    expected = [loader.examples[place].id for place in pipeline.plan.places(1, 2).tolist()]
    assert pipeline.ids(1, 2) == expected
    for start in (lambda: pipeline.dataset(step=4), lambda: pipeline.ids(0, -1)):
        with pytest.raises(ValueError, match="is none of an epoch of 4 steps"):
            start()


def test_machines_share_the_rows_of_a_batch(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering")
    plan = BatchPlan(len(loader.examples), 6)
    whole, *parts = (BatchPipeline(loader, plan, shard=shard) for shard in ((0, 1), (0, 2), (1, 2)))
    for step in range(plan.steps):
        assert sorted(parts[0].ids(3, step) + parts[1].ids(3, step)) == sorted(whole.ids(3, step))
    assert [part.dataset().element_spec[2].shape.as_list() for part in (whole, *parts)] == [[6], [3], [3]]
    for shard in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match=r"which must divide the batch size of 6\."):
            BatchPipeline(loader, plan, shard=shard)


def test_the_last_batch_may_be_smaller(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering")
    pipeline = BatchPipeline(loader, BatchPlan(len(loader.examples), 16, shuffle=False, drop_remainder=False))
    batches = list(pipeline.dataset())
    assert [len(weights) for *_, weights in batches] == [16, 8]
    assert pipeline.dataset().element_spec[2].shape.as_list() == [None]
