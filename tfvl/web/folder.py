"""Writes the folder that a static host serves: the page, a `.tflite` file, and its description."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfvl.answers.rows import HEADS
from tfvl.lite import file
from tfvl.lite.file import LiteFile
from tfvl.web.examples import drawn

PAGE = Path(__file__).parent / "page"
DESCRIPTION, MODEL = "description.json", "model.tflite"
DEVICE, SERVER = "device", "server"  # the engines
README = """\
# {title}

A page that asks this model about pictures, in the visitor's browser. Nothing leaves the device.

```sh
npm install                      # LiteRT's runtime, once
python3 -m http.server 8000      # or any static server; then open http://localhost:8000
```

With the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp` the model
runs in several threads. Pages of your own import `tfvl.js`:

```js
import {{ load }} from "./tfvl.js";
const model = await load("./");
await model.ask({{ image: file, text: "…" }}); // [{{ answer, score }}, …]
```
"""


def page_files() -> dict[str, bytes]:
    """Returns the files of the page by name."""
    return {path.name: path.read_bytes() for path in sorted(PAGE.iterdir())}


def complete(directory: Path, title: str) -> None:
    """Writes the other files of a folder that has its `.tflite` file, `MODEL`, already."""
    described = file.read(directory / MODEL)
    content, pictures = of_file(described, title)
    files: Mapping[str, bytes] = {
        **page_files(),
        **pictures,
        DESCRIPTION: json.dumps(content, ensure_ascii=False, indent=1).encode(),
        "README.md": README.format(title=title).encode(),
    }
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def of_file(described: LiteFile, title: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Returns the content of description.json (README.md has its fields), and the example pictures that it names.

    Args:
        described: the file of the model.
        title: the name of the model that the page shows.
    """
    facts = described.description
    row = HEADS[facts["head"]]
    images = facts["inputs"]["pixel_values"]["shape"][1] if row.several else 1
    examples, pictures = drawn(row.kind, images, facts["tokenizer"]["mask_token"])
    fields = {"engine": DEVICE, "title": title, "head": facts["head"], "kind": row.kind, "reads": row.reads}
    fields |= {"images": images, "top_k": facts["top_k"], "examples": examples}
    answer = {"logits": row.logits, "activation": row.activation, "match": row.match}
    return {**fields, **answer, "model": MODEL}, pictures
