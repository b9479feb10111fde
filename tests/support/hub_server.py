"""A stand-in of the Hugging Face hub that serves `root/owner/name/file` and `root/datasets/owner/name/file`.

It answers the requests by which `huggingface_hub` downloads a snapshot or a file; all others get "not found".
"""

import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from support.http_server import Quiet, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+?)(/(?:revision|tree)/[^/?]+)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)")


@contextlib.contextmanager
def hub_server(root: Path, monkeypatch):
    """Serves the directory as huggingface_hub's endpoint, with an empty cache; yields the list of files fetched."""
    from huggingface_hub import constants

    fetched: list[str] = []

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(send=False)

        def do_GET(self):
            self.answer(send=True)

        def answer(self, send: bool):
            path = self.path.partition("?")[0]
            if found := API.fullmatch(path):
                kind, repository, at = found.groups()
                directory = root / ("datasets" if kind == "datasets" else "") / repository
                if not directory.is_dir():
                    return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                files = sorted(each for each in directory.rglob("*") if each.is_file())
                names = [each.relative_to(directory).as_posix() for each in files]
                if at and at.startswith("/tree"):
                    rows = [
                        {"type": "file", "path": name, "size": each.stat().st_size, "oid": digest(each)}
                        for name, each in zip(names, files, strict=True)
                    ]
                else:
                    rows = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                return self.reply(200, json.dumps(rows).encode())
            if found := FILE.fullmatch(path):
                data_set, repository, name = found.groups()
                file = root / ("datasets" if data_set else "") / repository / name
                if file.is_file():
                    fetched.extend([f"{repository}/{name}"] * send)
                    return self.reply(200, file.read_bytes(), {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT})
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    with serving(Handler) as endpoint:
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield fetched


def digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
