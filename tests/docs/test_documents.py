"""The documents: their Python runs, their links lead somewhere, and the README is short and tells everything once.

Blocks that name a hub checkpoint are only compiled. Blocks marked `py` need a server, several machines or files that
are not here; other tests run their like.
"""

import re
from pathlib import Path

import pytest
from support.paths import ROOT

from tfvl.cli import app as cli

DOCUMENTS = [
    path for path in sorted(ROOT.rglob("*.md")) if not {"bundled", ".git", "build", "node_modules"} & {*path.parts}
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.search(r"## Command line\n\n```\n(.*?)```", README, re.DOTALL).group(1)
CODE = re.compile(r"^```\w*\n.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path) and path.parent.name != "serving"], ids=name
)
def test_python_blocks_run(capsys, monkeypatch, tmp_path, path):
    """In their order, and they print what stands behind `print(…)  #`; those of serving/ need a server."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(blocks(path)):
        code = compile(block, f"{name(path)}, Python block {number}", "exec")
        if "dandelin/" in block:
            continue
        exec(code, names)
        printed = capsys.readouterr().out.splitlines()
        promised = re.findall(r"^print\(.*\)  # ([^:\n]+)", block, re.MULTILINE)
        assert printed[: len(promised)] == promised
    if path == ROOT / "README.md":
        assert (tmp_path / "my-vilt" / "model.safetensors").is_file()
        assert (tmp_path / "models" / "vilt_vqa" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_py_blocks_compile(path):
    for block in re.findall(r"^```py\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        compile(block, name(path), "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    """To a file of the repository, or a heading of this document."""
    text = path.read_text(encoding="utf-8")
    prose = CODE.sub("", text)
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    local = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in local if link.startswith("#") and link[1:] not in headings] == []
    files = [link.partition("#")[0] for link in local if not link.startswith("#")]
    assert [file for file in files if not (path.parent / file).exists()] == []


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 250


@pytest.mark.parametrize("command", re.findall(r"^tfvl (\w+)", SHELL, re.MULTILINE))
def test_commands_exist(command):
    assert cli.main([command, "--help"]) == 0
