"""Every head gets its batches from every task's published files: their shapes, and what is in them."""

import numpy as np
import pytest
import tensorflow as tf
from support import datasets, tasks
from support.tasks import LABEL2ID, LOSS_TOLERANCE, SOURCES, TINY, make_loader, tiny_head

import tfvl
from tfvl.modeling.losses import IGNORED
from tfvl.training.data.examples import Phrase
from tfvl.training.data.loading import Loader, StoredRegions
from tfvl.training.data.masking import WordMasker
from tfvl.training.data.pipeline import BatchPlan, Pipeline
from tfvl.training.tasks import batches as collate
from tfvl.training.tasks.table import TASKS, open_examples

CASES = [(task, name) for task in SOURCES for name in TASKS[task].models]


# --- every task, every model ----------------------------------------------------------------------------------------


def head_and_batches(data_sets, tokenizer, task, model):
    loader = make_loader(data_sets, tokenizer, task, model, strict=True)
    dataset = Pipeline(loader, BatchPlan(len(loader.examples), 2)).dataset()
    head = tiny_head(model)
    head.compile()
    return head, dataset


def loss_of(head, batch):
    inputs, labels, weights = batch
    return head.compute_loss(y=labels, y_pred=head(inputs, training=False), sample_weight=weights)


@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_head_takes_its_batches(task, model, data_sets, tokenizer):
    head, dataset = head_and_batches(data_sets, tokenizer, task, model)
    first, second = (float(loss_of(head, batch)) for batch in dataset.take(2))
    assert np.isfinite([first, second]).all()
    assert min(first, second) > 0
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_head_takes_its_batches_in_a_graph(task, model, data_sets, tokenizer):
    head, dataset = head_and_batches(data_sets, tokenizer, task, model)
    graph = tf.function(lambda batch: loss_of(head, batch), input_signature=[dataset.element_spec])
    for batch in dataset.take(2):
        np.testing.assert_allclose(graph(batch), loss_of(head, batch), **LOSS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model"), [("vqa", "ViltForQuestionAnswering"), ("pretraining", "LxmertForPreTraining")]
)
def test_fit(task, model, data_sets, tokenizer):
    head, dataset = head_and_batches(data_sets, tokenizer, task, model)
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
        ("nlvr2", "VisualBertForVisualReasoning", {"visual_embeds": [2, None, datasets.FEATURE_SIZE], "labels": [2]}),
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
                "labels/obj_labels/feat/0": [2, None, datasets.FEATURE_SIZE],
                "labels/obj_labels/feat/1": [2, None],
            },
        ),
    ],
)
def test_known_sizes(task, model, expected, data_sets, tokenizer):
    """Graphs are traced with what is the same in all batches, and nothing else."""
    loader = make_loader(data_sets, tokenizer, task, model)
    inputs, labels, _ = Pipeline(loader, BatchPlan(len(loader.examples), 2)).spec
    for path, shape in expected.items():
        value = inputs | {"labels": labels}
        for name in path.split("/"):
            value = value[int(name) if isinstance(value, tuple) else name]
        assert value.shape.as_list() == shape, path


# --- what is in a batch ---------------------------------------------------------------------------------------------


def test_soft_and_single_answers(data_sets, tokenizer):
    inputs, labels, weights = make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")(np.array([2, 0]), 0)
    # question 2: three of ten say "2"; question 0: one says "yes"
    np.testing.assert_array_equal(labels, np.float32([[0, 0, 0.9, 0, 0], [0.3, 0, 0, 0, 0]]))
    assert weights.tolist() == [1, 1]
    assert tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True) == [
        "is thing 2 really really red?",
        "is thing 0 red?",
    ]
    assert inputs["pixel_values"].shape == (2, 32, 32, 3)
    _, labels, _ = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering")(np.array([2, 0]), 0)
    assert labels.tolist() == [2, 0]


def test_lxmert_is_pretrained_on_answers(tokenizer, tmp_path):
    """Captions have none; a question has that of its own image only."""
    datasets.write_karpathy(tmp_path)
    datasets.write_vqa(tmp_path)
    names = [*datasets.karpathy_images(), *datasets.vqa_images()]
    processor = tfvl.LxmertProcessor(tokenizer, datasets.FEATURE_SIZE)
    visual = StoredRegions(datasets.write_regions(tmp_path / "regions.h5", names), processor)
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
    np.testing.assert_array_equal(labels["ans"][asked & own], numbers[asked & own] % len(datasets.ANSWERS))
    head = tfvl.LxmertForPreTraining(tfvl.LxmertConfig(**TINY["Lxmert"] | {"task_qa": True}))
    inputs, labels, _ = next(iter(Pipeline(loader, BatchPlan(len(examples), 24)).dataset()))
    terms = head.loss_terms(labels, head(inputs, training=False))
    assert terms.keys() == {"labels", "matched_label", "ans", "obj", "attr", "feat"}


def test_pictures_are_those_of_the_example(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification")
    inputs, labels, _ = loader(np.array([5]), 0)
    pair = [datasets.write_images(data_sets / "nlvr2/images", []) / f"dev-1-0-img{side}.jpg" for side in (0, 1)]
    np.testing.assert_array_equal(inputs["pixel_values"], loader.processor(images=[pair])["pixel_values"])
    assert inputs["pixel_values"].shape[:2] == (1, 2)
    assert labels.tolist() == [0]


def test_choices_of_vcr(data_sets, tokenizer):
    inputs, labels, _ = make_loader(data_sets, tokenizer, "vcr-rationale", "VisualBertForMultipleChoice")(
        np.array([3, 1]), 0
    )
    assert inputs["input_ids"].shape[:2] == (2, 4)
    text = tokenizer.decode(inputs["input_ids"][0, 2], skip_special_tokens=True)
    assert text == "does casey see the car near riley casey? no jessie does not. jessie left."
    assert labels.tolist() == [3, 1]


def test_phrases_are_read_at_their_last_token(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment")
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


def test_phrases_that_are_cut_off_have_no_target(data_sets):
    short = tasks.tokenizer(8)  # [CLS] a young man in a blue [SEP]
    loader = make_loader(data_sets, short, "entities", "VisualBertForRegionToPhraseAlignment")
    boxes = np.float32([[10, 10, 50, 90], [10, 30, 50, 60]]) / 100  # of the man and of his shirt
    regions = tfvl.Regions(np.ones((2, datasets.FEATURE_SIZE)), boxes, width=100, height=100)
    loader.visual.store = {"36979": regions}
    inputs, targets, _ = loader(np.array([0]), 0)
    assert inputs["region_to_phrase_position"].tolist() == [[3, -1]]
    assert targets.tolist() == [[[1, 0], [0, 0]]]


def test_ranking_puts_the_true_text_first(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval")
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


def test_vilt_pretraining_swaps_half_of_the_texts_and_hides_words_of_the_others(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", "ViltForPreTraining")
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


def test_visual_bert_pretraining_joins_two_captions(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", "VisualBertForPreTraining")
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


def test_lxmert_pretraining_labels_regions(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "pretraining", "LxmertForPreTraining")
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
