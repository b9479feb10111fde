"""README's Python, run in its order; blocks that name a hub checkpoint are only compiled.

Blocks marked `py` need a server, several machines or files that are not here; other tests run their like.
"""

import re

import pytest
from support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL = re.search(r"## Command line\n\n```\n(.*?)```", README, re.DOTALL).group(1)


def test_python_blocks_run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(BLOCKS):
        code = compile(block, f"README.md, Python block {number}", "exec")
        if "dandelin/" in block:
            continue
        exec(code, names)
        printed = capsys.readouterr().out.splitlines()
        promised = re.findall(r"^print\(.*\)  # ([^:\n]+)", block, re.MULTILINE)
        assert printed[: len(promised)] == promised
    assert (tmp_path / "my-vilt" / "model.safetensors").is_file()
    assert (tmp_path / "models" / "vilt_vqa" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("command", re.findall(r"^tfvl (\w+)", SHELL, re.MULTILINE))
def test_commands_exist(command):
    from tfvl.cli import app as cli

    assert cli.main([command, "--help"]) == 0
