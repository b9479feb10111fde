"""`Regions`, boxes, padding and the `.tsv` reader."""

import re

import numpy as np
import pytest
from support.regions import (
    BOTTOM_UP,
    HEIGHT,
    LXMERT,
    SIZE,
    WIDTH,
    assert_is,
    fails,
    image,
    images,
    traced,
    tsv_line,
    write_tsv,
)

from tfvl.preprocessing.regions import tsv as region_tsv
from tfvl.preprocessing.regions.regions import Regions, normalize_boxes, pad_regions
from tfvl.preprocessing.regions.tsv import read_tsv

# Memory may vary by an allocation here and there; a list of rows would need 30 times as much for four times the rows.
MEMORY_SLACK = 1.1


# --- Regions and boxes ----------------------------------------------------------------------------------------------


def test_boxes_are_normalised_as_in_lxmerts_code():
    found = image(1)
    expected = found["boxes"].copy()
    expected[:, (0, 2)] /= WIDTH
    expected[:, (1, 3)] /= HEIGHT
    actual = normalize_boxes(found["boxes"].tolist(), WIDTH, HEIGHT)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected)


def test_boxes_may_pass_the_edge_by_a_rounding_error_only():
    assert normalize_boxes([[0, 0, 100.0005, 50]], 100, 50)[0, 2] > 1
    with fails("box 1 (0, 0, 100.5, 50) lies outside the image"):
        normalize_boxes([[0, 0, 1, 1], [0, 0, 100.5, 50]], 100, 50)


@pytest.mark.parametrize(
    ("boxes", "width", "sentence"),
    [
        ([[1, 2, 3]], 10, "boxes have shape (1, 3), expected (regions, 4)"),
        ([[1, 2, 3, 4]], 0, "width is 0, expected a positive number"),
        ([[1, 2, np.nan, 4]], 10, "box 0 (1, 2, nan, 4)"),
        ([[-1, 2, 3, 4]], 10, "box 0 (-1, 2, 3, 4)"),
        ([["a", "b", "c", "d"]], 10, "expected numbers"),
    ],
)
def test_bad_boxes(boxes, width, sentence):
    with fails(sentence):
        normalize_boxes(boxes, width, 10)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"features": np.zeros(3)}, "features have shape (3,), expected (regions, feature_size)"),
        ({"features": np.zeros((1, 3)), "image_id": "a\0b"}, "image_id is 'a\\x00b', expected a text of 1 to 256"),
        ({"features": np.zeros((1, 3)), "image_id": 7}, "image_id is 7, expected"),
        ({"features": np.array([[None]])}, "features are of type object"),
        ({"features": np.zeros((2, 3)), "boxes": np.zeros((1, 4))}, "boxes have shape (1, 4), expected (2, 4)"),
        ({"features": np.zeros((1, 3)), "boxes": [[0, 0, 9, 9]]}, "normalize_boxes(boxes, width, height)"),
        ({"features": np.zeros((1, 3)), "objects_id": [1 << 40]}, "objects_id hold 1099511627776"),
        ({"features": np.zeros((1, 3)), "attrs_conf": [[1]]}, "attrs_conf have shape (1, 1), expected (1,)"),
    ],
)
def test_regions_that_do_not_fit_together(fields, sentence):
    with fails(sentence):
        Regions(**fields)


def test_regions_are_float32_and_know_how_many_they_are():
    regions = Regions(np.ones((3, 2), np.float16), [[0, 0, 1, 1]] * 3, objects_id=np.arange(3))
    assert len(regions) == 3
    assert (regions.features.dtype, regions.boxes.dtype, regions.objects_id.dtype) == (np.float32, np.float32, np.int32)


# --- padding --------------------------------------------------------------------------------------------------------


def regions_of(count: int, size: int = 4, boxes: bool = True) -> Regions:
    return Regions(np.full((count, size), count), np.full((count, 4), 0.5) if boxes else None, f"image {count}")


def test_padding_fills_with_zeros_and_masks_them():
    padded = pad_regions([regions_of(2), regions_of(0), regions_of(3)])
    assert {name: (array.shape, str(array.dtype)) for name, array in padded.items()} == {
        "features": ((3, 3, 4), "float32"),
        "boxes": ((3, 3, 4), "float32"),
        "mask": ((3, 3), "int32"),
    }
    assert padded["mask"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(padded["features"][..., 0], [[2, 2, 0], [0, 0, 0], [3, 3, 3]])
    np.testing.assert_array_equal(padded["boxes"][..., 3], padded["mask"] * 0.5)


def test_padding_takes_arrays_without_boxes_and_cuts_at_max_regions():
    padded = pad_regions([np.arange(12).reshape(3, 4), np.zeros((0, 0))], feature_size=4, max_regions=2)
    assert set(padded) == {"features", "mask"}
    np.testing.assert_array_equal(padded["features"], [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0] * 4] * 2])


def test_padding_rows_without_any_region():
    padded = pad_regions([regions_of(0), regions_of(0)], feature_size=7)
    assert padded["features"].shape == (2, 0, 7)
    assert padded["boxes"].shape == (2, 0, 4)
    assert padded["mask"].shape == (2, 0)


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        ([], {}, "no rows to pad"),
        ([regions_of(2), regions_of(1, 5)], {}, "row 1 (image 'image 1') has features of size 5, expected 4"),
        ([regions_of(2)], {"feature_size": 2048}, "size 4, expected 2048"),
        ([regions_of(2), regions_of(1, boxes=False)], {}, "row 1 (image 'image 1') has no boxes, but others have"),
        ([regions_of(2)], {"max_regions": 0}, "max_regions is 0"),
    ],
)
def test_rows_that_cannot_be_padded(rows, options, sentence):
    with fails(sentence):
        pad_regions(rows, **options)


# --- .tsv -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [LXMERT, BOTTOM_UP])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_tsv(tmp_path, columns, end):
    found = images(6, regions=lambda number: 1 + number)
    path = tmp_path / "regions.tsv"
    path.write_bytes(end.join(tsv_line(row, columns) for row in found))  # the last line has no end
    read = list(read_tsv(path, on_error=pytest.fail))
    assert len(read) == 6
    for regions, row in zip(read, found, strict=True):
        assert_is(regions, row, labels=columns is LXMERT)


def test_tsv_with_columns_of_ones_own(tmp_path):
    columns = "features image_id num_boxes image_h image_w".split()
    path = write_tsv(tmp_path / "own.tsv", images(2), columns)
    read = list(read_tsv(path, columns=columns, on_error=pytest.fail))
    np.testing.assert_array_equal(read[1].features, image(1)["features"])
    assert read[1].boxes is None
    with fails("columns lack img_w"):
        list(read_tsv(path, columns=columns[:-1]))


def test_tsv_with_an_image_without_regions(tmp_path):
    path = write_tsv(tmp_path / "some.tsv", images(3, regions=lambda number: number % 2 * 4))
    assert [regions.features.shape for regions in read_tsv(path, on_error=pytest.fail)] == [(0, 0), (4, 12), (0, 12)]


LINES = [tsv_line(row) for row in images(4)]
CELLS = LINES[1].split(b"\t")


def with_cell(number: int, content: bytes) -> bytes:
    return b"\t".join([*CELLS[:number], content, *CELLS[number + 1 :]])


@pytest.mark.parametrize(
    ("torn", "sentence"),
    [
        (LINES[1][:200], "columns, expected 10 (img_id, img_h, img_w,"),
        (LINES[1] + LINES[2], "has 19 columns, expected 10"),
        (b"\0" * 300, "has 1 columns, expected 10"),
        (with_cell(9, b"!" + CELLS[9][1:]), "features is not base64 ('!"),
        (with_cell(9, CELLS[9][:-1]), "features is not base64"),
        (with_cell(9, CELLS[9][:-40]), f"features has 210 bytes, expected 5 × {SIZE} × 4 for 5 boxes"),
        (with_cell(9, CELLS[9][:-80]), f"features has 180 bytes, expected 5 × {SIZE} × 4 for 5 boxes"),
        (with_cell(8, b""), "boxes has 0 bytes, expected 5 × 4 × 4 for 5 boxes"),
        (with_cell(3, CELLS[4]), "objects_id has 20 bytes, expected 5 × 1 × 8"),
        (with_cell(7, b"5x"), "num_boxes is '5x', expected a whole number"),
        (with_cell(7, b"999999999"), "expected 999999999 × 1 × 8 for 999999999 boxes"),
        (with_cell(7, b"9" * 5000), "num_boxes is '99999"),
        (with_cell(0, b""), "image_id is '', expected a text"),
        (with_cell(0, b"A" * 70_000), "image_id is 'AAAA"),
        (with_cell(1, b"-480"), "img_h is '-480', expected a whole number"),
        (with_cell(2, b"0"), "the image's width is 0"),
        (with_cell(2, b"20"), "lies outside the image: expected x1, y1, x2, y2 in pixels of an image of 20×481"),
    ],
)
def test_a_torn_line_is_named_and_the_rest_is_read(tmp_path, torn, sentence):
    path = tmp_path / "torn.tsv"
    path.write_bytes(b"\n".join([LINES[0], torn, *LINES[2:], b""]))
    bad = []
    read = list(read_tsv(path, on_error=bad.append))
    assert [regions.image_id for regions in read] == [image(number)["image_id"] for number in (0, 2, 3)]
    assert len(bad) == 1
    assert bad[0].startswith(f"{path}, line 2: ")
    assert sentence in bad[0]
    assert bad[0].endswith(".")
    assert "\n" not in bad[0]


def test_every_torn_line_is_warned_of_by_default(tmp_path):
    path = tmp_path / "torn.tsv"
    path.write_bytes(b"\n".join([b"x", LINES[0], b"", b"y\tz", LINES[1]]))
    with pytest.warns(UserWarning, match="line [14]: ") as warned:
        assert len(list(read_tsv(path))) == 2
    assert [re.search(r"line \d", str(warning.message))[0] for warning in warned] == ["line 1", "line 4"]


def test_a_file_that_was_cut(tmp_path):
    path = tmp_path / "cut.tsv"
    path.write_bytes(b"\n".join(LINES)[:-57])
    bad = []
    assert len(list(read_tsv(path, on_error=bad.append))) == 3
    assert bad[0].startswith(f"{path}, line 4: features")
    assert bad[0].endswith("(the file ends within the line).")


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(region_tsv, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "endless.tsv"
    with open(path, "wb") as file:
        file.write(LINES[0] + b"\n")
        file.truncate(1 << 27)  # a hole: zeros, no newline
        file.seek(0, 2)
        file.write(b"\n" + LINES[1] + b"\n")
    bad = []
    with traced() as peak:
        assert len(list(read_tsv(path, on_error=bad.append))) == 2
        assert peak() < 8 << 20
    assert bad == [f"{path}, line 2: is longer than 1048576 bytes."]


def test_a_file_of_which_no_line_can_be_used(tmp_path):
    path = tmp_path / "other.tsv"
    path.write_text("a web page\nof two lines\n")
    with fails(f"no line could be used of 2; the first: {path}, line 1: has 1 columns, expected 6 or 10"):
        list(read_tsv(path, on_error=lambda sentence: None))
    with fails("no such file"):
        list(read_tsv(tmp_path / "missing.tsv"))


def test_a_feature_size_that_is_asked_for(tmp_path):
    path = write_tsv(tmp_path / "regions.tsv", images(2))
    with fails("features has 240 bytes, expected 5 × 2048 × 4"):
        list(read_tsv(path, feature_size=2048, on_error=lambda sentence: None))


def test_tsv_needs_the_same_memory_for_four_times_the_lines(tmp_path):
    def peak(count: int) -> int:
        path = write_tsv(tmp_path / f"{count}.tsv", images(count, lambda number: 36, 2048))
        with traced() as result:
            assert sum(len(regions) for regions in read_tsv(path)) == 36 * count
            return result()

    assert peak(120) < MEMORY_SLACK * peak(30)


def test_progress_is_told(tmp_path):
    parts = []
    list(read_tsv(write_tsv(tmp_path / "regions.tsv", images(4)), on_progress=parts.append))
    assert parts == sorted(parts)
    assert len(parts) == 4
    assert parts[-1] == 1
