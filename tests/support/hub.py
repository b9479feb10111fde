"""A stand-in of the hub's HTTP endpoints for uploads, on this machine: it keeps what is committed."""

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

from support.http_server import Quiet, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def hub() -> Iterator[SimpleNamespace]:
    """Yields the hub's `url`, its `repositories` with files, the `tokens` received, and a `refusal` (HTTP status)."""
    state = SimpleNamespace(repositories={}, tokens=[], messages=[], refusal=None)

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.tokens.append(self.headers.get("Authorization"))
            if state.refusal:
                return self.answer({"error": "You may not do this"}, state.refusal)
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
                state.repositories.setdefault(name, {})
                return self.answer({"url": f"{state.url}/{name}"})
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if re.fullmatch(r"/api/models/.+/preupload/main", self.path.partition("?")[0]):
                paths = [file["path"] for file in json.loads(body)["files"]]
                return self.answer(
                    {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
                )
            if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path.partition("?")[0]):
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "header":
                        state.messages.append(line["value"]["summary"])
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        state.repositories[found[1]][line["value"]["path"]] = content
                commit = {"commitUrl": f"{state.url}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
                return self.answer(commit)
            return self.answer({"error": f"no {self.path}"}, 404)

        def answer(self, answer, status=200):
            self.reply(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    with serving(Handler) as state.url:
        yield state
