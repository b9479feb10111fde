"""A stand-in of the hub's HTTP endpoints for uploads, on this machine: it keeps what is committed."""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def hub() -> Iterator[SimpleNamespace]:
    """Its `url`; the `repositories`, each with its files; the `tokens` that came; a `refusal`, an HTTP status."""
    state = SimpleNamespace(repositories={}, tokens=[], messages=[], refusal=None)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.tokens.append(self.headers.get("Authorization"))
            if state.refusal:
                return self.reply({"error": "You may not do this"}, state.refusal)
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
                state.repositories.setdefault(name, {})
                return self.reply({"url": f"{state.url}/{name}"})
            if self.path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            if re.fullmatch(r"/api/models/.+/preupload/main", self.path.partition("?")[0]):
                paths = [file["path"] for file in json.loads(body)["files"]]
                return self.reply(
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
                return self.reply(commit)
            return self.reply({"error": f"no {self.path}"}, 404)

        def reply(self, answer, status=200):
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
