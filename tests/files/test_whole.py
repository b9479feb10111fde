"""Directories that are replaced as a whole."""

import pytest
from support.checkpoint import save_tiny

from tfvl.cli.app import main
from tfvl.files.whole import written_whole


def test_nothing_of_the_old_one_stays(tmp_path):
    target = tmp_path / "new" / "target"
    for name in ("a", "b"):
        with written_whole(target) as directory:
            (directory / name).write_text(name)
        assert [path.name for path in target.iterdir()] == [name]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_an_error_leaves_the_old_one_as_it_is(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "target") as directory:
        (directory / "new" / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["old"]


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
