"""`RegionStore`, alike in both of its formats, and `convert`; test_tfrecord.py has what is TFRecord's own."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from support.regions import assert_is, assert_same, fails, image, traced, write_val

from tfvl.preprocessing.regions.reading import open_regions
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore, convert
from tfvl.preprocessing.regions.tsv import read_tsv

SUFFIXES = [".h5", ".tfrecord"]
DEADLINE = 900  # seconds, for processes on a busy machine: a guard against waiting for ever


@pytest.fixture(scope="module")
def tsv(tmp_path_factory):
    return write_val(tmp_path_factory.mktemp("regions"))


@pytest.fixture(params=SUFFIXES)
def store(request, tsv, tmp_path):
    path = tmp_path / f"val{request.param}"
    assert convert(tsv, path) == (9, 0)
    with RegionStore(path) as store:
        yield store


# --- the store ------------------------------------------------------------------------------------------------------


def test_random_access_gives_what_reading_in_order_gives(store, tsv):
    in_order = list(read_tsv(tsv))
    assert list(store) == [regions.image_id for regions in in_order]
    assert len(store) == 9
    for number in np.random.default_rng(0).permutation(9):
        assert_same(store[in_order[number].image_id], in_order[number])
        assert_is(store[in_order[number].image_id], image(number, number % 4 + 1))


def test_a_store_is_read_in_order_too(store, tsv):
    for one, other in zip(open_regions(store.path), read_tsv(tsv), strict=True):
        assert_same(one, other)


def test_what_a_store_has_not_got(store):
    assert "cat" not in store
    assert image(3)["image_id"] in store
    with fails(f"{store.path}: there is no image 'cat' among 9"):
        store["cat"]


def test_lookup_pads(store):
    ids = [image(number)["image_id"] for number in (6, 3, 0)]
    batch = store.lookup(np.array(ids, "S"), max_regions=3)
    assert batch["mask"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    np.testing.assert_array_equal(batch["features"][1], image(3, 4)["features"][:3])
    assert batch["boxes"].shape == (3, 3, 4)


def test_lookup_inside_tf_data(store):
    import tensorflow as tf

    ids = [image(number)["image_id"] for number in (8, 1)]
    dataset = tf.data.Dataset.from_tensor_slices(ids).batch(2)
    dataset = dataset.map(lambda ids: tf.numpy_function(lambda ids: store.lookup(ids)["features"], [ids], tf.float32))
    np.testing.assert_array_equal(next(iter(dataset)), store.lookup(ids)["features"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_with_little_known_of_them(tmp_path, suffix):
    rows = [Regions(np.zeros((0, 0)), image_id="none"), Regions(np.ones((2, 3)), image_id="ünï/code")]
    path = tmp_path / f"few{suffix}"
    assert RegionStore.write(path, iter(rows)) == 2
    with RegionStore(path) as store:
        assert len(store["none"]) == 0
        assert_same(store["ünï/code"], rows[1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_precision_takes_half_the_place(tmp_path, suffix):
    rows = [Regions(np.full((36, 256), 1 / 3), image_id=str(number)) for number in range(10)]
    sizes = []
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}{suffix}"
        RegionStore.write(path, rows, dtype=dtype)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]
    with RegionStore(path) as store:
        np.testing.assert_array_equal(store["4"].features, np.full((36, 256), np.float16(1 / 3)))
        assert store["4"].features.dtype == np.float32


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        ([("a", (2, 3)), ("b", (2, 3)), ("a", (2, 3))], {}, "image 'a' comes twice"),
        ([("a", (2, 3)), (None, (2, 3))], {}, "image 1 has no image_id"),
        ([("a", (2, 3)), ("b", (2, 4))], {}, "image 'b' has features of size 4, those before it 3"),
        ([], {}, "there are no images to write"),
        ([("a", (2, 3))], {"dtype": "int8"}, "dtype is 'int8', expected float32 or float16"),
    ],
)
def test_images_that_cannot_be_written(tmp_path, suffix, rows, options, sentence):
    path = tmp_path / f"bad{suffix}"
    with fails(sentence):
        RegionStore.write(path, (Regions(np.zeros(shape), image_id=name) for name, shape in rows), **options)
    assert not list(tmp_path.iterdir())


def test_values_too_large_for_half_precision_are_refused(tmp_path):
    with fails("image 'a' has features beyond float16's largest value"):
        RegionStore.write(tmp_path / "a.h5", [Regions([[1e6]], image_id="a")], dtype="float16")


def test_images_with_and_without_boxes_do_not_share_an_hdf5_store(tmp_path):
    rows = [Regions(np.zeros((1, 3)), np.zeros((1, 4)), "a"), Regions(np.zeros((1, 3)), image_id="b")]
    with fails("image 'b' and those before it do not both have boxes"):
        RegionStore.write(tmp_path / "a.h5", rows)


@pytest.mark.parametrize("path", ["a.tsv", "a"])
def test_formats_that_are_no_store(tmp_path, path):
    with fails("a store of regions is one of .h5, .hdf5, .tfrecord, .tfrecords, not"):
        RegionStore(tmp_path / path)
    with fails("missing.h5: no such file"):
        RegionStore(tmp_path / "missing.h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_old_store_stays_until_the_new_one_is_whole(tmp_path, suffix):
    path = tmp_path / f"store{suffix}"
    RegionStore.write(path, [Regions(np.ones((1, 2)), image_id="old")])

    def broken():
        yield Regions(np.zeros((1, 2)), image_id="new")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        RegionStore.write(path, broken())
    with RegionStore(path) as store:
        assert list(store) == ["old"]
        assert store["old"].features.tolist() == [[1, 1]]
    assert all(file.name.startswith("store") for file in tmp_path.iterdir())


KILLED = """
import sys, time, numpy as np
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.preprocessing.regions.regions import Regions

def slow():
    for number in range(10**6):
        yield Regions(np.ones((36, 256)), image_id=str(number))
        if number == 20:
            print("half way", flush=True)
            time.sleep(3600)  # until it is killed

RegionStore.write(sys.argv[1], slow())
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_half_way_it_leaves_no_half_store(tmp_path, suffix):
    path = tmp_path / f"store{suffix}"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half way\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert RegionStore.write(path, [Regions(np.ones((1, 2)), image_id="whole")]) == 1
    with RegionStore(path) as store:
        assert list(store) == ["whole"]
    assert {file.name for file in tmp_path.iterdir()} <= {path.name, f"{path.name}.index"}  # nor anything else


def _read_often(store: RegionStore, seed: int) -> bool:
    ids = list(store)
    for number in np.random.default_rng(seed).integers(0, len(ids), 200):
        count = number % 4 + 1
        if not np.array_equal(store[ids[number]].features, image(number, count)["features"]):
            return False
    return True


@pytest.mark.parametrize(("method", "processes"), [("fork", 3), ("spawn", 1)])
def test_processes_read_one_store_at_a_time(store, method, processes):
    assert _read_often(store, 0)  # the file is in use before the fork
    context = multiprocessing.get_context(method)
    with context.Pool(processes) as pool:
        running = pool.starmap_async(_read_often, [(store, seed) for seed in range(1, 4)])
        assert _read_often(store, 5)
        assert running.get(DEADLINE) == [True] * 3


def test_children_use_the_store_that_was_opened_before_the_fork(store):
    children = []
    for seed in range(3):
        if (child := os.fork()) == 0:
            os._exit(0 if _read_often(store, seed) else 1)
        children.append(child)
    assert _read_often(store, 4)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3


def test_threads_read_one_store(store):
    results = []
    threads = [threading.Thread(target=lambda seed=seed: results.append(_read_often(store, seed))) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_a_pickled_store_opens_its_file_again(store):
    with pickle.loads(pickle.dumps(store)) as other:
        assert list(other) == list(store)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_90_more_images_need_less_memory_than_one_more_image_has(tmp_path, suffix):
    features = np.ones((36, 2048), np.float32)  # 0.3 MB; other threads of the process need some memory too

    def peak(count: int) -> int:
        rows = (Regions(features + number, image_id=str(number)) for number in range(count))
        with traced() as result:
            RegionStore.write(tmp_path / f"{count}{suffix}", rows)
            return result()

    peak(1)  # imports
    assert peak(120) < peak(30) + features.nbytes


def test_a_flipped_byte_of_an_hdf5_store_gives_no_wrong_image(tmp_path):
    rows = {name: Regions(np.full((3, 8), ord(name)), image_id=name) for name in "abc"}
    path = tmp_path / "store.h5"
    RegionStore.write(path, rows.values())
    content, noticed = path.read_bytes(), 0
    for position in range(0, len(content), 11):
        path.write_bytes(content[:position] + bytes([content[position] ^ 64]) + content[position + 1 :])
        try:
            with RegionStore(path) as store:
                for name, regions in rows.items():
                    assert_same(store[name], regions)
        except ValueError:
            noticed += 1
    assert noticed > 10


# --- convert ---------------------------------------------------------------------------------------------------------


def test_converting_counts_what_is_torn(tmp_path, tsv):
    torn = tmp_path / "torn.tsv"
    torn.write_bytes(b"x\ty\n" + tsv.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="line "):
        assert convert(torn, tmp_path / "torn.h5") == (8, 2)
    assert convert(tmp_path / "torn.h5", tmp_path / "again.tfrecord", dtype="float16") == (8, 0)


def test_reading_and_hdf5_stores_need_no_tensorflow(tmp_path, tsv):
    code = (
        "import sys; from tfvl.preprocessing.regions.store import RegionStore, convert;"
        "convert(sys.argv[1], sys.argv[2]); next(iter(RegionStore(sys.argv[2])));"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tsv), str(tmp_path / "a.h5")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
