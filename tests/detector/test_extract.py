"""`tfvl regions` of images: what is written, going on after a kill, several workers, unreadable files, pictures."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont
from support.cli import fails
from support.pixels import arrays, detector, png

import tfvl
from tfvl.cli import app as cli
from tfvl.detector import extract as extraction
from tfvl.detector.draw import draw_regions, free_spot, shared, shown
from tfvl.detector.extract import extract, named_images

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}  # the same graph in another process, with other threads
# Extracts the regions of a directory, and is killed once a part of them is whole: `KILLED DIRECTORY OUT DETECTOR`.
KILLED = """
import os, signal, sys
from tfvl.detector.extract import extract, named_images

def killed(done, total):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)

directory, out, detector = sys.argv[1:]
extract(named_images([directory]), out, detector, on_progress=killed)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Returns a directory with a detector."""
    directory = tmp_path_factory.mktemp("detector")
    detector().save_pretrained(directory)
    return directory


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Returns a directory with six pictures, two of them in a subdirectory, and files that are none."""
    directory = tmp_path / "pictures"
    (directory / "below").mkdir(parents=True)
    for number in range(6):
        levels = np.roll(arrays()[number % 3], 5 * number, axis=1)
        (directory / ("below" if number > 3 else "") / f"{number}.png").write_bytes(png(levels))
    (directory / "notes.txt").write_text("no picture")
    (directory / ".hidden.png").write_bytes(b"")
    return directory


def expected(pictures: Path) -> list["tfvl.Regions"]:
    files = sorted(pictures.rglob("[0-9].png"), key=lambda file: file.name)
    return detector().regions(files, [file.stem for file in files])


def check_store(path: Path, regions: list["tfvl.Regions"]):
    with tfvl.RegionStore(path) as store:
        assert sorted(store) == [each.image_id for each in regions]
        for each in regions:
            stored = store[each.image_id]
            for field in ("features", "boxes", "objects_id", "objects_conf", "attrs_id", "attrs_conf"):
                np.testing.assert_allclose(getattr(stored, field), getattr(each, field), **TOLERANCE, err_msg=field)
            assert (stored.width, stored.height) == (each.width, each.height)


def cells(output: str) -> dict[str, str]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    return dict(row for row in rows if len(row) == 2)


def test_a_folder_becomes_a_store_and_pictures(source, pictures, tmp_path, capsys):
    (pictures / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    out, drawn = tmp_path / "regions.h5", tmp_path / "drawn"
    arguments = ["regions", str(pictures), "--out", str(out), "--detector", str(source), "--draw", str(drawn)]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    (warning,) = [line for line in captured.err.splitlines() if line.startswith("tfvl: warning: ")]
    assert warning.startswith(f"tfvl: warning: {pictures / 'torn.jpg'}: ")
    table = {"images": "6", "extracted earlier": "0", "could not be used": "1", "pictures": "6"}
    assert cells(captured.out) == table
    check_store(out, expected(pictures))
    assert sorted(file.name for file in drawn.iterdir()) == [f"{number}.png" for number in range(6)]
    assert not list(tmp_path.glob(".*"))  # neither parts nor temporary files
    assert "--overwrite" in fails(capsys, *arguments)
    assert cli.main([*arguments, "--overwrite"]) == 0


def test_an_interrupted_run_goes_on_where_it_was(source, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "IN_A_PART", 2)
    images, out = named_images([pictures]), tmp_path / "regions.h5"

    def stop_after_four(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(images, out, source, on_progress=stop_after_four)
    assert not out.exists()
    parts = tmp_path / ".regions.h5.parts"
    (parts / ".00000003.h5.1.tmp").write_bytes(b"half a part")  # as a kill leaves it
    seen = []
    looked = extraction.extract_part
    monkeypatch.setattr(extraction, "extract_part", lambda task: seen.extend(task.images) or looked(task))
    done = extract(images, out, source)
    assert (done.images, done.resumed, done.unreadable) == (6, 4, ())
    assert [name for name, _ in seen] == list(images)[4:]  # what was done is not done again
    check_store(out, expected(pictures))
    assert not parts.exists()


def test_parts_of_another_detector_are_not_mixed_in(source, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "IN_A_PART", 2)

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(named_images([pictures]), tmp_path / "regions.h5", source, on_progress=stop)
    with pytest.raises(
        ValueError, match=r"\.regions\.h5\.parts is of an earlier run with another detector or other op"
    ):
        extract(named_images([pictures]), tmp_path / "regions.h5", source, overrides={"min_size": 32})


def interrupted(pictures: Path, out: Path, source) -> Path:
    """Starts a run that stops after four pictures; returns the directory of its parts."""

    def stop(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(named_images([pictures]), out, source, on_progress=stop)
    return out.with_name(f".{out.name}.parts")


def test_other_pictures_of_the_same_names_are_looked_at(source, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "IN_A_PART", 2)
    out, others = tmp_path / "regions.h5", tmp_path / "others"
    interrupted(pictures, out, source)
    others.mkdir()
    for number in range(6):  # of the first four one is the same
        levels = np.roll(arrays()[number % 3], 5 * number if number == 2 else 7 * number + 3, axis=1)
        (others / f"{number}.png").write_bytes(png(levels))
    done = extract(named_images([others]), out, source)
    assert (done.images, done.resumed) == (6, 1)
    check_store(out, expected(others))


@pytest.mark.parametrize("damage", ["part", "digests", "settings"])
def test_damaged_parts_are_made_again(source, pictures, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(extraction, "IN_A_PART", 2)
    out = tmp_path / "regions.h5"
    parts = interrupted(pictures, out, source)
    part = parts / "00000001.h5"
    if damage == "part":
        part.write_bytes(part.read_bytes()[:-300])
    elif damage == "digests":
        part.with_suffix(".json").unlink()
    else:
        (parts / "settings.json").write_text("")
    done = extract(named_images([pictures]), out, source)
    assert (done.images, done.resumed) == (6, 0 if damage == "settings" else 2)
    check_store(out, expected(pictures))
    assert not parts.exists()


def test_parts_of_a_store_that_was_written_are_removed(source, pictures, tmp_path, capsys):
    """A run that was killed after it had written the store; its command says that it is there."""
    out = tmp_path / "regions.h5"
    parts = tmp_path / ".regions.h5.parts"
    arguments = ["regions", pictures, "--out", out, "--detector", source]
    parts.mkdir()
    (parts / "settings.json").write_text("{}")
    out.write_bytes(b"whole")
    assert "exists already" in fails(capsys, *arguments)
    assert not parts.exists()


@pytest.mark.slow
def test_a_killed_run_loses_no_finished_part(source, tmp_path):
    directory, out = tmp_path / "pictures", tmp_path / "regions.h5"
    directory.mkdir()
    for number in range(3 * extraction.IN_A_PART):
        (directory / f"{number:03}.png").write_bytes(png(np.roll(arrays()[0], number, axis=1)))
    killed = subprocess.run([sys.executable, "-c", KILLED, directory, out, source], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    done = extract(named_images([directory]), out, source)
    assert (done.images, done.resumed) == (3 * extraction.IN_A_PART, extraction.IN_A_PART)
    check_store(out, expected_of(directory))


def expected_of(directory: Path) -> list["tfvl.Regions"]:
    files = sorted(directory.glob("*.png"))
    return detector().regions(files, [file.stem for file in files])


@pytest.mark.slow
def test_several_workers_find_the_same(source, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "IN_A_PART", 2)
    (pictures / "torn.png").write_bytes(b"torn")
    done = extract(named_images([pictures]), tmp_path / "regions.tfrecord", source, workers=2)
    assert (done.images, len(done.unreadable)) == (6, 1)
    check_store(tmp_path / "regions.tfrecord", expected(pictures))


def test_mistakes_are_one_sentence(source, pictures, tmp_path, capsys):
    out = ("--out", tmp_path / "regions.h5")
    picture = pictures / "0.png"
    assert "name the detector that is to find the regions" in fails(capsys, "regions", picture, *out)
    assert "with --out regions.h5, or a directory" in fails(capsys, "regions", picture, "--detector", source)
    assert "no such file" in fails(capsys, "regions", tmp_path / "gone.png", *out, "--detector", source)
    assert "expected one of lxmert" in fails(capsys, "regions", picture, *out, "--detector", source, "--preset", "vg")
    (tmp_path / "empty").mkdir()
    assert "has no images" in fails(capsys, "regions", tmp_path / "empty", *out, "--detector", source)
    (pictures / "below" / "0.jpg").write_bytes(b"")
    assert "would both be image '0'; rename one" in fails(capsys, "regions", pictures, *out, "--detector", source)
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"torn")
    assert cli.main(["regions", str(torn), *map(str, out), "--detector", str(source)]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == f"tfvl: warning: {torn}: not an image of a known format (4 bytes)"
    assert (
        error
        == f"tfvl: none of the 1 images could be used; the first: {torn}: not an image of a known format (4 bytes)"
    )
    assert "has no weights" in fails(capsys, "regions", picture, *out, "--detector", pictures)
    assert "features are rewritten from one file" in fails(capsys, "regions", "a.tsv", "b.tsv", "c.h5")


def test_labels_lie_inside_the_picture_and_clear_of_each_other():
    crowd = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.51, 0.5], [0.7, 0, 1, 0.3], [0, 0.8, 0.2, 1], [0.4, 0.4, 0.6, 0.6]])
    taken = []
    for box in crowd * 600:
        spot = free_spot(tuple(box), (180, 24), (600, 600), taken)
        assert spot[0] >= 0
        assert spot[1] >= 0
        assert max(spot) < 600
        assert sum(shared(spot, other) for other in taken) == 0
        taken.append(spot)


def test_drawing_shows_the_sure_regions_and_enlarges_small_pictures():
    regions = tfvl.Regions(
        np.zeros((3, 4)),
        np.array([[0.1, 0.4, 0.4, 0.9], [0.5, 0.1, 0.9, 0.5], [0, 0, 1, 1]]),
        objects_id=np.array([0, 1, 2]),
        objects_conf=np.array([0.9, 0.8, 0.1]),
        attrs_id=np.array([1, 0, 0]),
        attrs_conf=np.array([0.9, 0.1, 0.9]),
    )
    assert shown(regions.objects_conf) == [0, 1]
    picture = Image.new("RGB", (64, 80), "white")
    painted = draw_regions(picture, regions, ("cat,feline", "dog", "bird"), ("big", "red"))
    assert painted.size == (640, 800)
    levels = np.asarray(painted)
    (first, second) = ((levels == color).all(-1) for color in ((230, 25, 75), (11, 125, 59)))
    rows, columns = np.nonzero(first)
    assert (columns.min(), rows.max()) == pytest.approx((64, 720), abs=1)  # the box, as the picture is enlarged
    width = ImageFont.load_default(16).getlength("red cat 90%")
    assert first[:320].any(axis=0).sum() > width  # its label stands above it
    assert second.any()
    with pytest.raises(ValueError, match="have no boxes or no objects to draw"):
        draw_regions(picture, tfvl.Regions(np.zeros((3, 4))), (), ())
