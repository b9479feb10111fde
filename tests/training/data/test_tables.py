"""Tables as spreadsheets, scripts and data set libraries write them, and what becomes of damaged ones."""

import json
import tracemalloc

import pytest

from tfvl.cli.app import describe
from tfvl.files.extras import require
from tfvl.training.data import tables

HEADER, ROW = ("image", "question", "answer"), ("a.png", 'Is it "blue", or red?\nSay!', "café")


def read(path, content: bytes | str) -> list:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [row for _, _, row in tables.find(path).rows()]


def quoted(delimiter: str, end: str) -> str:
    doubled = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in (HEADER, ROW)]
    return end.join(delimiter.join(row) for row in doubled) + end


@pytest.mark.parametrize("delimiter", tables.DELIMITERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_every_kind(tmp_path, delimiter, encoding, end):
    found = read(tmp_path / "my.csv", quoted(delimiter, end).encode(encoding))
    assert found == [dict(zip(HEADER, ROW, strict=True))]


def test_encodings_mixed_in_one_file(tmp_path):
    content = b" Image ,QUESTION,answer\na.png,caf\xc3\xa9?,caf\xe9\n"
    assert read(tmp_path / "my.csv", content) == [{"image": "a.png", "question": "café?", "answer": "café"}]


def test_rows_that_are_damaged_are_told_apart_from_the_others(tmp_path):
    rows = read(tmp_path / "my.csv", "image,question,answer\na,b\n\nc,d,e,f\ng,h,i,,\nj,k,l\n")
    assert rows[0] == {"image": "a", "question": "b"}  # whoever needs the answer says so
    assert "4 cells, but there are 3 columns" in str(rows[1])
    assert rows[2:] == [dict(zip(HEADER, row, strict=True)) for row in ("ghi", "jkl")]


def test_a_quote_that_is_left_open_ends_somewhere(tmp_path):
    long = "\n".join(f"a{number},q,yes" for number in range(20_000))
    rows = read(tmp_path / "my.csv", f'image,question,answer\n"a,q,yes\n{long}\n')
    assert "is a quote left open?" in str(rows[0])
    assert rows[-1] == {"image": "a19999", "question": "q", "answer": "yes"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("my.csv", "", "is empty"),
        ("my.csv", "\n\n", "is empty"),
        ("my.jsonl", "[]\n", "no line with a JSON object"),
        ("my.xlsx", "PK", "no table of a known kind"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        _ = tables.find(tmp_path / name).columns


def test_lines_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LINE", 50)
    for name, line in (("my.csv", "image,question\n" + "a" * 60), ("my.jsonl", '{"image": "' + "a" * 60 + '"}')):
        with pytest.raises(ValueError, match="50"):
            read(tmp_path / name, line)


def test_a_row_over_lines_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LINE", 50)
    row = '"ab\n",'
    for content in (f"image,question\n{row * 20}\n", row * 20):
        with pytest.raises(ValueError, match=r"my\.csv has a row over several lines of more than 50 characters"):
            read(tmp_path / "my.csv", content)
    rows = read(tmp_path / "my.csv", "image,question\n" + '"a\nb",c\n' * 20)
    assert rows == [{"image": "a\nb", "question": "c"}] * 20


def test_a_first_line_with_a_long_cell(tmp_path):
    """It names the file, and does not keep tfvl from the table beside it; many columns are no long cell."""
    (tmp_path / "notes.csv").write_text("a" * 200_000)
    with pytest.raises(ValueError, match=r"notes\.csv has a first line that is no row of CSV \(field larger"):
        _ = tables.find(tmp_path / "notes.csv").columns
    wide = ",".join(["image", *(f"column{number}" for number in range(20_000))])
    (tmp_path / "my.csv").write_text(f"{wide}\n")
    found = tables.find(tmp_path)
    assert [path.name for path, _ in found.files] == ["my.csv"]
    assert len(found.columns) == 20_001
    (tmp_path / "my.csv").write_text("image" + ",x" * tables.MAX_COLUMNS)
    with pytest.raises(ValueError, match=r"my\.csv has a first line of 32769 cells; at most 32768 columns are read"):
        _ = tables.find(tmp_path / "my.csv").columns


def test_json_lines(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"Image": "a.png", "answers": ["x", "y"]}',
        b"",
        b'{"image": "caf\xe9.png"}',
        b"{",
        b"[1]",
        b"[" * 100_000,
    ]
    rows = read(tmp_path / "my.jsonl", b"\n".join(lines))
    assert rows[:2] == [{"image": "a.png", "answers": ["x", "y"]}, {"image": "café.png"}]
    assert [type(row) for row in rows[2:]] == [ValueError] * 3


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet files are read with pyarrow (the extra parquet)")
    import pyarrow.parquet as pq

    count = tables.PARQUET_ROWS + 5
    path = tmp_path / "my.parquet"
    pq.write_table(pa.table({"Image": [f"{n}.png" for n in range(count)], "answers": [["a", "b"]] * count}), path)
    table = tables.find(path)
    assert table.columns == ("image", "answers")
    rows = list(table.rows())
    assert len(rows) == count
    assert rows[-1] == (f"my.parquet, row {count}", "", {"image": f"{count - 1}.png", "answers": ["a", "b"]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="no Parquet file, or torn"):
        list(tables.find(path).rows())


def test_parquet_values_that_python_has_not(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet files are read with pyarrow (the extra parquet)")
    import pyarrow.parquet as pq

    path = tmp_path / "my.parquet"
    for value, kind in ((2**30, pa.date32()), (2**50, pa.timestamp("ms"))):
        pq.write_table(pa.table({"image": ["a"], "when": pa.array([value], kind)}), path)
        with pytest.raises(ValueError, match=r"my\.parquet, column when: a value of type .* cannot be read \(.*\)\."):
            list(tables.find(path).rows())
    pq.write_table(pa.table({"image": [f"{n}.png" for n in range(5000)]}), path, compression=None)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36  # the header of the first page
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"my\.parquet is torn, or not read by pyarrow"):
        list(tables.find(path).rows())


def test_a_parquet_text_that_all_rows_share(tmp_path, monkeypatch):
    """The file stores it once; only as many rows as have room are read at once."""
    pa = pytest.importorskip("pyarrow", reason="Parquet files are read with pyarrow (the extra parquet)")
    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "PARQUET_BYTES", 1 << 22)
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 200_000]))
    pq.write_table(pa.table({"image": shared}), tmp_path / "my.parquet", compression="zstd")
    tracemalloc.start()
    try:
        assert sum(1 for _ in tables.find(tmp_path / "my.parquet").rows()) == 1000
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # of 200 MB
    finally:
        tracemalloc.stop()


def test_a_library_that_is_missing_is_one_sentence_and_the_users_to_mend():
    with pytest.raises(ImportError) as caught:
        require("no_such_library.part", extra="parquet", purpose="Parquet files are read with it")
    assert describe(caught.value) == (
        2,
        "no_such_library is not installed, but Parquet files are read with it: pip install no_such_library (the extra "
        "'parquet' of tfvl brings it).",
    )


def test_the_table_of_a_directory(tmp_path):
    assert tables.find(tmp_path) is None
    (tmp_path / "train.jsonl").write_text(json.dumps({"img_fn": "a.jpg"}))  # VCR's
    (tmp_path / "notes.csv").write_text("what,why\n")
    assert tables.find(tmp_path) is None
    (tmp_path / "metadata.csv").write_text("image,question,answer\n")
    assert [path.name for path, _ in tables.find(tmp_path).files] == ["metadata.csv"]
    (tmp_path / "b.csv").write_text("image,question,answer\n")
    with pytest.raises(ValueError, match=r"several tables: b\.csv, metadata\.csv; name one"):
        tables.find(tmp_path)
    for name in ("b.csv", "metadata.csv"):
        (tmp_path / name).unlink()
    for name in ("train-00000-of-00002.csv", "train-00001-of-00002.csv", "validation.csv", "test.csv"):
        (tmp_path / name).write_text("image,question,answer\n")
    assert [split for _, split in tables.find(tmp_path).files] == ["test", "train", "train", "val"]
    with pytest.raises(ValueError, match=r"there is no file .*nothing\.csv"):
        tables.find(tmp_path / "nothing.csv")


def test_memory_does_not_grow_with_the_file(tmp_path):
    """20,000 rows are 3 MB; one at a time they are nothing."""
    path = tmp_path / "my.csv"
    with open(path, "w") as file:
        file.write("image,question,answer\n")
        file.writelines(f"{number}.png,{'is it red? ' * 12},yes\n" for number in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in tables.find(path).rows()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
