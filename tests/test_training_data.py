"""Pipelines from published files to batches: what each head gets, that any step can be repeated, and what fails."""

from pathlib import Path

import helpers_datasets as made
import numpy as np
import pytest
import tensorflow as tf
from helpers_vilt import randomise

import tfvl
from tfvl.training import collate
from tfvl.training.data import BatchPlan, Pipeline, bucket_keys
from tfvl.training.examples import Phrase, Report
from tfvl.training.images import ImageFolder, ImageRecords, write_image_records
from tfvl.training.loading import Cache, Loader, Pictures, StoredRegions
from tfvl.training.losses import IGNORED
from tfvl.training.masking import WordMasker
from tfvl.training.tasks import TASKS, open_examples

VOCABULARY = Path(tfvl.__file__).parent / "bundled" / "bert-base-uncased" / "vocab.txt"
LABEL2ID = {answer: place for place, answer in enumerate(made.ANSWERS)}
# the same float32 sums over a batch of another size, in another order
LOSS_TOLERANCE = {"rtol": 1e-4}

SOURCES = {  # task: split, what writes its files, the names of its images
    "vqa": ("train", made.write_vqa, made.vqa_images()),
    "gqa": ("train_balanced", made.write_gqa, ["2000", "2001", "2002"]),
    "nlvr2": ("dev", made.write_nlvr2, made.nlvr2_images()),
    "retrieval": ("train", made.write_karpathy, made.karpathy_images()),
    "vcr-answer": ("val", made.write_vcr, [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)]),
    "vcr-rationale": ("val", made.write_vcr, [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)]),
    "entities": ("val", made.write_entities, ["36979", "65567"]),
    "pretraining": ("train", made.write_karpathy, made.karpathy_images()),
}
CASES = [(task, name) for task in SOURCES for name in TASKS[task].models]
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
        "visual_embedding_dim": made.FEATURE_SIZE,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "Lxmert": {
        "hidden_size": 12,
        "visual_feat_dim": made.FEATURE_SIZE,
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


@pytest.fixture(scope="module")
def tokenizer():
    return tfvl.BertTokenizer(VOCABULARY, model_max_length=40)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Every data set, with pictures and regions, in a directory of its own."""
    root = tmp_path_factory.mktemp("datasets")
    for task, (_, write, names) in SOURCES.items():
        write(root / task)
        made.write_images(root / task / "images", names)
        made.write_regions(root / task / "regions.h5", names).close()
    return root


def family_of(model: str) -> str:
    return next(family for family in TINY if model.startswith(family))


def build(
    directory: Path, tokenizer, task: str, model: str, *, cache_bytes: int = 0, strict=False, **options
) -> Loader:
    root, family = directory / task, family_of(model)
    if family == "Vilt":
        image_processor = tfvl.ViltImageProcessor(size=32, size_divisor=16)
        visual = Pictures(ImageFolder(root / "images"), image_processor, cache_bytes)
        processor = tfvl.ViltProcessor(image_processor, tokenizer)
    else:
        processor = getattr(tfvl, f"{family}Processor")(tokenizer, made.FEATURE_SIZE)
        visual = StoredRegions(tfvl.RegionStore(root / "regions.h5"), processor, cache_bytes=cache_bytes)
    description = TASKS[task]
    label2id = LABEL2ID if description.answers else None
    examples = open_examples(task, root, SOURCES[task][0], images=visual, label2id=label2id, strict=strict)
    masker = WordMasker.from_tokenizer(tokenizer, whole_words=model in description.whole_words)
    return Loader(
        examples,
        visual,
        processor,
        description.models[model],
        label2id=label2id,
        num_labels=len(LABEL2ID),
        masker=masker,
        **options,
    )


def tiny_model(model: str):
    """With random weights, so that other inputs give other losses."""
    labels = {"num_labels": 5} if "Lxmert" not in model else {}
    if "ImagesAndText" in model or "VisualReasoning" in model:
        labels = {"num_labels": 2}
    model_class = getattr(tfvl, model)
    head = model_class(model_class.config_class(**TINY[family_of(model)] | labels))
    randomise(head)
    return head


def flat(batch) -> list[np.ndarray]:
    return [np.asarray(value) for value in tf.nest.flatten(batch)]


def assert_equal(one, other) -> None:
    one, other = flat(one), flat(other)
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


# --- every task, every model ----------------------------------------------------------------------------------------


def head_and_batches(directory, tokenizer, task, model):
    loader = build(directory, tokenizer, task, model, strict=True)
    dataset = Pipeline(loader, BatchPlan(len(loader.examples), 2)).dataset()
    head = tiny_model(model)
    head.compile()
    return head, dataset


def loss_of(head, batch):
    inputs, labels, weights = batch
    return head.compute_loss(y=labels, y_pred=head(inputs, training=False), sample_weight=weights)


@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_head_takes_its_batches(task, model, directory, tokenizer):
    head, dataset = head_and_batches(directory, tokenizer, task, model)
    first, second = (float(loss_of(head, batch)) for batch in dataset.take(2))
    assert np.isfinite([first, second]).all()
    assert min(first, second) > 0
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_head_takes_its_batches_in_a_graph(task, model, directory, tokenizer):
    head, dataset = head_and_batches(directory, tokenizer, task, model)
    graph = tf.function(lambda batch: loss_of(head, batch), input_signature=[dataset.element_spec])
    for batch in dataset.take(2):
        np.testing.assert_allclose(graph(batch), loss_of(head, batch), **LOSS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model"), [("vqa", "ViltForQuestionAnswering"), ("pretraining", "LxmertForPreTraining")]
)
def test_fit(task, model, directory, tokenizer):
    head, dataset = head_and_batches(directory, tokenizer, task, model)
    history = head.fit(dataset, verbose=0, shuffle=False).history
    assert np.isfinite([values[-1] for values in history.values()]).all()
    assert history["loss"][0] > 0


@pytest.mark.parametrize(
    ("task", "model", "expected"),
    [
        ("vqa", "ViltForQuestionAnswering", {"pixel_values": [2, None, None, 3], "labels": [2, 5]}),
        (
            "nlvr2",
            "ViltForImagesAndTextClassification",
            {"pixel_values": [2, 2, None, None, 3], "pixel_mask": [2, 2, None, None], "labels": [2]},
        ),
        ("nlvr2", "VisualBertForVisualReasoning", {"visual_embeds": [2, None, made.FEATURE_SIZE], "labels": [2]}),
        ("retrieval", "ViltForImageAndTextRetrieval", {"input_ids": [2, 16, None], "labels": [2]}),
        ("vcr-answer", "VisualBertForMultipleChoice", {"input_ids": [2, 4, None], "labels": [2]}),
        ("entities", "VisualBertForRegionToPhraseAlignment", {"labels": [2, None, None]}),
        ("pretraining", "ViltForMaskedLM", {"input_ids": [2, None], "labels": [2, None]}),
        ("pretraining", "ViltForPreTraining", {"labels/labels": [2, None], "labels/matched_label": [2]}),
        ("pretraining", "VisualBertForPreTraining", {"labels/labels": [2, None], "labels/sentence_image_labels": [2]}),
        (
            "pretraining",
            "LxmertForPreTraining",
            {
                "visual_pos": [2, None, 4],
                "labels/obj_labels/obj/0": [2, None],
                "labels/obj_labels/attr/1": [2, None],
                "labels/obj_labels/feat/0": [2, None, made.FEATURE_SIZE],
                "labels/obj_labels/feat/1": [2, None],
            },
        ),
    ],
)
def test_known_sizes(task, model, expected, directory, tokenizer):
    """Graphs are traced with what is the same in all batches, and nothing else."""
    loader = build(directory, tokenizer, task, model)
    inputs, labels, _ = Pipeline(loader, BatchPlan(len(loader.examples), 2)).spec
    for path, shape in expected.items():
        value = inputs | {"labels": labels}
        for name in path.split("/"):
            value = value[int(name) if isinstance(value, tuple) else name]
        assert value.shape.as_list() == shape, path


# --- what is in a batch ---------------------------------------------------------------------------------------------


def test_soft_and_single_answers(directory, tokenizer):
    inputs, labels, weights = build(directory, tokenizer, "vqa", "ViltForQuestionAnswering")(np.array([2, 0]), 0)
    # question 2: three of ten say "2"; question 0: one says "yes"
    np.testing.assert_array_equal(labels, np.float32([[0, 0, 0.9, 0, 0], [0.3, 0, 0, 0, 0]]))
    assert weights.tolist() == [1, 1]
    assert tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True) == [
        "is thing 2 really really red?",
        "is thing 0 red?",
    ]
    assert inputs["pixel_values"].shape == (2, 32, 32, 3)
    _, labels, _ = build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering")(np.array([2, 0]), 0)
    assert labels.tolist() == [2, 0]


def test_lxmert_is_pretrained_on_answers(tokenizer, tmp_path):
    """Captions have none; a question has that of its own image only."""
    made.write_karpathy(tmp_path)
    made.write_vqa(tmp_path)
    names = [*made.karpathy_images(), *made.vqa_images()]
    processor = tfvl.LxmertProcessor(tokenizer, made.FEATURE_SIZE)
    visual = StoredRegions(made.write_regions(tmp_path / "regions.h5", names), processor)
    examples = open_examples("pretraining-questions", tmp_path, "train", images=visual, strict=True)
    masker = WordMasker.from_tokenizer(tokenizer)
    make = TASKS["pretraining-questions"].models["LxmertForPreTraining"]
    loader = Loader(examples, visual, processor, make, label2id=LABEL2ID, num_labels=5, masker=masker)
    _, labels, _ = loader(np.arange(len(examples)), 0)
    asked = np.array([bool(examples[place].answers) for place in range(len(examples))])
    assert asked.sum() == 24
    own = labels["matched_label"] == 1
    assert (labels["ans"][~asked | ~own] == IGNORED).all()
    numbers = np.array([int(examples[place].id) % 1000 for place in range(len(examples))])
    np.testing.assert_array_equal(labels["ans"][asked & own], numbers[asked & own] % len(made.ANSWERS))
    head = tfvl.LxmertForPreTraining(tfvl.LxmertConfig(**TINY["Lxmert"] | {"task_qa": True}))
    inputs, labels, _ = next(iter(Pipeline(loader, BatchPlan(len(examples), 24)).dataset()))
    terms = head.loss_terms(labels, head(inputs, training=False))
    assert terms.keys() == {"labels", "matched_label", "ans", "obj", "attr", "feat"}


def test_pictures_are_those_of_the_example(directory, tokenizer):
    loader = build(directory, tokenizer, "nlvr2", "ViltForImagesAndTextClassification")
    inputs, labels, _ = loader(np.array([5]), 0)
    pair = [made.write_images(directory / "nlvr2/images", []) / f"dev-1-0-img{side}.jpg" for side in (0, 1)]
    np.testing.assert_array_equal(inputs["pixel_values"], loader.processor(images=[pair])["pixel_values"])
    assert inputs["pixel_values"].shape[:2] == (1, 2)
    assert labels.tolist() == [0]


def test_choices_of_vcr(directory, tokenizer):
    inputs, labels, _ = build(directory, tokenizer, "vcr-rationale", "VisualBertForMultipleChoice")(np.array([3, 1]), 0)
    assert inputs["input_ids"].shape[:2] == (2, 4)
    text = tokenizer.decode(inputs["input_ids"][0, 2], skip_special_tokens=True)
    assert text == "does casey see the car near riley casey? no jessie does not. jessie left."
    assert labels.tolist() == [3, 1]


def test_phrases_are_read_at_their_last_token(directory, tokenizer):
    loader = build(directory, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment")
    inputs, targets, _ = loader(np.array([0, 1]), 0)
    positions = inputs["region_to_phrase_position"]
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"]]
    read = [[tokens[row][place] for place in positions[row] if place >= 0] for row in (0, 1)]
    assert read == [["man", "shirt"], ["people"]]
    assert positions[1, 1] == -1
    for row, place in enumerate((0, 1)):
        example = loader.examples[place]
        matches = collate.phrase_matches(example.phrases, loader.visual.get(example.images[0]))
        expected = matches / np.maximum(matches.sum(axis=1, keepdims=True), 1)
        np.testing.assert_array_equal(targets[row, : len(matches), : matches.shape[1]], np.float32(expected))


def test_phrases_match_regions_in_pixels():
    boxes = np.float32([[10, 10, 50, 90], [60, 10, 90, 95], [0, 0, 5, 5]]) / 100
    regions = tfvl.Regions(np.ones((3, 2)), boxes, width=100, height=100)
    phrases = [Phrase(0, 0, ((10, 10, 50, 90), (60, 10, 90, 90))), Phrase(1, 1, ((40, 40, 50, 50),))]
    assert collate.phrase_matches(phrases, regions).tolist() == [[True, True, False], [False] * 3]
    with pytest.raises(ValueError, match="need boxes, and the image's width and height"):
        collate.phrase_matches(phrases, tfvl.Regions(np.ones((3, 2)), boxes))


def test_phrases_that_are_cut_off_have_no_target(directory):
    short = tfvl.BertTokenizer(VOCABULARY, model_max_length=8)  # [CLS] a young man in a blue [SEP]
    loader = build(directory, short, "entities", "VisualBertForRegionToPhraseAlignment")
    boxes = np.float32([[10, 10, 50, 90], [10, 30, 50, 60]]) / 100  # of the man and of his shirt
    regions = tfvl.Regions(np.ones((2, made.FEATURE_SIZE)), boxes, width=100, height=100)
    loader.visual.store = {"36979": regions}
    inputs, targets, _ = loader(np.array([0]), 0)
    assert inputs["region_to_phrase_position"].tolist() == [[3, -1]]
    assert targets.tolist() == [[[1, 0], [0, 0]]]


def test_ranking_puts_the_true_text_first(directory, tokenizer):
    loader = build(directory, tokenizer, "retrieval", "ViltForImageAndTextRetrieval")
    inputs, labels, _ = loader(np.array([7, 30]), 0)
    assert inputs["input_ids"].shape[:2] == inputs["attention_mask"].shape[:2] == (2, 16)
    assert labels.tolist() == [0, 0]
    for row, place in enumerate((7, 30)):
        texts = tokenizer.batch_decode(inputs["input_ids"][row], skip_special_tokens=True)
        assert texts[0].replace(" ", "") == loader.examples[place].text.lower().replace(" ", "")
        own = f"a photo {place // 5} of"
        assert not any(text.startswith(own) for text in texts[1:])
        assert len(set(texts[1:])) > 5


def many(loader, epochs: int = 8):
    """Every example in several epochs: the example, row of inputs and labels."""
    for epoch in range(epochs):
        inputs, labels, _ = loader(np.arange(len(loader.examples)), epoch)
        for row in range(len(loader.examples)):
            yield loader.examples[row], {n: v[row] for n, v in inputs.items()}, {n: labels[n] for n in labels}, row


def test_vilt_pretraining_swaps_half_of_the_texts_and_hides_words_of_the_others(directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", "ViltForPreTraining")
    matches = []
    for example, inputs, labels, row in many(loader):
        hidden = labels["labels"][row] != IGNORED
        ids = np.where(hidden, labels["labels"][row], inputs["input_ids"])
        shown = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
        matched = labels["matched_label"][row] == 1
        assert (shown == example.text.lower().replace(" ", "")) == matched
        assert hidden.any() == matched
        matches.append(matched)
    assert 0.38 < np.mean(matches) < 0.62  # 400 draws of 1/2: five standard deviations


def test_visual_bert_pretraining_joins_two_captions(directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", "VisualBertForPreTraining")
    unmatched = []
    for example, inputs, labels, row in many(loader):
        words = len(inputs["input_ids"])
        assert labels["labels"].shape[1] == words + len(inputs["visual_embeds"])
        assert (labels["labels"][row, words:] == IGNORED).all()
        hidden = labels["labels"][row, :words]
        ids = np.where(hidden != IGNORED, hidden, inputs["input_ids"])
        second = tokenizer.decode(ids[inputs["token_type_ids"] == 1], skip_special_tokens=True).replace(" ", "")
        number = example.text.split()[2]
        assert (second.startswith(f"aphoto{number}of")) == (labels["sentence_image_labels"][row] == 0)
        assert second != example.text.lower().replace(" ", "")
        unmatched.append(labels["sentence_image_labels"][row])
    assert 0.38 < np.mean(unmatched) < 0.62


def test_lxmert_pretraining_labels_regions(directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", "LxmertForPreTraining")
    changed = []
    for epoch in range(6):
        inputs, labels, _ = loader(np.array([0, 5, 10, 15]), epoch)
        for row, place in enumerate((0, 5, 10, 15)):
            regions = loader.visual.get(loader.examples[place].images[0])
            count = len(regions)
            objects = labels["obj_labels"]
            np.testing.assert_array_equal(objects["obj"][0][row, :count], regions.objects_id)
            np.testing.assert_array_equal(objects["attr"][1][row, :count], regions.attrs_conf)
            np.testing.assert_array_equal(objects["feat"][0][row, :count], regions.features)
            assert (objects["obj"][0][row, count:] == IGNORED).all()
            assert not any(pair[1][row, count:].any() for pair in objects.values())
            assert not objects["feat"][0][row, count:].any()
            assert not inputs["visual_feats"][row, count:].any()
            differs = (inputs["visual_feats"][row, :count] != regions.features).any(axis=1)
            assert not (differs & (objects["feat"][1][row, :count] == 0)).any()
            changed.append(differs.sum())
    assert 0 < np.sum(changed) < 0.4 * 6 * 4 * 6


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


def test_keys_are_of_shapes_and_lengths(directory, tokenizer):
    shapes, lengths = bucket_keys(build(directory, tokenizer, "nlvr2", "ViltForImagesAndTextClassification"))
    # every third file is upright (48 × 64): the first images of the pairs are files 0, 2, 4, 6
    assert shapes.tolist() == [-2, -2, 2, 2, 2, 2, -2, -2]  # round(4 · log2(48 / 64))
    assert lengths.tolist() == [4] * 8
    (lengths,) = bucket_keys(build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering"))
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
def test_a_pipeline_resumes_at_any_step(model, directory, tokenizer):
    """A new pipeline from step 3 of epoch 1 on gives to the bit what one that never stopped gives."""

    def pipeline(workers=None, seed=0):
        loader = build(directory, tokenizer, "pretraining", model, seed=seed)
        return Pipeline(loader, BatchPlan(len(loader.examples), 8, seed=seed, keys=bucket_keys(loader)), workers)

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


def test_masks_do_not_depend_on_the_batch(directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", "ViltForMaskedLM")
    together, labels, _ = loader(np.array([4, 9, 14]), 2)
    alone, own, _ = loader(np.array([9]), 2)
    length = alone["input_ids"].shape[1]
    np.testing.assert_array_equal(together["input_ids"][1, :length], alone["input_ids"][0])
    np.testing.assert_array_equal(labels[1, :length], own[0])
    assert (own != loader(np.array([9]), 3)[1]).any()


def test_texts_of_one_length(directory, tokenizer):
    """For XLA: options of the tokenizer reach every text."""
    options = {"padding": "max_length", "max_length": 24}
    for task, model in (("vqa", "LxmertForQuestionAnswering"), ("retrieval", "ViltForImageAndTextRetrieval")):
        loader = build(directory, tokenizer, task, model, text_options=options)
        assert loader(np.array([0, 1]), 0)[0]["input_ids"].shape[-1] == 24


def test_ids_of_a_batch(directory, tokenizer):
    loader = build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering")
    pipeline = Pipeline(loader, BatchPlan(len(loader.examples), 5))
    expected = [loader.examples[place].id for place in pipeline.plan.places(1, 2).tolist()]
    assert pipeline.ids(1, 2) == expected
    for start in (lambda: pipeline.dataset(step=4), lambda: pipeline.ids(0, -1)):
        with pytest.raises(ValueError, match="is none of an epoch of 4 steps"):
            start()


def test_machines_share_the_rows_of_a_batch(directory, tokenizer):
    loader = build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering")
    plan = BatchPlan(len(loader.examples), 6)
    whole, *parts = (Pipeline(loader, plan, shard=shard) for shard in ((0, 1), (0, 2), (1, 2)))
    for step in range(plan.steps):
        assert sorted(parts[0].ids(3, step) + parts[1].ids(3, step)) == sorted(whole.ids(3, step))
    assert [part.dataset().element_spec[2].shape.as_list() for part in (whole, *parts)] == [[6], [3], [3]]
    for shard in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match=r"which must divide the batch size of 6\."):
            Pipeline(loader, plan, shard=shard)


def test_the_last_batch_may_be_smaller(directory, tokenizer):
    loader = build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering")
    pipeline = Pipeline(loader, BatchPlan(len(loader.examples), 16, shuffle=False, drop_remainder=False))
    batches = list(pipeline.dataset())
    assert [len(weights) for *_, weights in batches] == [16, 8]
    assert pipeline.dataset().element_spec[2].shape.as_list() == [None]


# --- images that fail while training --------------------------------------------------------------------------------


def torn(directory: Path, tmp_path: Path, name: str) -> Path:
    """A copy of the VQA data with one JPEG cut off in the middle."""
    made.write_vqa(tmp_path / "vqa")
    made.write_images(tmp_path / "vqa" / "images", made.vqa_images())
    file = tmp_path / "vqa" / "images" / f"{name}.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    return tmp_path


def test_a_torn_image_weighs_nothing_and_is_reported_once(directory, tmp_path, tokenizer):
    name = made.vqa_images()[1]  # of questions 2 and 3
    loader = build(torn(directory, tmp_path, name), tokenizer, "vqa", "ViltForQuestionAnswering")
    whole = build(directory, tokenizer, "vqa", "ViltForQuestionAnswering")
    batch, same = np.array([0, 2, 8]), np.array([0, 8])
    (inputs, labels, weights), (expected, targets, _) = loader(batch, 0), whole(same, 0)
    loader(batch, 1)
    assert weights.tolist() == [1, 0, 1]
    assert loader.report.counts == {"images that fail": 1}
    assert f"image '{name}'" in loader.report.sentences[0]
    np.testing.assert_array_equal(inputs["pixel_mask"][[0, 2]].sum((1, 2)), expected["pixel_mask"].sum((1, 2)))
    head = tiny_model("ViltForQuestionAnswering")
    head.compile()
    losses = [
        head.compute_loss(y=y, y_pred=head(x), sample_weight=w)
        for x, y, w in ((inputs, labels, weights), (expected, targets, np.ones(2, np.float32)))
    ]
    np.testing.assert_allclose(*losses, **LOSS_TOLERANCE)


def test_an_image_too_thin_to_resize_weighs_nothing(tokenizer, tmp_path):
    made.write_vqa(tmp_path / "vqa")
    made.write_images(tmp_path / "vqa" / "images", made.vqa_images())
    (tmp_path / "vqa" / "images" / f"{made.vqa_images()[4]}.jpg").write_bytes(made.jpeg(0, 800, 8))
    loader = build(tmp_path, tokenizer, "vqa", "ViltForQuestionAnswering")
    _, _, weights = loader(np.array([0, 8, 2, 9]), 0)
    assert [loader.examples[place].images[0] for place in (8, 9)] == [made.vqa_images()[4]] * 2
    assert weights.tolist() == [1, 0, 1, 0]
    assert "example 13008: images[0]: 8 x 800 pixels is too long and thin" in loader.report.sentences[0]


def test_a_torn_image_is_refused_where_strict(directory, tmp_path, tokenizer):
    root = torn(directory, tmp_path, made.vqa_images()[1])
    loader = build(root, tokenizer, "vqa", "ViltForQuestionAnswering")
    loader.report = Report(strict=True)
    with pytest.raises(ValueError, match=r"example 10002: image 'COCO_train2014_000000000010': .* cannot be decoded"):
        loader(np.array([2]), 0)


def test_regions_that_fail_weigh_nothing(directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", "LxmertForPreTraining")
    store = loader.visual.store
    empty = tfvl.Regions(np.zeros((0, made.FEATURE_SIZE)), image_id="empty")
    loader.visual.store = {name: store[name] for name in store} | {loader.examples[0].images[0]: empty}
    inputs, labels, weights = loader(np.array([0, 10]), 0)
    assert weights.tolist() == [0, 1]
    assert "has no regions" in loader.report.sentences[-1]
    assert inputs["visual_attention_mask"][0].sum() == 1
    assert not labels["obj_labels"]["obj"][1][0].any()


@pytest.mark.parametrize("model", ["LxmertForPreTraining", "VisualBertForPreTraining"])
def test_features_that_are_not_finite_weigh_nothing(model, directory, tokenizer):
    loader = build(directory, tokenizer, "pretraining", model)
    store = loader.visual.store
    name = loader.examples[5].images[0]
    broken = made.made_regions(name, 1, 4)
    broken.features[2, 3] = np.nan
    loader.visual.store = {image: store[image] for image in store} | {name: broken}
    inputs, _, weights = loader(np.array([0, 5, 10]), 0)
    assert weights.tolist() == [1, 0, 1]
    assert all(np.isfinite(value).all() for value in inputs.values())
    assert "not finite" in loader.report.sentences[-1]


def test_only_the_first_regions_are_taken(directory, tokenizer):
    whole = build(directory, tokenizer, "vqa", "LxmertForQuestionAnswering").visual
    first = StoredRegions(whole.store, whole.processor, max_regions=2)
    name = made.vqa_images()[3]
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


def test_batches_from_the_cache_are_the_same(directory, tokenizer):
    loaders = [
        build(directory, tokenizer, "vqa", "ViltForQuestionAnswering", cache_bytes=size) for size in (0, 1 << 20)
    ]
    for loader in loaders:
        loader(np.arange(8), 0)
    loaders[1].visual.source = None  # nothing is read any more
    assert_equal(loaders[0](np.arange(8), 1), loaders[1](np.arange(8), 1))


def test_tfrecords_give_what_the_folder_gives(directory, tokenizer, tmp_path):
    folder = build(directory, tokenizer, "vqa", "ViltForQuestionAnswering")
    records = build(directory, tokenizer, "vqa", "ViltForQuestionAnswering")
    names = made.vqa_images()
    paths = [tmp_path / f"{shard}.tfrecord" for shard in (0, 1)]
    for shard, path in enumerate(paths):
        write_image_records(path, [(name, folder.visual.source.read(name)) for name in names[shard::2]])
    records.visual.source = ImageRecords(paths)
    assert_equal(folder(np.arange(20), 0), records(np.arange(20), 0))
