"""The Beam pipelines: what they write, that two runs write the same bytes, what they refuse, and bulk scoring."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import datasets

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (the extra beam)")

from support.prepared import image_artefact

import tfvl
from tfvl.training.beam import directories
from tfvl.training.beam.prepare import prepare
from tfvl.training.beam.score import score
from tfvl.training.beam.settings import Settings
from tfvl.training.beam.visuals import shrunk
from tfvl.training.data import prepared
from tfvl.training.data.images import ImageFolder
from tfvl.training.tasks.table import TASKS

MISSING, TORN = datasets.vqa_images()[1], datasets.vqa_images()[3]  # of questions 2 and 3, and of 6 and 7


@pytest.fixture
def vqa(tmp_path):
    """Writes a data set with an image that is missing and one that is torn."""
    datasets.write_vqa(tmp_path / "data")
    datasets.write_images(tmp_path / "data" / "images", datasets.vqa_images())
    (tmp_path / "data" / "images" / f"{MISSING}.jpg").unlink()
    torn = tmp_path / "data" / "images" / f"{TORN}.jpg"
    torn.write_bytes(torn.read_bytes()[:-200])
    return tmp_path / "data"


def settings(data: Path, **changes) -> Settings:
    common = {"task": "vqa", "data": str(data), "split": "train", "images": str(data / "images"), "shards": 3}
    return Settings(**common | {"min_answers": 2} | changes)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# --- preparing ------------------------------------------------------------------------------------------------------


def test_everything_usable_is_written_and_the_rest_counted(vqa, tmp_path):
    out = tmp_path / "out"
    report, _ = prepare(settings(vqa), str(out))
    assert report.counts == {"missing images": 2, "images that fail": 2}
    assert f"example 10003: there is no image {MISSING!r}." in report.sentences
    assert json.loads((out / "train" / "report.json").read_text())["images that fail"]["count"] == 2
    folder = ImageFolder(vqa / "images")
    expected = TASKS["vqa"].examples(vqa, "train", images=folder)
    found = TASKS["vqa"].examples(out, "train")
    wanted = [expected[place] for place in range(len(expected)) if expected[place].images[0] != TORN]
    assert [found[place] for place in range(len(found))] == wanted
    assert len(wanted) == 20
    images = prepared.open_images(out)
    names = {example.images[0] for example in wanted}
    assert {name: images.read(name) for name in names} == {name: folder.read(name) for name in names}
    assert MISSING not in images
    assert TORN not in images
    assert sorted(json.loads((out / "train" / "answers.json").read_text())) == sorted(frequent(wanted))


def frequent(examples) -> list[str]:
    """Returns the answers that are the best of at least two questions."""
    best = [max(example.answers, key=example.answers.count) for example in examples]
    return [answer for answer in set(best) if best.count(answer) >= 2]


def test_every_run_writes_the_same_bytes(vqa, tmp_path):
    prepare(settings(vqa), str(tmp_path / "one"))
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    prepare(settings(vqa), str(tmp_path / "two"), flags)
    one, two = (files_of(tmp_path / name / "train") for name in ("one", "two"))
    assert one == two
    assert sum(name.endswith(".tfrecord") for name in one) == 6


def test_a_prepared_data_set_is_not_replaced_by_accident(vqa, tmp_path):
    out = str(tmp_path / "out")
    prepare(settings(vqa), out)
    with pytest.raises(FileExistsError, match="exists already; choose another directory or pass --overwrite"):
        prepare(settings(vqa), out)
    prepare(settings(vqa, shards=1), out, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out" / "train").glob("*.tfrecord")) == [
        "examples-00000-of-00001.tfrecord",
        "images-00000-of-00001.tfrecord",
    ]


def test_other_files_are_not_deleted(vqa, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        score(settings(vqa), str(image_artefact(tmp_path / "model")), str(tmp_path))
    assert (tmp_path / "mine").exists()


def test_strict_refuses_and_leaves_nothing(vqa, tmp_path):
    with pytest.raises(ValueError, match=f"example 1[02]00.: .*{TORN}|{MISSING}"):
        prepare(settings(vqa, strict=True), str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_data_that_cannot_be_read_is_one_sentence(vqa, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"has 0 files like \*val2\*questions\.json; expected one"):
        prepare(settings(vqa, split="val"), str(out))
    file = vqa / "v2_OpenEnded_mscoco_train2014_questions.json"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not valid JSON or torn"):
        prepare(settings(vqa), str(out))
    datasets.write_vqa(vqa)
    datasets.write_images(tmp_path / "others", ["x"])
    with pytest.raises(ValueError, match=r"split 'train' of .* is empty: no example can be used \(skipped: missing im"):
        prepare(settings(vqa, images=str(tmp_path / "others")), str(out))
    assert list(out.iterdir()) == []
    with pytest.raises(ValueError, match="is no directory; give the one that holds the images"):
        prepare(settings(vqa, images=str(tmp_path / "nowhere")), str(out))
    with pytest.raises(ValueError, match="give either --images, a folder, or --regions"):
        settings(vqa, images=None)
    with pytest.raises(ValueError, match="the task 'shapes' has no files; those that have are vqa"):
        settings(vqa, task="shapes")


def test_regions_under_the_names_of_the_examples(tmp_path):
    names = [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)]
    datasets.write_vcr(tmp_path / "data")
    datasets.write_regions(tmp_path / "regions.h5", [name.rpartition("/")[2] for name in names[:5]]).close()
    options = {"task": "vcr-answer", "split": "val", "images": None, "regions": str(tmp_path / "regions.h5")}
    report, _ = prepare(settings(tmp_path / "data", **options), str(tmp_path / "out"))
    assert report.counts == {"missing images": 1}
    shards = prepared.open_regions(tmp_path / "out")
    assert sorted(shards) == names[:5]
    with tfvl.RegionStore(tmp_path / "regions.h5") as store:
        np.testing.assert_array_equal(shards[names[3]].features, store["FILM_03"].features)
    assert len(TASKS["vcr-answer"].examples(tmp_path / "out", "val")) == 5
    assert not (tmp_path / "out" / "val" / "answers.json").exists()


@pytest.mark.parametrize("size", [(640, 480), (1000, 300), (300, 1000), (97, 64), (50, 40)])
def test_images_written_at_the_models_size_give_the_same_pixels(size):
    processor = tfvl.ViltImageProcessor(size=96, size_divisor=16)
    content = datasets.jpeg(3, *size)
    small = shrunk(content, processor)
    assert (small == content) == (min(size) < 96)  # never made larger
    np.testing.assert_array_equal(processor(small)["pixel_values"], processor(content)["pixel_values"])


def test_resized_images_are_written(vqa, tmp_path):
    processor = tfvl.ViltImageProcessor(size=32, size_divisor=16)
    prepare(settings(vqa, processor=processor.to_dict()), str(tmp_path / "out"))
    folder, images = ImageFolder(vqa / "images"), prepared.open_images(tmp_path / "out")
    name = datasets.vqa_images()[0]
    assert images.read(name).startswith(b"\x89PNG")
    np.testing.assert_array_equal(
        processor(images.read(name))["pixel_values"], processor(folder.read(name))["pixel_values"]
    )


def test_files_are_copied_to_a_remote_directory(vqa, tmp_path, monkeypatch):
    """Where the directory cannot be renamed, every file is copied when it is whole."""
    prepare(settings(vqa), str(tmp_path / "local"))
    monkeypatch.setattr(directories, "is_remote", lambda directory: True)
    prepare(settings(vqa), str(tmp_path / "remote"))
    assert files_of(tmp_path / "local" / "train") == files_of(tmp_path / "remote" / "train")
    with pytest.raises(FileExistsError):
        prepare(settings(vqa), str(tmp_path / "remote"))
    with pytest.raises(ValueError, match="example"):
        prepare(settings(vqa, strict=True), str(tmp_path / "remote"), overwrite=True)
    assert prepared.find(tmp_path / "remote", "train") is None


# --- scoring --------------------------------------------------------------------------------------------------------


def rows_in(directory: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_an_exported_model_answers_every_question(vqa, tmp_path):
    model = image_artefact(tmp_path / "model")
    report, _ = score(settings(vqa), str(model), str(tmp_path / "scored"), batch_size=5)
    rows = sorted(rows_in(tmp_path / "scored"), key=lambda row: row["question_id"])
    failing = {2: MISSING, 3: MISSING, 6: "torn", 7: "torn"}
    assert [row["answer"] for row in rows] == [
        "" if number in failing else datasets.ANSWERS[number % 5] for number in range(24)
    ]
    assert [number for number, row in enumerate(rows) if row["status"]] == list(failing)
    assert all(failing[number] in rows[number]["status"] for number in failing)
    assert {row["score"] for row in rows} == {0.75, 0.0}
    assert report.counts == {"rows without an answer": 4}
    assert (tmp_path / "scored" / "_SUCCESS").exists()
    with pytest.raises(FileExistsError):
        score(settings(vqa), str(model), str(tmp_path / "scored"))


def test_prepared_data_is_scored(vqa, tmp_path):
    prepare(settings(vqa), str(tmp_path / "out"))
    again = settings(tmp_path / "out", images=str(tmp_path / "out"), shards=1)
    score(again, str(image_artefact(tmp_path / "model")), str(tmp_path / "scored"))
    assert len(rows_in(tmp_path / "scored")) == 20
    assert not any(row["status"] for row in rows_in(tmp_path / "scored"))


def test_models_that_do_not_fit(vqa, tmp_path):
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb"):
        score(settings(vqa), str(tmp_path), str(tmp_path / "scored"))
    datasets.write_regions(tmp_path / "regions.h5", datasets.vqa_images()).close()
    model, out = str(image_artefact(tmp_path / "model")), str(tmp_path / "scored")
    with pytest.raises(ValueError, match="takes images; give --images"):
        score(settings(vqa, images=None, regions=str(tmp_path / "regions.h5")), model, out)
    with pytest.raises(ValueError, match=r"exported models are asked about vqa, .*, not about 'entities'"):
        score(settings(vqa, task="entities"), model, out)


def test_without_a_processor_images_are_only_checked():
    assert shrunk(datasets.jpeg(0), None) == datasets.jpeg(0)
    with pytest.raises(ValueError, match="cannot be decoded"):
        shrunk(datasets.jpeg(0)[:-200], None)
