"""The commands on Apache Beam write the same bytes in memory, in worker processes behind the Fn API, and on Dask."""

import json
import os
import re
from pathlib import Path

import pytest
from support import datasets
from support.cli import fails

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (the extra beam)")

from support.prepared import image_artefact

from tfvl import shapes
from tfvl.cli.app import main

PROCESSES = ["--runner", "DirectRunner", "--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
COMMANDS = ("prepare", "score", "regions")
LAST = {"prepare": "train/prepared.json", "score": "_SUCCESS", "regions": "report.json"}  # the file written last


@pytest.fixture(scope="module")
def dask():
    """Yields the address of a Dask cluster of two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> dict[str, list[str]]:
    """Returns each command with its options, except for its output and its runner. One of its pictures is torn."""
    folder = tmp_path_factory.mktemp("commands")
    datasets.write_vqa(folder / "data")
    datasets.write_images(folder / "data" / "images", datasets.vqa_images())
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(4):
        shapes.draw_scene(seed).image().save(photos / f"scene-{seed}.png")
    for torn in (folder / "data" / "images" / f"{datasets.vqa_images()[3]}.jpg", photos / "scene-0.png"):
        torn.write_bytes(torn.read_bytes()[:-200])
    vqa = ["--task", "vqa", "--data", f"{folder}/data", "--split", "train", "--images", f"{folder}/data/images"]
    model = str(image_artefact(folder / "model"))
    return {
        "prepare": ["prepare", *vqa, "--shards", "4", "--min-answers", "2"],
        "score": ["score", *vqa, "--model", model, "--shards", "4", "--batch-size", "5"],
        "regions": ["regions", str(photos), "--detector", "shapes-detector", "--shards", "2"],
    }


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def workers_in(printed: str) -> dict[str, int]:
    """Reads from a command's output how many shards each process ("host:process id") did."""
    (line,) = re.findall(r"shards by worker: (.*)", printed)
    return {name: int(count) for name, count in re.findall(r"(\S+:\d+): (\d+)", line)}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_bytes_from_every_runner_and_both_workers_at_work(command, commands, dask, tmp_path, capsys):
    runners = {
        "memory": ["--runner", "DirectRunner"],
        "processes": PROCESSES,
        "dask": ["--runner", "DaskRunner", "--dask_client_address", dask],
    }
    workers = {}
    for name, flags in runners.items():
        assert main([*commands[command], "--out", str(tmp_path / name), *flags]) == 0
        workers[name] = workers_in(capsys.readouterr().out)
    written = {name: files_in(tmp_path / name) for name in runners}
    assert written["memory"] == written["processes"] == written["dask"]
    assert LAST[command] in written["dask"]
    assert [len(workers[name]) for name in runners] == [1, 2, 2]
    assert len({sum(counts.values()) for counts in workers.values()}) == 1  # every shard once
    here = str(os.getpid())
    assert [any(worker.endswith(f":{here}") for worker in workers[name]) for name in runners] == [True, False, False]


def test_regions_as_one_file(commands, tmp_path):
    from tfvl import RegionStore

    command = [*commands["regions"], "--out"]
    assert main([*command, str(tmp_path / "shards"), "--runner", "DirectRunner"]) == 0
    assert main([*command, str(tmp_path / "regions.h5"), "--runner", "DirectRunner"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["regions.h5", "shards"]
    with RegionStore(tmp_path / "regions.h5") as store:
        assert sorted(store) == ["scene-1", "scene-2", "scene-3"]
    assert json.loads((tmp_path / "shards" / "report.json").read_text())["images that fail"]["count"] == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_mistakes_are_one_line(command, commands, tmp_path, capsys):
    run = [*commands[command], "--out", tmp_path / "out"]
    line = fails(capsys, *run, "--runner", "DirectRunner", "--overwrit")
    assert line == "tfvl: neither tfvl nor Apache Beam knows --overwrit."
    assert "Unexpected pipeline runner: NoRunner" in fails(capsys, *run, "--runner", "NoRunner")
    dead = ["--runner", "DaskRunner", "--dask_client_address", "tcp://127.0.0.1:9", "--dask_connection_timeout", "1s"]
    assert "127.0.0.1:9" in fails(capsys, *run, *dead)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_regions_says_what_does_not_go_with_a_runner(commands, tmp_path, capsys):
    run = [*commands["regions"], "--out", tmp_path / "out"]
    assert "no such option: --direct_num_workers" in fails(capsys, *run, "--direct_num_workers", "2")
    assert "--draw and --workers do not go with --runner" in fails(
        capsys, *run, "--workers", "2", "--runner", "DirectRunner"
    )
    assert "name a --detector" in fails(capsys, "regions", "x.h5", "--out", "y.h5", "--runner", "DirectRunner")
    assert "preset is 'small'" in fails(capsys, *run, "--preset", "small", "--runner", "DirectRunner")
