"""HDF5: files that once ended, hung or swelled the process that read them; each is refused within limits."""

import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from support import regions as support_regions
from support.limited import refused
from support.paths import ROOT

from tfvl.files.archive import open_archive
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore


def own_store(path, count=6) -> list:
    """Writes a store of tfvl's own; returns its rows."""
    rows = [support_regions.as_regions(number, number % 3 + 1) for number in range(count)]
    RegionStore.write(path, rows)
    return rows


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def test_a_flipped_bit_of_an_own_store_gives_what_was_written_or_a_sentence(worker, tmp_path):
    path = tmp_path / "own.h5"
    own_store(path)
    content, expected = path.read_bytes(), worker.read("store", path).value
    random = np.random.default_rng(7)
    name = content.index(b"\x07image_h") + 8  # what once ended the process
    places = [name, *random.integers(0, len(content), 100), *range(len(content) - 100, len(content), 5)]
    refusals = 0
    for place in places:
        path.write_bytes(flipped(content, place, int(random.integers(8))))
        for reader in ("store", "regions"):
            outcome = worker.read(reader, path)
            assert not outcome.wrong(str(path)), (place, outcome)
            if reader == "store":
                assert outcome.kind == "refused" or outcome.value == expected, place
                refusals += outcome.kind == "refused"
    assert refusals > 20


def test_zeros_that_became_nan_are_noticed(worker, tmp_path):
    path = tmp_path / "own.h5"
    RegionStore.write(path, [Regions(np.zeros((3, 4)), image_id="a")])
    content = path.read_bytes()
    with h5py.File(path) as file:
        place = file["features"].id.get_chunk_info(0).byte_offset
    path.write_bytes(content[:place] + b"\xff" * 4 + content[place + 4 :])
    refused(worker, "store", path, "image 'a': damaged (its checksum does not fit)")


def test_a_store_without_its_index_is_not_read_as_a_strangers(worker, tmp_path):
    path = tmp_path / "own.h5"
    own_store(path)
    content = path.read_bytes()
    with open_archive(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
    for rest in (content[:start], content[:-1], content + b"\0"):
        path.write_bytes(rest)
        refused(worker, "store", path, "damaged, or not HDF5 with the index that tfvl writes")


@pytest.mark.parametrize("change", ["ids", "offset", "count"])
def test_an_index_that_was_forged_reads_nothing_else(worker, tmp_path, change):
    path = tmp_path / "own.h5"
    own_store(path)
    with open_archive(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
        members = {name: archive.read(name) for name in archive.namelist()}
    if change == "ids":
        members["ids.txt"] = b"a\n" * 50_000_000
    elif change == "offset":
        members["features.npy"] = members["features.npy"][:-8] + struct.pack("<q", 1 << 50)
    else:
        members["ends.npy"] = members["ends.npy"][:-8] + struct.pack("<q", 1 << 50)
    path.write_bytes(path.read_bytes()[:start])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sentence = {"ids": "ids.txt claims 100000000 bytes", "offset": "damaged", "count": "its index is damaged"}
    refused(worker, "store", path, sentence[change])


def strangers(path, **fields) -> None:
    with h5py.File(path, "w") as file:
        for name, value in fields.items():
            file[name] = value


def test_an_old_own_store_with_a_flipped_bit_ends_no_process(worker, tmp_path):
    """Stores of before there was an index, and files of others, with the metadata at their end damaged."""
    path = tmp_path / "old.h5"
    with h5py.File(path, "w", libver="v110") as file:
        for name, size in (("features", 8), ("boxes", 4)):
            file.create_dataset(
                name, data=np.ones((9, size), "f4"), maxshape=(None, size), chunks=(3, size), fletcher32=True
            )
        for name in ("image_ids", "image_w", "image_h"):
            file.create_dataset(name, data=np.arange(3), chunks=(3,), fletcher32=True)
        file["pos_boxes"] = [[0, 3], [3, 6], [6, 9]]
    content = path.read_bytes()
    random = np.random.default_rng(3)
    for place in (len(content) - random.integers(1, 1400, 60)).tolist():
        path.write_bytes(flipped(content, place, int(random.integers(8))))
        outcome = worker.read("store", path)
        assert not outcome.wrong(str(path)), (place, outcome)


def test_ids_that_share_one_long_text_are_refused(worker, tmp_path):
    count, path = 20_000, tmp_path / "ids.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((count, 1, 2), "f4")
        ids = file.create_dataset("image_ids", (count,), h5py.string_dtype())
        ids[0], ids[1:] = "x" * 200_000, "y"
        place = ids.id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16 * count] = content[place : place + 16] * count
    path.write_bytes(content)
    refused(worker, "store", path, f"{path}: ")


def test_a_heap_that_leads_in_a_circle_is_left(worker, tmp_path):
    path = tmp_path / "heap.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 1, 2), "f4")
        file.create_dataset("image_ids", data=["a", "b", "c"], dtype=h5py.string_dtype())
    content = path.read_bytes()
    start = content.index(b"GCOL")
    for place in (start + 20, start + 30, start + 44, start + 68):
        path.write_bytes(content[:place] + bytes(6) + content[place + 6 :])
        outcome = worker.read("store", path)
        assert not outcome.wrong(str(path)), (place, outcome)


def test_compressed_fields_are_bounded(worker, tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        for name in ("features", "boxes", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "image_w", "image_h"):
            shape = (1, 1, 1 << 26) if name == "features" else (1, 1 << 26)
            file.create_dataset(name, shape, "f4", chunks=shape, compression="gzip")[...] = 0
    assert path.stat().st_size < 3_000_000
    refused(worker, "store", path, f"{path}, image '0': ")
    outcome = worker.read("regions", path)
    assert not outcome.wrong(str(path)), outcome


def test_rows_that_were_never_written_are_refused(worker, tmp_path):
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (3, 2, 4), "f4", chunks=(1, 2, 4))[1] = 1
    refused(worker, "store", path, "image '0': damaged: features were never written")
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (3, 2, 4), "f4")
    refused(worker, "store", path, "image '0': damaged: features were never written")


@pytest.mark.parametrize("reader", ["store", "regions", "checkpoint"])
def test_a_name_that_is_a_path_through_a_link_is_refused(worker, tmp_path, reader):
    strangers(tmp_path / "secret.h5", **{"img/features": np.full((2, 3), 7, "f4")})
    path = tmp_path / "evil.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["layer_names"] = [b"e"]
        file["e"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
        file["eXimg/features"] = np.ones((2, 3), "f4")
    path.write_bytes(path.read_bytes().replace(b"eXimg", b"e/img"))
    refused(worker, reader, path, "'e/img' is a path, not a name")


def test_the_process_that_reads_hdf5_opens_no_second_file(tmp_path):
    """Whatever a link is disguised as."""
    strangers(tmp_path / "secret.h5", secret=[1, 2])
    with h5py.File(tmp_path / "evil.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
    code = (
        "import sys; from tfvl.files.hdf5 import opened\n"
        "try: print(opened(sys.argv[1])['link'][:])\n"
        "except (OSError, KeyError) as error: print('refused')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "evil.h5")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "refused\n"


def test_a_keras_file_with_a_flipped_byte_ends_no_process(worker, tmp_path):
    path = tmp_path / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer in "ab":
            file.create_group(layer).attrs["weight_names"] = [b"x:0"]
            file[layer]["x:0"] = np.arange(6.0)
    content = path.read_bytes()
    random = np.random.default_rng(5)
    for place in random.integers(0, len(content), 60).tolist():
        path.write_bytes(content[:place] + bytes([int(random.integers(256))]) + content[place + 1 :])
        outcome = worker.read("checkpoint", path)
        assert not outcome.wrong(str(path)), (place, outcome)
