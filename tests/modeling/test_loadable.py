"""What `from_pretrained` does with weights of another shape, and where it looks for files."""

import shutil
import warnings

import numpy as np
import pytest
from support.checkpoint import save_tiny
from support.paths import ROOT

import tfvl
from tfvl.errors import CheckpointError
from tfvl.vilt.embeddings import resized_positions

# class, a bundled checkpoint of it, a field with another value, the weights that then start anew
MISMATCHES = [
    ("ViltModel", "shapes-vilt", {"image_size": 96}, {"embeddings/position_embeddings"}),
    (
        "ViltForQuestionAnswering",
        "shapes-vilt",
        {"vocab_size": 60},
        {"vilt/embeddings/text_embeddings/word_embeddings/embeddings"},
    ),
    (
        "ViltModel",
        "shapes-vilt",
        {"max_position_embeddings": 50, "modality_type_vocab_size": 4},
        {"embeddings/text_embeddings/position_embeddings/embeddings", "embeddings/token_type_embeddings/embeddings"},
    ),
    (
        "VisualBertForQuestionAnswering",
        "shapes-visual-bert",
        {"visual_embedding_dim": 7, "type_vocab_size": 5},
        {
            "visual_bert/embeddings/visual_projection/kernel",
            "visual_bert/embeddings/token_type_embeddings/embeddings",
            "visual_bert/embeddings/visual_token_type_embeddings/embeddings",
        },
    ),
    (
        "LxmertForQuestionAnswering",
        "shapes-lxmert",
        {"visual_feat_dim": 7, "num_labels": 3},
        {"lxmert/visual_embeddings/visn_fc/kernel", "answer_head/out/kernel", "answer_head/out/bias"},
    ),
]
# the positions of a grid of two are on the line between them, whatever its length
LINEAR = {"rtol": 1e-6, "atol": 1e-6}


@pytest.mark.parametrize(("head", "src", "changes", "new"), MISMATCHES)
def test_any_weight_of_another_shape_starts_anew(head, src, changes, new):
    model_class = getattr(tfvl, head)
    with pytest.raises(CheckpointError, match="shape: "):
        model_class.from_pretrained(src, **changes)
    with pytest.warns(UserWarning, match="newly initialised") as caught:
        model = model_class.from_pretrained(src, ignore_mismatched_sizes=True, **changes)
    (message,) = (str(warning.message) for warning in caught if "newly initialised" in str(warning.message))
    assert set(message.partition(" has no weights for ")[2].partition(f" of {head}")[0].split(", ")) == new
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        before = model_class.from_pretrained(src).weight_names()
    for path, variable in model.weight_names().items():
        assert np.isfinite(variable.numpy()).all()
        assert (path in new) or (variable.numpy() == before[path].numpy()).all()


def test_positions_of_patches_are_resized_on_demand():
    small = tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt")
    with pytest.warns(UserWarning, match=r"resized: vilt/embeddings/position_embeddings from \(1, 17, 64\) to"):
        large = tfvl.ViltForQuestionAnswering.from_pretrained(
            "shapes-vilt", image_size=(160, 128), resize_position_embeddings=True
        )
    old, new = (model.vilt.embeddings.position_embeddings.numpy() for model in (small, large))
    assert large.config.grid == (10, 8)
    np.testing.assert_array_equal(old[:, 0], new[:, 0])  # [class] has no place
    corners = [[0, 0], [0, -1], [-1, 0], [-1, -1]]
    before, after = (table[0, 1:].reshape(*grid, -1) for table, grid in ((old, (4, 4)), (new, (10, 8))))
    for row, column in corners:
        np.testing.assert_allclose(after[row, column], before[row, column], **LINEAR)
    # as the forward pass resizes them for an image of that size
    np.testing.assert_allclose(after, small.vilt.embeddings.positions(10, 8, 10, 8)[0], **LINEAR)


def test_positions_of_a_row_are_on_a_line():
    table = np.arange(3, dtype="float32").reshape(1, 3, 1)  # [class], and a grid of one row and two columns
    resized = resized_positions(table, (1, 6, 1), (1, 2), (1, 5))
    np.testing.assert_allclose(resized[0, :, 0], [0, 1, 1.25, 1.5, 1.75, 2], **LINEAR)
    with pytest.raises(ValueError, match=r"position embeddings are 3, expected 1 \+ 3 × 3"):
        resized_positions(table, (1, 6, 1), (3, 3), (1, 5))


def test_resizing_positions_is_for_patches():
    with pytest.raises(ValueError, match="is for ViLT, whose patches have positions, not LxmertModel"):
        tfvl.LxmertModel.from_pretrained("shapes-lxmert", resize_position_embeddings=True)


@pytest.mark.parametrize("options", [{}, {"num_images": 2}, {"num_images": 2, "modality_type_vocab_size": 3}])
def test_nlvr2_from_another_class(options):
    with pytest.warns(UserWarning, match=r"token_type_embeddings/embeddings from \(2, 64\) to \(3, 64\)"):
        model = tfvl.ViltForImagesAndTextClassification.from_pretrained(
            "shapes-vilt", ignore_mismatched_sizes=True, **options
        )
    table = model.vilt.embeddings.token_type_embeddings.embeddings.numpy()
    np.testing.assert_array_equal(table[1], table[2])
    assert (model.config.num_images, model.config.modality_type_vocab_size) == (2, 3)


def test_files_in_a_subfolder(tmp_path):
    """Everything that reads a checkpoint takes `subfolder`."""
    save_tiny(tmp_path / "deep" / "model")
    where = {"subfolder": "deep/model"}
    config = tfvl.ViltConfig.from_pretrained(tmp_path, hidden_dropout_prob=0.25, **where)
    assert config.hidden_dropout_prob == 0.25
    assert tfvl.ViltForQuestionAnswering.from_pretrained(tmp_path, **where).config.hidden_size == config.hidden_size
    assert tfvl.ViltImageProcessor.from_pretrained(tmp_path, **where).size == {"shortest_edge": 32}
    assert len(tfvl.BertTokenizer.from_pretrained(tmp_path, **where)) == config.vocab_size
    assert tfvl.ViltProcessor.from_pretrained(tmp_path, **where).positions == config.max_position_embeddings
    assert tfvl.auto.load(tmp_path, **where)[0].config == tfvl.ViltConfig.from_pretrained(tmp_path / "deep" / "model")
    shutil.copytree(ROOT / "tfvl/bundled/shapes-detector", tmp_path / "detector")
    assert tfvl.RegionDetector.from_pretrained(tmp_path, subfolder="detector").config.feature_size
    for missing in ("nowhere", "../.."):
        with pytest.raises(CheckpointError, match="there is no subfolder"):
            tfvl.ViltConfig.from_pretrained(tmp_path / "deep", subfolder=missing)


@pytest.mark.parametrize(
    "load",
    [
        lambda: tfvl.ViltProcessor.from_pretrained("shapes-vilt", sise=64),
        lambda: tfvl.LxmertProcessor.from_pretrained("shapes-lxmert", sise=64),
        lambda: tfvl.VisualBertProcessor.from_pretrained("shapes-visual-bert", sise=64),
        lambda: tfvl.ViltImageProcessor.from_pretrained("shapes-vilt", sise=64),
        lambda: tfvl.ViltImageProcessor.from_dict({}, sise=64),
        lambda: tfvl.ViltImageProcessor()(np.zeros((40, 40, 3), "uint8"), sise=64),
        lambda: tfvl.ViltConfig.from_pretrained("shapes-vilt", sise=64),
        lambda: tfvl.ViltModel.from_pretrained("shapes-vilt", sise=64),
        lambda: tfvl.RegionDetector.from_pretrained("shapes-detector", sise=64),
        lambda: tfvl.auto.load("shapes-vilt", sise=64),
    ],
)
def test_unknown_options_are_named(load):
    with pytest.raises((ValueError, CheckpointError), match=r"has no (option|field) sise|is no option sise"):
        load()


def test_options_of_the_parts_of_a_processor(tmp_path):
    processor = tfvl.ViltProcessor.from_pretrained("shapes-vilt", size=96, do_rescale=False, do_lower_case=False)
    assert processor.image_processor.size == {"shortest_edge": 96}
    assert not processor.image_processor.do_rescale
    assert processor.tokenizer.tokenize("Red") != ["red"]
    made = tfvl.ViltImageProcessor.from_dict({"size": 384, "crop_size": 224}, size=42, size_divisor=2)
    assert made.size == {"shortest_edge": 42}
    made.save_pretrained(tmp_path)
    assert tfvl.ViltImageProcessor.from_pretrained(tmp_path).crop_size == 224  # kept, and not read


def test_as_many_words_as_the_model_has_positions(tmp_path):
    save_tiny(tmp_path, max_position_embeddings=160)
    processor = tfvl.ViltProcessor.from_pretrained(tmp_path)
    assert processor(text=["red " * 200], max_length=160)["input_ids"].shape == (1, 160)
    with pytest.raises(ValueError, match="max_length is 161, more than the 160 positions"):
        processor(text=["red"], max_length=161)
