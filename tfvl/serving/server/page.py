"""The page at `/`, where a browser asks the first model of a server: files, the model's description, headers."""

import json
from functools import cache
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response

from tfvl.answers.signatures import kind_of_signatures
from tfvl.preprocessing.requests import Takes
from tfvl.serving.client.messages import specs_of
from tfvl.serving.server.servable import DEFAULT_SIGNATURE
from tfvl.serving.server.service import Service
from tfvl.web.examples import drawn
from tfvl.web.folder import SERVER, page_files

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".png": "image/png",
}
MASK = "[MASK]"  # of every tokenizer that upstream has for these models
TOP_K = 5  # where the signature does not say how many answers there are
DESCRIPTION = "/description.json"
# Of every answer of a server with a page: nothing from elsewhere, no inline script or style, no text as HTML, in no
# frame of another page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Page:
    """Gives a browser the files of `tfvl.web`, which are read once, and a description of the model as it is now.

    Args:
        service: the models.
    """

    def __init__(self, service: Service):
        self._service = service
        self._files = {f"/{name}": content for name, content in page_files().items()}

    def get(self, path: str) -> Response | None:
        """Returns the response to GET, or None for a path that is none of the page's.

        Raises RequestError if no version of the model is served.
        """
        path = "/index.html" if path == "/" else path
        content = json.dumps(self._description()).encode() if path == DESCRIPTION else self._files.get(path)
        return None if content is None else Response(content, media_type=MEDIA_TYPES[Path(path).suffix])

    def _description(self) -> dict:
        """Returns the content of `description.json`, see the README of `tfvl.web`, and adds its pictures to the files.

        `reads` is empty for a model that tfvl did not export.
        """
        name = self._service.names[0]
        with self._service.lease(name) as version:
            signatures = specs_of(version.servable.signatures)
        served = signatures.setdefault(DEFAULT_SIGNATURE, {"inputs": {}, "outputs": {}})
        kind, answers = kind_of_signatures(signatures), served["outputs"].get("answers")
        try:
            takes = Takes.of_signature(served["inputs"])
        except ValueError:
            takes = Takes(())
        images = takes.images or 1
        examples, pictures = examples_of(kind, images) if "image" in takes.reads else ([], {})
        self._files |= {f"/{name}": content for name, content in pictures.items()}
        return {
            "engine": SERVER,
            "address": f"v1/models/{quote(name, safe='')}",
            "title": name,
            "kind": kind,
            "reads": list(takes.reads),
            "images": images,
            "top_k": (kind != "match" and answers and answers.shape[-1]) or TOP_K,
            "examples": examples,
        }


@cache
def examples_of(kind: str, images: int) -> tuple[list[dict], dict[str, bytes]]:
    """Returns what `tfvl.web.examples.drawn` draws, which takes a while."""
    return drawn(kind, images, MASK)
