"""Grid features: right numbers from CNNs and transformers, the same everywhere, trained from pixels, refused well."""

import contextlib
import io
import json
import math
import os
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvl
from tfvl import auto, shapes
from tfvl.errors import CheckpointError
from tfvl.processors.grid_images import scaling_of

SIDE, GRID, WIDTH = 32, (3, 4), 12
TEXT = "how many objects are there?"
TOLERANCE = {"rtol": 0, "atol": 1e-5}  # the same float32 sums, of another batch


def tiny_cnn(name: str = "cnn", scaled: bool = True) -> keras.Model:
    """Makes a network with maps of 8 x 8 and 12 channels, and a head that grid features leave out."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            *([layers.Rescaling(1 / 127.5, -1.0)] if scaled else []),
            layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(WIDTH, 3, 2, padding="same", name="last"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ],
        name=name,
    )


class ClassToken(keras.layers.Layer):
    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal")

    def call(self, tokens):
        token = keras.ops.repeat(self.token, keras.ops.shape(tokens)[0], axis=0)
        return keras.ops.concatenate([token, tokens], axis=1)

    def compute_output_shape(self, shape):
        return shape[0], shape[1] + 1, shape[2]


def tiny_vit() -> keras.Model:
    """Makes a network with a class token and 4 x 4 patches of width 12, after one block of attention."""
    layers = keras.layers
    pixels = keras.Input((SIDE, SIDE, 3))
    patches = layers.Conv2D(WIDTH, 8, 8, name="patches")(layers.Rescaling(1 / 255)(pixels))
    tokens = ClassToken()(layers.Reshape((16, WIDTH))(patches))
    attended = layers.LayerNormalization(name="norm")(tokens + layers.MultiHeadAttention(2, 6)(tokens, tokens))
    return keras.Model(pixels, layers.Dense(3)(attended[:, 0]), name="vit")


@pytest.fixture(scope="module", autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def cnn():
    return tiny_cnn()


@pytest.fixture(scope="module")
def grid(cnn):
    return tfvl.GridFeatures(cnn, grid=GRID)


@pytest.fixture(scope="module")
def lxmert():
    few = {"l_layers": 1, "x_layers": 1, "r_layers": 0}
    config = tfvl.LxmertConfig.from_pretrained("shapes-lxmert", overrides={"visual_feat_dim": WIDTH, **few})
    return tfvl.LxmertForQuestionAnswering(config)


@pytest.fixture(scope="module")
def processor(grid):
    return tfvl.LxmertProcessor(auto.load("shapes-lxmert")[1].tokenizer, WIDTH, grid)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [png(shapes.draw_scene(seed).image()) for seed in range(3)]


def png(picture) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def expected(maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Computes adaptive average pooling, cell by cell, of maps (N, H, W, C)."""
    rows, columns = grid
    cells = [
        maps[
            :,
            i * maps.shape[1] // rows : math.ceil((i + 1) * maps.shape[1] / rows),
            j * maps.shape[2] // columns : math.ceil((j + 1) * maps.shape[2] / columns),
        ].mean((1, 2))
        for i in range(rows)
        for j in range(columns)
    ]
    return np.stack(cells, axis=1)


def test_a_cnns_last_map_is_pooled_over_the_cells(cnn, grid, pictures):
    assert (grid.layer, grid.map_size, grid.feature_size, grid.image_size) == ("last", (8, 8), WIDTH, (SIDE, SIDE))
    pixels = grid.pixel_values(pictures)
    maps = keras.Model(cnn.inputs, cnn.get_layer("last").output)(pixels).numpy()
    found = grid.detect(pictures)
    np.testing.assert_allclose(found["roi_features"], expected(maps, GRID), **TOLERANCE)
    assert found["preds_per_image"].tolist() == [math.prod(GRID)] * 3
    first, last = found["normalized_boxes"][0][[0, -1]]
    np.testing.assert_allclose(first, [0, 0, 1 / 4, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(last, [3 / 4, 2 / 3, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(grid.regions(pictures)[1].features, found["roi_features"][1], **TOLERANCE)


def test_a_transformers_tokens_are_a_map_behind_the_class_token(pictures):
    vit = tiny_vit()
    grid = tfvl.GridFeatures(vit, grid=(2, 2))
    assert (grid.layer, grid.map_size, grid.skipped) == ("norm", (4, 4), 1)
    tokens = keras.Model(vit.inputs, vit.get_layer("norm").output)(grid.pixel_values(pictures)).numpy()
    maps = tokens[:, 1:].reshape(-1, 4, 4, WIDTH)
    np.testing.assert_allclose(grid.detect(pictures)["roi_features"], expected(maps, (2, 2)), **TOLERANCE)
    assert tfvl.GridFeatures(vit, "patches", grid=(2, 2)).skipped == 0


def test_an_application_brings_its_own_preprocessing(pictures):
    backbone = keras.applications.MobileNet((64, 64, 3), alpha=0.25, include_top=False, weights=None)
    grid = tfvl.GridFeatures(backbone, grid=(2, 2))
    assert (grid.preprocess, grid.map_size, grid.feature_size) == ("tf", (2, 2), 256)
    pixels = grid.pixel_values(pictures)
    maps = backbone(keras.applications.mobilenet.preprocess_input(np.array(pixels))).numpy()
    np.testing.assert_allclose(grid.detect(pictures)["roi_features"], expected(maps, (2, 2)), **TOLERANCE)


@pytest.mark.parametrize(
    ("application", "name"),
    [("resnet50", "caffe"), ("resnet50v2", "tf"), ("vgg16", "caffe"), ("densenet121", "torch"), ("xception", "tf")],
)
def test_the_scalings_are_those_of_keras_applications(application, name):
    modules = {"resnet50": "resnet", "resnet50v2": "resnet_v2", "densenet121": "densenet"}
    module = getattr(keras.applications, modules.get(application, application))
    model = tiny_cnn(application, scaled=False)
    assert scaling_of(model) == name
    levels = np.random.default_rng(0).integers(256, size=(2, 3, 3, 3)).astype("float32")
    scaled = tfvl.GridFeatures(model, grid=(1, 1)).scaling(levels)
    np.testing.assert_allclose(scaled, module.preprocess_input(levels.copy()), rtol=1e-5, atol=1e-4)


def test_eager_graph_and_artefact_agree(lxmert, processor, pictures, tmp_path):
    texts = [TEXT] * len(pictures)
    eager = processor(text=texts, images=pictures)
    rows = tf.data.Dataset.from_tensors(pictures).map(lambda files: processor(text=tf.constant(texts), images=files))
    in_graph = next(iter(rows))
    assert eager.keys() == in_graph.keys()
    for name, value in eager.items():
        np.testing.assert_allclose(in_graph[name], value, **TOLERANCE)
    directory = tfvl.export.saved_model(lxmert, processor, tmp_path / "1", top_k=26)
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    served = serve(image=tf.constant([*pictures, b"no picture"]), text=tf.constant([*texts, TEXT]))
    scores = tf.nn.softmax(lxmert(eager)["question_answering_score"]).numpy()
    np.testing.assert_allclose(served["scores"][:-1], -np.sort(-scores, axis=1), **TOLERANCE)
    status = [each.decode() for each in served["status"].numpy()]
    assert status[:-1] == [""] * 3
    assert status[-1]


@pytest.mark.parametrize("frozen", [False, True])
def test_fit_trains_from_pixels(lxmert, pictures, processor, frozen, eager_functions):
    grid = tfvl.GridFeatures(tiny_cnn(), grid=GRID)
    grid.trainable = not frozen
    model = grid.in_front_of(lxmert)
    inputs = {**processor(text=[TEXT] * 3), "pixel_values": grid.pixel_values(pictures)}
    separate = lxmert(tfvl.LxmertProcessor(processor.tokenizer, WIDTH, grid)(text=[TEXT] * 3, images=pictures))
    together = model(inputs)["question_answering_score"]
    np.testing.assert_allclose(together, separate["question_answering_score"], **TOLERANCE)
    before = [variable.numpy() for variable in grid.backbone.variables]
    model.compile()
    assert len(model.optimizer._trainable_variables) == len(model.trainable_variables)  # it has its state already
    labels = np.array([1, 2, 3])
    batch = tf.data.Dataset.from_tensors((inputs, labels))
    evaluated = model.evaluate(batch, return_dict=True, verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, together)
    np.testing.assert_allclose(evaluated["loss"], loss, rtol=1e-5)
    history = model.fit(batch, epochs=2, verbose=0).history
    assert min(history["loss"]) > 0
    assert len(history) > 1  # the head's metrics as well
    moved = [np.abs(new.numpy() - old).max() > 0 for new, old in zip(grid.backbone.variables, before, strict=True)]
    assert all(moved) != frozen
    assert any(moved) != frozen


def test_they_lie_beside_the_processor(lxmert, processor, pictures, tmp_path):
    lxmert.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    features = processor.detector.detect(pictures)["roi_features"]
    for detector in (None, tmp_path):
        again = tfvl.LxmertProcessor.from_pretrained(tmp_path, detector=detector).detector
        np.testing.assert_allclose(again.detect(pictures)["roi_features"], features, **TOLERANCE)
        assert again.grid == GRID
    assert isinstance(auto.load(tmp_path)[1].detector, tfvl.GridFeatures)
    layer = keras.layers.Rescaling(1 / 100)
    own = tfvl.GridFeatures(tiny_cnn(scaled=False), grid=GRID, boxes=np.full((12, 4), 0.5), preprocess=layer)
    own.save_pretrained(tmp_path / "own")
    again = tfvl.GridFeatures.from_pretrained(tmp_path / "own")
    for name in ("roi_features", "normalized_boxes"):
        np.testing.assert_allclose(again.detect(pictures)[name], own.detect(pictures)[name], **TOLERANCE)
    (tmp_path / "own" / "grid_features.keras").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"grid features cannot be used: .*grid_features.keras: "):
        tfvl.GridFeatures.from_pretrained(tmp_path / "own")


def rewritten(path, **members: bytes | None):
    """Writes an archive again, with other contents of some members, compressed; None leaves one out."""
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    names = {name.partition(".")[0]: name for name in contents}
    contents |= {names[each]: content for each, content in members.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in contents.items():
            if content is not None:
                kind = zipfile.ZIP_STORED if name == "model.weights.h5" else zipfile.ZIP_DEFLATED
                new.writestr(zipfile.ZipInfo(name), content, kind)


def with_filters(path):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][-1]["config"]["filters"] = 60_000_000
    rewritten(path, config=json.dumps(config).encode())


def as_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "No such file"),
        (as_a_pipe, "is no regular file"),
        (lambda path: rewritten(path, config=None), "no item named 'config.json'"),
        (lambda path: rewritten(path, config=b"[" * 200_000), "nested deeper than 64 levels"),
        (lambda path: rewritten(path, config=b" " * (1 << 25)), "at most 16777216 are read"),
        (lambda path: rewritten(path, config=b"{}"), "Keras cannot load it"),
        (lambda path: rewritten(path, model=b"no HDF5"), "HDF5"),
        (with_filters, r"filters is 60000000 in config.json, but it holds only \d+ weights"),
    ],
)
def test_a_strangers_backbone_is_refused_in_one_sentence(grid, tmp_path, damage, sentence):
    grid.save_pretrained(tmp_path)
    damage(tmp_path / "grid_features.keras")
    with pytest.raises(CheckpointError, match=f"grid_features.keras: .*{sentence}") as refusal:
        tfvl.GridFeatures.from_pretrained(tmp_path)
    assert "\n" not in str(refusal.value)


def test_damaged_weights_of_a_backbone_do_not_end_the_process(grid, tmp_path):
    grid.save_pretrained(tmp_path)
    path = tmp_path / "grid_features.keras"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    random = np.random.default_rng(55)
    for place in random.integers(0, len(weights), 20):
        damaged = bytearray(weights)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(whole)
        rewritten(path, model=bytes(damaged))
        with contextlib.suppress(CheckpointError):
            tfvl.GridFeatures.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer": "lats"}, r"cnn has no layer 'lats'; it has \d+, such as last"),
        ({"layer": "dense"}, r"dense gives \(1, 5\), which is no two-dimensional feature map"),
        ({"grid": (9, 9)}, r"grid is \(9, 9\), but the feature map of last has 8 x 8 places .* smaller grid"),
        ({"grid": 7}, r"grid is 7, expected two whole numbers"),
        ({"boxes": "corners"}, r"boxes are 'corners', expected \"cells\", or \(49, 4\)"),
        ({"boxes": np.zeros((3, 4))}, r"boxes are of shape \(3, 4\)"),
        ({"image_size": (16, 16)}, r"image_size is \(16, 16\), but cnn was built for images of 32 x 32"),
        ({"preprocess": "imagenet"}, r"preprocess is 'imagenet', expected one of levels"),
    ],
)
def test_bad_options(options, sentence):
    model = tiny_cnn()
    model.layers[-1].name = "dense"
    with pytest.raises(ValueError, match=sentence):
        tfvl.GridFeatures(model, **options)


def test_bad_backbones(lxmert):
    layers = keras.layers
    flat = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)], name="flat")
    with pytest.raises(ValueError, match="flat has no layer with a two-dimensional feature map"):
        tfvl.GridFeatures(flat, preprocess="unit")
    with pytest.raises(
        ValueError, match=r"is no model of keras\.applications and scales no levels itself; say with prep"
    ):
        tfvl.GridFeatures(tiny_cnn(scaled=False))
    free = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 9)], name="free")
    with pytest.raises(ValueError, match="free cannot take images of 4 x 4 pixels, give larger ones") as caught:
        tfvl.GridFeatures(free, image_size=(4, 4), preprocess="unit")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"expected a keras\.Model"):
        tfvl.GridFeatures("resnet")
    with pytest.raises(
        ValueError, match=r"features are of size 4, but visual_feat_dim of the model's config is 12; load"
    ):
        tfvl.GridFeatures(free, image_size=(SIDE, SIDE), preprocess="unit").in_front_of(lxmert)
    vilt = tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt")
    with pytest.raises(ValueError, match="ViltForQuestionAnswering reads images itself"):
        tfvl.GridFeatures(free, image_size=(SIDE, SIDE), preprocess="unit").in_front_of(vilt)
