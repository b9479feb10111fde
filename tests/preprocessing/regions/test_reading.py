"""`.npz` and HDF5 files that others wrote, and `open_regions`."""

import io
import os
import pickle
import threading
import zipfile

import h5py
import numpy as np
import pytest
from support.regions import as_regions, assert_is, fails, image, images, traced, write_tsv, write_val

import tfvl
from tfvl.preprocessing.regions import h5 as region_h5
from tfvl.preprocessing.regions.reading import open_regions, read_npz
from tfvl.preprocessing.regions.store import RegionStore, convert

BAD_FILE_BYTES = 8 << 20  # the files are of some kB; what they claim begins at GB


@pytest.fixture(scope="module")
def tsv(tmp_path_factory):
    return write_val(tmp_path_factory.mktemp("regions"))


# --- .npz -----------------------------------------------------------------------------------------------------------

FOUND = image(7, 5)
SHAPE = {"image_w": FOUND["image_w"], "image_h": FOUND["image_h"], "num_bbox": 5}


def test_npz_of_bottom_up_attention_pytorch(tmp_path):
    path = tmp_path / f"{FOUND['image_id']}.npz"
    np.savez_compressed(path, x=FOUND["features"], bbox=FOUND["boxes"], info={"pickled": True}, **SHAPE)
    assert_is(read_npz(path), FOUND, labels=False)


def test_npz_of_openvqa_lies_the_other_way_round(tmp_path):
    path = tmp_path / f"{FOUND['image_id']}.npz"
    np.savez(path, x=FOUND["features"].T, bbox=FOUND["boxes"], **SHAPE)
    assert_is(read_npz(path), FOUND, labels=False)


def test_npz_with_boxes_from_0_to_1_and_padding(tmp_path):
    path = tmp_path / "padded.npz"
    boxes = np.random.default_rng(0).uniform(size=(8, 4))
    np.savez(path, features=np.ones((8, 3)), boxes=boxes, num_boxes=5, image_id="the id")
    regions = read_npz(path)
    assert regions.image_id == "the id"
    assert regions.features.shape == (5, 3)
    np.testing.assert_array_equal(regions.boxes, boxes[:5].astype(np.float32))


@pytest.mark.parametrize("more", [0, 1])
def test_npz_of_uniter(tmp_path, more):
    """`norm_bb`: corners from 0 to 1, width and height, and in some files the area; half floats."""
    path = tmp_path / "nlvr2_dev-850-0-img0.npz"
    corners = FOUND["boxes"] / np.array([FOUND["image_w"], FOUND["image_h"]] * 2, np.float32)
    boxes = np.concatenate([corners, corners[:, 2:] - corners[:, :2], np.zeros((5, more))], axis=1)
    half = {"features": FOUND["features"].astype("f2"), "norm_bb": boxes.astype("f2")}
    np.savez_compressed(path, conf=np.ones(5, "f2"), soft_labels=np.ones((5, 1601), "f2"), **half)
    regions = read_npz(path)
    assert regions.image_id == "nlvr2_dev-850-0-img0"
    np.testing.assert_array_equal(regions.boxes, boxes[:, :4].astype("f2"))
    np.testing.assert_array_equal(regions.features, half["features"])


def test_npy_is_the_features_alone(tmp_path):
    path = tmp_path / "COCO_val2014_000000000007.npy"
    np.save(path, FOUND["features"])
    (regions,) = open_regions(path)
    np.testing.assert_array_equal(regions.features, FOUND["features"])
    assert (regions.image_id, regions.boxes) == (path.stem, None)
    batch = tfvl.VisualBertProcessor.from_pretrained("shapes-visual-bert")
    batch.feature_size = FOUND["features"].shape[1]
    np.testing.assert_array_equal(batch(regions=[str(path)])["visual_embeds"][0], FOUND["features"])
    with pytest.raises(ValueError, match="there are no boxes, and LxmertProcessor needs each region's"):
        tfvl.LxmertProcessor(batch.tokenizer, batch.feature_size)(regions=[str(path)])
    np.save(path, {"features": FOUND["features"]}, allow_pickle=True)  # MMF's
    with pytest.raises(ValueError, match=r"npy: the array is an array of Python objects, which only a pickle"):
        next(open_regions(path))


def npy(header: str, content: bytes = b"") -> bytes:
    padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + content


def test_an_npy_of_one_huge_item_is_not_read(tmp_path):
    path = tmp_path / "a.npy"
    for kind, size in (("|S60000000", 60_000_000), ("<U15000000", 60_000_000), ("|V60000000", 60_000_000)):
        header = npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,)}}")
        path.write_bytes(header)
        os.truncate(path, len(header) + size)  # the rest is a hole, which takes no place on the disk
        with traced() as peak:
            with fails("a.npy: the array has items of 60000000 bytes, at most 4096 are read"):
                next(open_regions(path))
            assert peak() < BAD_FILE_BYTES


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def saved(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s, 2048)}"
GOOD = saved(x=FOUND["features"], bbox=FOUND["boxes"], **SHAPE)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "damaged, or no .npz file"),
        (GOOD[:-30], "damaged, or no .npz file"),
        (GOOD.replace(FOUND["features"].tobytes()[:8], b"ABCDEFGH"), "damaged, or no .npz file"),
        (zipped(x=npy(HUGE % 10**9)), "features is float32 (1000000000, 2048), 8192000000000 bytes, but 0 are stored"),
        (zipped(x=npy(HUGE % -1, b"0" * 8)), "but 8 are stored"),
        (zipped(x=npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x")), "only a pickle could restore"),
        (zipped(x=npy("(" * 300)), "EOF in multi-line statement"),
        (zipped(x=b"nonsense"), "magic string"),
        (zipped(x=b"\x93NUMPY\x09\x00"), "version (9, 0)"),
        (saved(y=np.ones(3)), "it has no array `features` or `x`, only y"),
        (saved(x=np.array([["a"]])), "features are of type <U1, expected numbers"),
        (saved(x=np.ones(3)), "the arrays are features (3,), expected (regions, feature_size)"),
        (saved(x=np.ones((2, 3)), bbox=[[0, 0, 9, 9]] * 2), "the image's width and height are not stored with them"),
        (saved(x=np.ones((2, 3)), bbox=np.zeros((4, 4))), "there are features of 2 regions, but 4 boxes"),
        (saved(x=np.ones((2, 3)), num_bbox=9), "num_boxes is 9, but there are 2 regions"),
        (saved(x=np.ones((2, 3)), num_bbox=[1, 2]), "num_boxes is [1 2], expected one whole number"),
    ],
)
def test_bad_npz(tmp_path, content, sentence):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with traced() as peak:
        with fails(sentence) as caught:
            read_npz(path)
        assert peak() < BAD_FILE_BYTES
    assert str(caught.value).startswith(f"{path}: ")


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as file,
    ):
        file.write(npy(HUGE % (40_000)))
        for _ in range(320):
            file.write(b"\0" * (1 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the array is unpacked"))
    with fails("features claims 335544448 bytes, at most 268435456 are read"):
        read_npz(path)


# --- HDF5 files of others -------------------------------------------------------------------------------------------


def test_h5_with_a_row_per_image(tmp_path):
    found, path = images(3), tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        for name in found[0]:
            file["image_ids" if name == "image_id" else name] = [row[name] for row in found]
    for regions, row in zip(open_regions(path), found, strict=True):
        assert_is(regions, row)
    with RegionStore(path) as store:
        assert_is(store[found[2]["image_id"]], found[2])


def test_h5_of_bottom_up_attention_vqa(tmp_path):
    path, found = tmp_path / "trainval.h5", images(3, lambda number: number + 1)
    boxes = [row["boxes"] / np.float32([row["image_w"], row["image_h"]] * 2) for row in found]
    with h5py.File(path, "w") as file:
        file["image_features"] = np.concatenate([row["features"] for row in found])
        file["image_bb"] = np.concatenate([row["boxes"] for row in found])
        file["spatial_features"] = np.concatenate([np.pad(box, [(0, 0), (0, 2)]) for box in boxes])
        file["pos_boxes"] = [[0, 1], [1, 3], [3, 6]]
    for number, regions in enumerate(open_regions(path)):
        normalized = {**found[number], "image_id": str(number), "boxes": boxes[number]}
        assert_is(regions, normalized, pixels=False, labels=False)


def test_h5_with_a_group_per_image(tmp_path):
    found, path = images(3, lambda number: number + 1), tmp_path / "groups.h5"
    with h5py.File(path, "w") as file:
        for row in found:
            group = file.create_group(row["image_id"])
            group["x"], group["bbox"] = row["features"], row["boxes"]
            group.attrs["image_w"], group.attrs["image_h"] = row["image_w"], row["image_h"]
    for regions, row in zip(open_regions(path), found, strict=True):
        assert_is(regions, row, labels=False)


def test_an_h5_of_others_is_read_after_a_fork_and_by_threads(tmp_path):
    found, path = images(3), tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        for name in found[0]:
            file["image_ids" if name == "image_id" else name] = [row[name] for row in found]

    def is_right(store) -> bool:
        names = [row["image_id"] for row in found] * 20
        return all(
            np.array_equal(store[name].features, found[number % 3]["features"]) for number, name in enumerate(names)
        )

    with RegionStore(path) as store:
        assert is_right(store)
        if (child := os.fork()) == 0:
            os._exit(0 if is_right(store) else 1)
        results = []
        threads = [threading.Thread(target=lambda: results.append(is_right(store))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 3
        assert os.waitpid(child, 0)[1] == 0
        assert pickle.loads(pickle.dumps(store))[found[1]["image_id"]].width == found[1]["image_w"]


def test_other_readers_understand_an_own_store(tmp_path):
    found, path = [image(0, 3), image(1, 5)], tmp_path / "own.h5"
    RegionStore.write(path, [as_regions(0, 3), as_regions(1, 5)])
    with h5py.File(path) as file:
        assert file["image_ids"][:].tolist() == [row["image_id"].encode() for row in found]
        assert file["pos_boxes"][:].tolist() == [[0, 3], [3, 8]]
        np.testing.assert_array_equal(file["features"], np.concatenate([row["features"] for row in found]))


def claims_much(file):
    file.create_dataset("features", (2, 10**6, 2048), "f4", chunks=(1, 1, 2048))


def huge_block(file):
    file.create_dataset("features", (2, 10**6, 2048), "f4", chunks=(1, 10**5, 2048))


def many_images(file):
    file.create_dataset("features", (1 << 40, 1, 8), "f4", chunks=(1, 1, 8))


def external_link(file):
    file["features"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file):
    file["other"] = np.ones((2, 3, 4))
    file["features"] = h5py.SoftLink("/other")


def external_storage(file):
    file.create_dataset("features", (1, 2, 3), "f4", external=[("/etc/passwd", 0, 24)])


def virtual(file):
    layout = h5py.VirtualLayout((1, 2, 3), "f4")
    layout[0] = h5py.VirtualSource("/etc/passwd", "x", (2, 3))
    file.create_virtual_dataset("features", layout)


def few_ids(file):
    file["features"], file["image_ids"] = np.ones((2, 3, 4)), ["a"]


def compound(file):
    file["features"] = np.zeros(2, [("a", "f4"), ("b", "f4")])


def nothing(file):
    file["something"] = 3


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (claims_much, "features claims 8192000000 bytes for one image"),
        (huge_block, "features claims 819200000 bytes for one image or block"),
        (many_images, "features has shape (1099511627776, 1, 8), expected a row for each of"),
        (external_link, "features is a link to somewhere else; refused"),
        (soft_link, "features is a link to somewhere else; refused"),
        (external_storage, "features is no dataset of its own in this file; refused"),
        (virtual, "features is no dataset of its own in this file; refused"),
        (few_ids, "image_ids has shape (1,), expected (2,)"),
        (compound, "expected numbers or strings"),
        (nothing, "neither a dataset `features` nor a group per image"),
    ],
)
def test_hostile_h5(tmp_path, build, sentence):
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w") as file:
        build(file)
    with fails(sentence) as caught:
        RegionStore(path)["0"]
    assert str(caught.value).startswith(str(path))


def test_an_image_of_an_h5_that_cannot_be_used_is_told_and_the_rest_is_read(tmp_path):
    path = tmp_path / "torn.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["pos_boxes"] = np.ones((6, 3)), [[0, 2], [4, 9], [3, 1], [2, 6]]
    bad = []
    assert [regions.image_id for regions in open_regions(path, on_error=bad.append)] == ["0", "3"]
    assert bad == [
        f"{path}, image '1': its regions are 4 to 9 of 6.",
        f"{path}, image '2': its regions are 3 to 1 of 6.",
    ]


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"not HDF5 at all" * 100])
def test_files_that_are_not_hdf5(tmp_path, content):
    path = tmp_path / "bad.h5"
    path.write_bytes(content)
    with fails(f"{path}: damaged, or not HDF5"):
        RegionStore(path)


def test_a_truncated_h5_store(tmp_path, tsv):
    path = tmp_path / "store.h5"
    convert(tsv, path)
    for size in range(0, path.stat().st_size, 997):
        (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:size])
        with fails("damaged, or not HDF5"):
            RegionStore(tmp_path / "cut.h5")


def test_an_id_that_stands_twice_in_an_h5(tmp_path):
    path = tmp_path / "twice.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["image_ids"] = np.ones((2, 3, 4)), ["a", "a"]
    with fails("image 'a' stands in it twice"):
        RegionStore(path)


# --- any source -----------------------------------------------------------------------------------------------------


def test_a_directory_is_read_in_the_order_of_names(tmp_path):
    write_tsv(tmp_path / "b.tsv", images(3)[1:])
    np.savez(tmp_path / "a.npz", x=FOUND["features"])
    (tmp_path / "c.npz").write_bytes(b"torn")
    (tmp_path / "notes.txt").write_text("not mine")
    bad, parts = [], []
    read = list(open_regions(tmp_path, on_error=bad.append, on_progress=parts.append))
    assert [regions.image_id[-3:] for regions in read] == ["a", "001", "002"]
    assert len(bad) == 1
    assert bad[0].startswith(f"{tmp_path / 'c.npz'}: damaged")
    assert parts == sorted(parts)
    assert parts[-1] == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "no such file or directory"),
        ("a.pkl", "not '.pkl'"),
        ("empty", "the directory has no region features"),
    ],
)
def test_sources_that_are_none(tmp_path, name, sentence):
    (tmp_path / "a.pkl").touch()
    (tmp_path / "empty").mkdir()
    with fails(sentence):
        open_regions(tmp_path / name)


def test_limits_hold_a_real_image():
    assert region_h5.MAX_IMAGE_BYTES > 10 * (100 * 2048 * 4)
