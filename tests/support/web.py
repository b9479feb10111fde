"""Exports folders with a page, each once in a run of the tests, and serves pages that import their `tfvl.js`."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tfvl
from support import browser
from support.checkpoint import tiny_processor
from support.export import TOP_K, random_model
from support.once import once
from support.paths import TESTS

CALLS = TESTS / "web/calls.js"
# All that a page of others needs.
MODULE = (
    '<!doctype html><html lang="en"><title>P</title><link rel="icon" href="data:,"><script type="module">{}</script>'
)
LOADING = 'import { load } from "./model/tfvl.js"; window.load = load; window.model = await load("./model");'


def web_folder(name: str, **options) -> Path:
    """Exports a bundled model, or a head with random weights, as a folder with a page, by `tfvl.export.web`."""

    def make(path: Path) -> None:
        if name.startswith("Vilt"):
            tfvl.export.web(random_model(name), tiny_processor(), path, top_k=TOP_K, image_size=64, **options)
        else:
            tfvl.export.web(*tfvl.auto.load(name), path, title=name, **options)

    said = "".join(f"-{option}-{value}" for option, value in sorted(options.items()))
    return once(f"web/{name}{said}", make)


def head_folder(name: str) -> Path:
    """Exports a head with random weights, in 32-bit floats and with its attentions; a server serves its file too."""
    return web_folder(name, quantize=None, explain=True)


def text_of(data: bytes) -> str:
    """Encodes bytes in base64, as the scripts of the tests take them."""
    return base64.b64encode(data).decode()


@contextmanager
def served(folder: Path, directory: Path, *, isolated: bool = False) -> Iterator[str]:
    """Serves a folder's page, with its packages installed; yields the address. Its files may be changed meanwhile.

    Args:
        folder: a folder of `web_folder`.
        directory: an empty directory, for the files that are served.
        isolated: whether to send the headers that allow threads.
    """
    for path in folder.iterdir():
        (directory / path.name).symlink_to(path)
    browser.install(directory)
    with browser.static(directory, isolated=isolated) as address:
        yield address


@contextmanager
def site(folder: Path, directory: Path, *, isolated: bool = False, module: str = LOADING) -> Iterator[str]:
    """Serves a page with nothing but a module at `/`, and the folder at `/model/`; yields the address.

    Args:
        folder: a folder of `web_folder`.
        directory: an empty directory, for the files that are served.
        isolated: whether to send the headers that allow threads.
        module: the script of the page at `/`.
    """
    copy = directory / "model"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    browser.install(copy)
    (directory / "index.html").write_text(MODULE.format(module))
    with browser.static(directory, isolated=isolated) as address:
        yield address
