"""`tfvl port --check` where PyTorch is installed: no difference where there is none, and one where there is."""

import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch")
pytest.importorskip("transformers", reason="compares with transformers")

from support.checkpoint import save_tiny, tiny_model  # noqa: E402  # TensorFlow comes after PyTorch
from support.region_models import save_tiny_region_model, tiny_region_processor  # noqa: E402

from tfvl.cli import app as cli  # noqa: E402
from tfvl.cli import parity  # noqa: E402

pytestmark = pytest.mark.parity

SAME = 1e-5  # relative to 1 + the largest value: float32 sums in another order, at hidden size 12
NLVR2 = {"num_images": 2, "modality_type_vocab_size": 3}


@pytest.mark.parametrize(
    ("class_name", "config", "output"),
    [
        ("ViltForQuestionAnswering", {}, "logits"),
        ("ViltForPreTraining", {}, "prediction_logits"),
        ("ViltForImagesAndTextClassification", NLVR2, "logits"),
        ("ViltModel", {}, "last_hidden_state"),
        ("VisualBertForPreTraining", {}, "prediction_logits"),
        ("VisualBertForMultipleChoice", {}, "logits"),
        ("VisualBertForRegionToPhraseAlignment", {}, "logits"),
        ("LxmertForPreTraining", {}, "prediction_logits"),
    ],
)
def test_port_check_prints_the_difference(capsys, tmp_path, class_name, config, output):
    (save_tiny if class_name.startswith("Vilt") else save_tiny_region_model)(tmp_path / "src", class_name, **config)
    assert cli.main(["port", str(tmp_path / "src"), str(tmp_path / "dst"), "--check"]) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    difference, largest = next((float(row[1]), float(row[2])) for row in rows if row[:1] == [output])
    assert difference < SAME * (1 + largest)
    assert largest > 100 * SAME


def test_another_model_is_different(tmp_path):
    save_tiny(tmp_path)
    model = tiny_model()
    model.classifier.out.bias.assign_add([1.0, 0.0, 0.0])
    (row,) = parity.compare(model, tmp_path)
    assert row.difference == pytest.approx(1.0, abs=SAME)


def test_checkpoint_that_transformers_cannot_load(tmp_path):
    with pytest.raises(ValueError, match=f"transformers cannot run {tmp_path}: OSError"):
        parity.compare(tiny_model(), tmp_path)


@pytest.mark.parametrize("family", ["VisualBert", "Lxmert"])
def test_transformers_reads_the_tokenizer_that_the_processor_wrote(tmp_path, family):
    import transformers

    save_tiny_region_model(tmp_path, f"{family}Model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pairs = ["the red circles?", "[MASK] is blue"], ["what", "a squares of"]
    encoded = theirs(*pairs, padding=True, return_tensors="np")
    for name, value in tiny_region_processor(family)(*pairs).items():
        assert value.numpy().tolist() == encoded[name].tolist()
    assert theirs.model_max_length == 13
