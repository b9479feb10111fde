"""Pre-training: what is hidden, swapped, and asked about regions and answers."""

import numpy as np
from support import datasets
from support.tasks import LABEL2ID, TINY, make_loader

import tfvl
from tfvl.modeling.losses import IGNORED
from tfvl.training.data.loading import StoredRegions
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan
from tfvl.training.tasks.table import TASKS


def many(loader, epochs: int = 8):
    """Yields every example in several epochs, with its row of inputs, the labels, and the row's index."""
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


def test_lxmert_is_pretrained_on_answers(tokenizer, tmp_path):
    """Captions have none; a question has that of its own image only."""
    datasets.write_karpathy(tmp_path)
    datasets.write_vqa(tmp_path)
    names = [*datasets.karpathy_images(), *datasets.vqa_images()]
    processor = tfvl.LxmertProcessor(tokenizer, datasets.FEATURE_SIZE)
    visual = StoredRegions(datasets.write_regions(tmp_path / "regions.h5", names), processor)
    task = TASKS["pretraining-questions"]
    examples = task.examples(tmp_path, "train", images=visual, strict=True)
    loader = task.loader(tfvl.LxmertForPreTraining, examples, visual, processor, LABEL2ID)
    _, labels, _ = loader(np.arange(len(examples)), 0)
    asked = np.array([bool(examples[place].answers) for place in range(len(examples))])
    assert asked.sum() == 24
    own = labels["matched_label"] == 1
    assert (labels["ans"][~asked | ~own] == IGNORED).all()
    numbers = np.array([int(examples[place].id) % 1000 for place in range(len(examples))])
    np.testing.assert_array_equal(labels["ans"][asked & own], numbers[asked & own] % len(datasets.ANSWERS))
    head = tfvl.LxmertForPreTraining(tfvl.LxmertConfig(**TINY["Lxmert"] | {"task_qa": True}))
    inputs, labels, _ = next(iter(BatchPipeline(loader, BatchPlan(len(examples), 24)).dataset()))
    terms = head.loss_terms(labels, head(inputs, training=False))
    assert terms.keys() == {"labels", "matched_label", "ans", "obj", "attr", "feat"}
