"""What the command line writes to a terminal: nothing of a stranger's file is obeyed there."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from support.paths import ROOT

from tfvl import shapes
from tfvl.cli.app import main
from tfvl.cli.console import plain, print_table, say
from tfvl.porting.hub import BUNDLED_DIRECTORY

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u200f\u061c\u200etxt.exe\ud800"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u200f\u061c\u200etxt.exe\ud800"
UNSAFE = {"\x1b", "\x07", "\x9b", "\u202e", "\u200f", "\u061c", "\u200e"}


def test_control_characters_are_written_out(capsys):
    assert plain(EVIL) == SHOWN
    assert plain("naïve 猫 \u00a0 \N{FAMILY} a\u200db\n\tc") == "naïve 猫 \u00a0 \N{FAMILY} a\u200db\n\tc"
    say(EVIL)
    say(EVIL, stderr=True)
    print_table(EVIL, ("answer",), [(EVIL,)])
    captured = capsys.readouterr()
    assert captured.out.startswith(SHOWN + "\n")
    assert captured.err == SHOWN + "\n"
    assert not set(captured.out) & UNSAFE


@pytest.fixture
def evil_model(tmp_path) -> Path:
    """Makes a ViLT, each label of which would clear the terminal and name its window."""
    directory = tmp_path / "evil"
    shutil.copytree(BUNDLED_DIRECTORY / "shapes-vilt", directory)
    config = json.loads((directory / "config.json").read_text())
    config["id2label"] = {index: f"red\nFORGED{index}{EVIL[:-1]}" for index in config["id2label"]}
    config["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_labels_of_a_checkpoint_are_only_shown(evil_model, tmp_path, capsys):
    shapes.draw_scene(1).image().save(tmp_path / "a.png")
    assert main(["ask", str(tmp_path / "a.png"), f"what{EVIL[:-1]}?", "--model", str(evil_model)]) == 0
    captured = capsys.readouterr()
    assert r"\x1b]0;owned" in captured.out
    assert r"red\nFORGED" in captured.out
    assert not set(captured.out + captured.err) & UNSAFE


def test_a_label_with_half_a_surrogate_pair_is_refused(evil_model, tmp_path, capsys):
    shapes.draw_scene(1).image().save(tmp_path / "a.png")
    config = json.loads((evil_model / "config.json").read_text())
    config["id2label"]["3"] = "\ud800red"
    (evil_model / "config.json").write_text(json.dumps(config))
    sentence = r"config.json: id2label[3] is '\ud800red', which holds half a surrogate pair"
    for arguments in (["ask", str(tmp_path / "a.png"), "what?", "--model"], ["port"], ["export"]):
        assert main([*arguments, str(evil_model), *([] if arguments[0] == "ask" else [str(tmp_path / "out")])]) == 2
        assert sentence in capsys.readouterr().err


def test_errors_are_only_shown(tmp_path, capsys):
    name = f"{tmp_path}/none\x1b[2J\x9b"
    assert main(["port", name, str(tmp_path / "out")]) == 2
    assert main(["ask", name, "what?"]) == 2
    assert not set(capsys.readouterr().err) & {"\x1b", "\x9b"}


def test_commands_print_by_say():
    """Or by rich, which is given texts of `plain`."""
    for path in (ROOT / "tfvl" / "cli").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert len(found) == 2 * (path.name == "console.py"), (path, found)
