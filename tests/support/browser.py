"""Opens pages in a headless Chromium, and serves their static files.

Chromium is the system's (Debian: `apt-get install chromium`), driven by Playwright (`pip install ".[browser]"`);
packages of npm are installed by `npm install --prefix tests/web`. If one of these is missing, the tests skip.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.http_server import Quiet, serving
from support.paths import TESTS

NODE_MODULES = TESTS / "web/node_modules"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What a guard ends, no measure of anything: a busy machine is no reason to fail.
PATIENCE_SECONDS = 300
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
HERE = ("127.0.0.1", "localhost", "::1")
# Chromium writes this, no page does, where WebGPU is asked for and the machine has none.
FORGIVEN = ("No available adapters.",)


@dataclass
class Visit:
    """A page, and what it wrote and requested while it was open.

    Attributes:
        page: Playwright's `Page`.
        messages: "type: text" of each line on the console, and of each error that was not caught.
        failed: "address: reason" of each request that got no answer, or status 400 and above.
        elsewhere: the addresses of requests to other machines, which never leave this one.
    """

    page: object
    messages: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def assert_clean(self) -> None:
        """Asserts that nothing is on the console, that every request was answered, and none went to other machines."""
        assert (self.messages, self.failed, self.elsewhere) == ([], [], [])


@contextmanager
def chromium(*arguments: str) -> Iterator:
    """Starts a Chromium (Playwright's `Browser`) that resolves no names of other machines; without one the test skips.

    While it is open, this thread has a running event loop, so that `asyncio.run` is refused.

    Args:
        arguments: further ones of its command line.
    """
    if find_spec("playwright") is None:
        pytest.skip('needs Playwright: pip install ".[browser]"')
    if CHROMIUM is None:
        pytest.skip("needs Chromium, e.g. apt-get install chromium")
    from playwright.sync_api import sync_playwright

    own = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"]
    if os.geteuid() == 0:
        own.append("--no-sandbox")  # which refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*own, *arguments])
        yield browser
        browser.close()


@contextmanager
def visit(browser, **options) -> Iterator[Visit]:
    """Opens a new page, with nothing stored from earlier ones.

    Args:
        browser: the browser that `chromium` started.
        options: options of Playwright's `new_context`: `viewport`, `color_scheme`, `permissions`, ….
    """
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    visited = Visit(context.new_page())

    def asked(request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE:
            visited.elsewhere.append(request.url)

    def answered(response) -> None:
        if response.status >= 400:
            visited.failed.append(f"{response.url}: {response.status}")

    def written(message) -> None:
        if message.text not in FORGIVEN:
            visited.messages.append(f"{message.type}: {message.text}")

    context.on("request", asked)
    context.on("requestfailed", lambda request: visited.failed.append(f"{request.url}: {request.failure}"))
    context.on("response", answered)
    context.on("console", written)
    context.on("weberror", lambda error: visited.messages.append(f"error: {error.error}"))
    yield visited
    context.close()


def package(name: str) -> Path:
    """Returns the directory of an npm package, such as "axe-core". Skips the test if it is not installed."""
    path = NODE_MODULES / name
    if not path.is_dir():
        pytest.skip(f"needs {name} from npm: npm install --prefix tests/web")
    return path


def install(folder: Path) -> None:
    """Does what `npm install` does in an exported folder, without the registry."""
    package("@litertjs/core")
    (folder / "node_modules").symlink_to(NODE_MODULES)


@contextmanager
def static(folder: Path, *, isolated: bool = False) -> Iterator[str]:
    """Starts a static file server on this machine; yields its address without the closing slash.

    Args:
        folder: the folder that it serves.
        isolated: whether it sends the headers that let a page use threads.
    """

    class Files(Quiet, SimpleHTTPRequestHandler):
        def end_headers(self):
            for name, value in ISOLATION.items() if isolated else ():
                self.send_header(name, value)
            super().end_headers()

    with serving(partial(Files, directory=folder)) as address:
        yield address


def violations(page) -> list[str]:
    """Returns the problems with a page's accessibility that axe-core calls serious or critical."""
    page.evaluate((package("axe-core") / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
