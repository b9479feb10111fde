"""Every public model class, column by column of README's table, which tools/check/class_table.py makes of this module.

A test that compares numbers records the largest `difference` that it met.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import vilt
from support.classes import (
    BARE,
    CLASSES,
    compiled,
    dataset,
    difference,
    differences,
    family,
    flat,
    inputs_of,
    loss_of,
    pair,
    reference_loss,
    small_model,
    sources_of,
    training_example,
)
from support.export import artefact, prepare, requests, serve

import tfvl

# relative to 1 + the value; float32 has 24 bits, and sums of some dozen terms in another order differ in the last three
TOLERANCE = 1e-5
STEPS = 6

METRICS = {
    "ViltForPreTraining": ["masked_lm_accuracy", "matching_accuracy"],
    "ViltForQuestionAnswering": ["vqa_score"],
    "VisualBertForPreTraining": ["masked_lm_accuracy", "sentence_image_accuracy"],
    "VisualBertForQuestionAnswering": ["vqa_score"],
    "VisualBertForRegionToPhraseAlignment": ["alignment_accuracy"],
    "LxmertForPreTraining": ["masked_lm_accuracy", "matching_accuracy", "answer_accuracy"],
} | {head: [f"{name}_loss" for name in outputs] if len(outputs) > 1 else [] for head, outputs in BARE.items()}

every_class = pytest.mark.parametrize("head", CLASSES)


def test_there_are_sixteen_classes():
    assert len(CLASSES) == 16


def check(found: dict[str, float], record_property) -> None:
    """Records the largest of the differences, and asserts that it is within the tolerance."""
    worst = max(found, key=found.get)
    record_property("difference", f"{found[worst]:.1e}")
    assert found[worst] <= TOLERANCE, f"{worst} differs by {found[worst]:.1e}"


@pytest.fixture
def sides(monkeypatch):
    """Returns `pair`, but keeps upstream from shuffling patches and drawing padding, which changes no result."""
    torch = pytest.importorskip("torch", reason="the parity suite needs torch; pip install '.[parity]'")
    monkeypatch.setattr(torch, "multinomial", lambda weights, n, replacement=False: torch.arange(n) % len(weights))
    return pair


@pytest.mark.parity
@every_class
def test_forward(head, sides, record_property):
    """Every output, and every hidden state and attention of every block, with padded words, regions and pixels."""
    reference, model = sides(head)
    inputs = inputs_of(head)
    found = both_outputs(head, reference, model, inputs, {})
    if family(head) == "vilt":  # what the blocks make of padding patches is nobody's business
        del inputs["pixel_mask"]
        inputs["pixel_values"] = inputs["pixel_values"][..., :48, :48, :]
    everything = both_outputs(head, reference, model, inputs, {"output_attentions": True, "output_hidden_states": True})
    assert len(everything) > len(found)
    check(everything | {f"alone: {name}": value for name, value in found.items()}, record_property)


def both_outputs(head, reference, model, inputs, options) -> dict[str, float]:
    from support.reference import to_torch, torch

    with torch.no_grad():
        theirs = {name: value for name, value in reference(**to_torch(inputs), **options).items() if value is not None}
        if head == "LxmertForPreTraining":  # upstream computes these for the loss and does not return them
            regions = reference.lxmert(**to_torch(inputs)).vision_output
            theirs["visual_prediction_scores"] = reference.obj_predict_head(regions)
    ours = model(inputs, **options)
    if head == "ViltModel" and "pixel_mask" in inputs:
        real = vilt.real_positions(inputs)
        ours["last_hidden_state"] = ours["last_hidden_state"].numpy()[real]
        theirs["last_hidden_state"] = theirs["last_hidden_state"][torch.tensor(real)]
    return differences(ours, theirs)


@pytest.mark.parity
@every_class
def test_loss(head, sides, record_property):
    reference, model = sides(head)
    inputs, labels = training_example(head)
    theirs = reference_loss(head, reference, inputs, labels).detach()
    assert theirs > 0
    check({"loss": difference(loss_of(head, model, inputs, labels), theirs)}, record_property)


@pytest.mark.parity
@every_class
def test_gradient(head, sides, record_property):
    """Of every weight; relative to 1 + the largest of the weight's gradients, whose terms cancel."""
    reference, model = sides(head)
    inputs, labels = training_example(head)
    reference.zero_grad()
    reference_loss(head, reference, inputs, labels).backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters() if parameter.grad is not None}
    variables = model.weight_names()
    with tf.GradientTape() as tape:
        loss = loss_of(head, model, inputs, labels)
    gradients = tape.gradient(loss, [variable.value for variable in variables.values()])
    found, used = {}, set()
    for path, ours in zip(variables, gradients, strict=True):
        rule, names = sources_of(model, path)
        used |= set(names) & theirs.keys()
        if ours is None:
            assert not theirs.keys() & set(names), f"{path} gets no gradient"
            continue
        expected = rule.transform.forward([theirs[name].numpy() for name in names], np)
        found[path] = difference(tf.convert_to_tensor(ours), expected, largest=True)
    assert used == theirs.keys()
    check(found, record_property)


@pytest.mark.parity
@every_class
def test_port(head, sides, tmp_path):
    """Both file formats, without a warning: each variable is its sources to the bit, and every source is used."""
    from support.reference import torch

    reference, model = sides(head)
    state = reference.state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        from_pickle = getattr(tfvl, head).from_pretrained(tmp_path)
    used = set()
    for loaded in (model, from_pickle):
        for path, variable in loaded.weight_names().items():
            rule, names = sources_of(loaded, path)
            used.update(names)
            expected = rule.transform.forward([state[name].numpy() for name in names], np)
            np.testing.assert_array_equal(variable, expected, err_msg=path)
    for name in state.keys() - used:  # a tied weight, or a tensor under a second name
        assert any(torch.equal(state[name], state[other]) for other in used), name


@pytest.mark.parity
@every_class
def test_round_trip(head, sides, tmp_path):
    """What tfvl saves, transformers loads with no key missing or unexpected, and every tensor is what it was."""
    from support.reference import ViltForPreTraining, torch, transformers

    reference, model = sides(head)
    model.save_pretrained(tmp_path)
    known = "ViltForMaskedLM" if head == "ViltForPreTraining" else head  # upstream leaves the matching head behind
    loaded, info = getattr(transformers, known).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    extra = {"itm_score.fc.weight", "itm_score.fc.bias"} if head == "ViltForPreTraining" else set()
    assert set(info["unexpected_keys"]) == extra
    if extra:
        import safetensors.torch

        loaded = ViltForPreTraining(loaded.config)
        missing = loaded.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), strict=False)
        assert missing.missing_keys == ["mlm_score.decoder.weight"]  # tied
        assert not missing.unexpected_keys
    theirs = reference.state_dict()
    assert loaded.state_dict().keys() == theirs.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    of_file = {"architectures", "dtype", "_name_or_path", "transformers_version"}
    for name, value in reference.config.to_dict().items():
        assert name in of_file or getattr(loaded.config, name) == value, name


# ── without PyTorch ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def trained():
    """Returns a function from a class to its small model after some steps of `fit`, the losses, and the old weights."""
    made = {}

    def get(head):
        if head not in made:
            model = compiled(small_model(head))
            before = {variable.path: variable.numpy() for variable in model.trainable_variables}
            made[head] = model, model.fit(dataset(head), epochs=STEPS, verbose=0).history["loss"], before
        return made[head]

    return get


@every_class
def test_fit(head, trained):
    """The loss goes down, every weight is trained, a test step agrees with a call, and `fit` goes on where it was."""
    model, losses, before = trained(head)
    assert losses[-1] < losses[0]
    unchanged = [v.path for v in model.trainable_variables if np.array_equal(v, before[v.path])]
    assert not unchanged
    steps = int(model.optimizer.iterations)
    resumed = model.fit(dataset(head), epochs=2, verbose=0).history["loss"]
    assert int(model.optimizer.iterations) == steps + 2
    assert resumed[0] < losses[-1]
    model.reset_metrics()
    evaluated = model.test_step(*dataset(head))
    inputs, labels = training_example(head)
    if head in BARE:
        outputs = model(inputs)
        direct = sum(np.mean((outputs[name] - value) ** 2) for name, value in labels.items())
    else:
        direct = model(inputs | labels)["loss"]
    assert evaluated.keys() == {"loss", *METRICS.get(head, ["accuracy"])}
    np.testing.assert_allclose(evaluated["loss"], direct, rtol=TOLERANCE)


@every_class
def test_keras_file(head, trained, tmp_path):
    """The loaded model is of the class, answers the same to the bit, and goes on training as the saved one does."""
    model = trained(head)[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    inputs = inputs_of(head)
    assert set(differences(loaded(inputs), model(inputs)).values()) == {0.0}
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) >= STEPS
    found = {"metrics": max(differences(one_step(loaded, head), one_step(model, head)).values())}
    weights = zip(loaded.weights, model.weights, strict=True)
    found |= {mine.path: difference(mine, other) for mine, other in weights}
    assert max(found.values()) <= TOLERANCE, max(found, key=found.get)


def one_step(model, head) -> dict:
    """Returns loss and metrics of one training step, run without a graph, which takes longer to trace than to run."""
    model.reset_metrics()
    return model.train_step(*dataset(head))


@every_class
def test_saved_model(head, record_property):
    """Loaded again it answers raw requests, every row with the status "", and gives the Keras model's numbers."""
    outputs = artefact(head).model(prepare(head))
    served = serve(head, "tensors", **prepare(head))
    expected = {name.strip("/").replace("/", "_"): value for name, value in flat(outputs).items()}
    assert served.keys() == expected.keys()
    check({name: difference(value, expected[name]) for name, value in served.items()}, record_property)
    answers = serve(head, **requests(head))
    assert answers["status"].tolist() == [b"", b"", b""]
    assert all(value.any() for value in answers.values() if value.dtype.kind == "f")
