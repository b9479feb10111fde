"""Files and directories that are replaced as a whole, whatever happens on the way."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoint import save_tiny

from tfvl.cli.app import main
from tfvl.files.whole import (
    refuse_to_overwrite,
    remove_left_overs,
    scratch,
    write_text,
    written_files,
    written_whole,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def killed(code: str, *arguments) -> None:
    """Runs code that kills its own process, and asserts that it was killed."""
    start = "import os, pathlib, signal, sys; from tfvl.files import whole\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
HALF_A_FILE = f"""
with whole.written_files(sys.argv[1]) as (new,):
    new.write_text("half")
    {KILL}
"""
HALF_A_DIRECTORY = f"""
with whole.written_whole(sys.argv[1]) as new:
    (new / "half").touch()
    {KILL}
"""
BETWEEN_TWO_RENAMES = f"""
rename = pathlib.Path.rename
def rename_or_die(self, target):
    if str(target) == sys.argv[1]:
        {KILL}
    return rename(self, target)
pathlib.Path.rename = rename_or_die
with whole.written_whole(sys.argv[1]) as new:
    (new / "new").touch()
"""


# --- directories ----------------------------------------------------------------------------------------------------


def test_nothing_of_the_old_one_stays(tmp_path):
    target = tmp_path / "new" / "target"
    for name in ("a", "b"):
        with written_whole(target) as directory:
            (directory / name).write_text(name)
        assert names(target) == [name]
    assert names(target.parent) == ["target"]


def test_an_error_leaves_the_old_one_as_it_is(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "target") as directory:
        (directory / "new" / "file").touch()
    assert (names(tmp_path), names(tmp_path / "target")) == (["target"], ["old"])


def test_the_old_one_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    rename, refused = Path.rename, []

    def refuse_once(self, to):
        if to == target and not refused:
            refused.append(self)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse_once)
    with pytest.raises(OSError, match=r"Input/output error: .*target") as caught, written_whole(target) as directory:
        (directory / "new").touch()
    assert caught.value.filename == str(target)
    assert (len(refused), names(tmp_path), names(target)) == (1, ["target"], ["old"])


def test_a_link_to_a_directory_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with written_whole(tmp_path / "link") as directory:
        (directory / "a").touch()
    assert (tmp_path / "link").readlink() == Path("real")
    assert (names(tmp_path), names(tmp_path / "real")) == (["link", "real"], ["a"])


def test_port_replaces_and_does_not_merge(tmp_path):
    """What an earlier port or another tool left there must not be read together with the new weights."""
    source, target = save_tiny(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    (target / "pytorch_model.bin").write_bytes(b"of another model")
    assert main(["port", str(source), str(target)]) == 2
    assert main(["port", str(source), str(target), "--overwrite"]) == 0
    assert not (target / "pytorch_model.bin").exists()
    assert {"config.json", "model.safetensors", "vocab.txt"} <= {path.name for path in target.iterdir()}
    assert main(["port", str(target), str(target), "--overwrite"]) == 0  # onto itself
    assert (target / "model.safetensors").read_bytes()[:8] != b""


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_take_their_places_together(tmp_path):
    paths = tmp_path / "new" / "a", tmp_path / "new" / "b"
    with written_files(*paths) as new:
        for number, path in enumerate(new):
            path.write_text(str(number))
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["0", "1"]
    with pytest.raises(FileNotFoundError), written_files(*paths, removing=[paths[1]]) as (new, _):
        (new / "below").touch()
    assert [path.read_text() for path in paths] == ["0", "1"]
    with written_files(paths[0], removing=[paths[1]]) as (new,):
        new.write_text("2")
        assert paths[1].exists()  # until the new one is whole
    assert (names(tmp_path / "new"), paths[0].read_text()) == (["a"], "2")


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/real")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "far" / "real").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert (names(tmp_path), names(tmp_path / "far")) == (["far", "link"], ["real"])


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe exists and is no regular file"):
        write_text(tmp_path / "pipe", "")
    assert names(tmp_path) == ["pipe"]


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced, renamed, replace, rename, sync = set(), [], os.replace, Path.rename, os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino) or sync(descriptor))

    def watched(way):
        def move(source, target):
            if not Path(target).name.startswith("."):  # one of those that were asked for
                paths = [Path(source), *Path(source).rglob("*")]
                renamed.extend((path.name, path.stat().st_ino in synced) for path in paths)
            return way(source, target)

        return move

    monkeypatch.setattr(os, "replace", watched(replace))
    monkeypatch.setattr(Path, "rename", watched(rename))
    with written_files(tmp_path / "a", tmp_path / "b") as new:
        for path in new:
            path.write_text("")
    assert renamed == [("a", True), ("b", True)]
    assert tmp_path.stat().st_ino in synced
    renamed.clear()
    with written_whole(tmp_path / "c") as directory:
        (directory / "d").mkdir()
        (directory / "d" / "e").touch()
    assert renamed == [("new", True), ("d", True), ("e", True)]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    (tmp_path / "plain directory").mkdir()
    write_text(tmp_path / "file", "")
    with written_whole(tmp_path / "directory"):
        pass
    for made, plain in (("file", "plain"), ("directory", "plain directory")):
        assert (tmp_path / made).stat().st_mode == (tmp_path / plain).stat().st_mode


@pytest.mark.parametrize("write", [written_whole, written_files])
@pytest.mark.parametrize(
    ("number", "at", "named"),
    [(errno.ENOSPC, None, "target"), (errno.EIO, "part", "target"), (errno.EIO, "/elsewhere", "/elsewhere")],
)
def test_an_error_names_what_was_to_be_written(tmp_path, write, number, at, named):
    def fail(new):
        place = new if write is written_whole else new[0]
        raise OSError(number, os.strerror(number), at and str(place / at))

    with pytest.raises(OSError, match=os.strerror(number)) as caught, write(tmp_path / "target") as new:
        fail(new)
    assert caught.value.filename == str(tmp_path / named)
    assert not names(tmp_path)


# --- processes that were killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [HALF_A_FILE, HALF_A_DIRECTORY])
def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path, code):
    killed(code, tmp_path / "target")
    assert [name for name in names(tmp_path) if name.startswith(".target.")] == names(tmp_path) != []
    write_text(tmp_path / "another", "")
    assert names(tmp_path) == ["another"]


def test_what_a_living_process_writes_stays(tmp_path):
    with scratch(tmp_path / "target") as one, written_whole(tmp_path / "target") as other:
        remove_left_overs(tmp_path)
        write_text(tmp_path / "another", "")
        assert one.is_dir()
        assert other.is_dir()
    assert names(tmp_path) == ["another", "target"]


def test_only_scratch_directories_are_left_overs(tmp_path):
    hexadecimal = "0123456789abcdef"
    for name in (f".a.{hexadecimal}.tmp", f".b.{hexadecimal}", ".c.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / f".c.{hexadecimal}.tmp").symlink_to(tmp_path / ".c.tmp")
    (tmp_path / ".c.tmp" / "lock").touch()
    before = names(tmp_path)
    remove_left_overs(tmp_path)
    assert names(tmp_path) == before
    assert names(tmp_path / ".c.tmp") == ["lock"]
    (tmp_path / f".a.{hexadecimal}.tmp" / "lock").touch()
    remove_left_overs(tmp_path)
    assert names(tmp_path) == before[1:]


def test_killed_between_two_renames_the_old_one_comes_back(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    killed(BETWEEN_TWO_RENAMES, target)
    assert not target.exists()
    write_text(tmp_path / "another", "")
    assert (names(tmp_path), names(target)) == (["another", "target"], ["old"])
    killed(BETWEEN_TWO_RENAMES, target)
    with written_whole(target) as directory:
        (directory / "newer").touch()
    assert (names(tmp_path), names(target)) == (["another", "target"], ["newer"])


# --- refusing to overwrite ------------------------------------------------------------------------------------------


def test_what_may_be_overwritten(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "1").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "empty"):
        refuse_to_overwrite(path, False)
    refuse_to_overwrite(tmp_path / "full", True)
    refuse_to_overwrite(tmp_path / "none", False, "file")
    refuse_to_overwrite(tmp_path / "file", True, "file")
    for arguments, sentence in (
        (("full", False), "full exists already; choose another directory or pass --overwrite"),
        (("full", False, "directory", "export to 2"), "full exists already; export to 2$"),
        (("file", True), "file is a file; name a directory"),
        (("file", False, "file"), "file exists already; choose another file or pass --overwrite"),
        (("empty", True, "file"), "empty is a directory; name a file"),
    ):
        with pytest.raises(FileExistsError, match=sentence):
            refuse_to_overwrite(tmp_path / arguments[0], *arguments[1:])
