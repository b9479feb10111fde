"""Compares LiteRT's WebGPU with its WebAssembly in Chromium, on `.tflite` files of `shapes-vilt`.

Prints a Markdown table: for each kind of weights how far apart the logits are at most, and the milliseconds of a run. A
GPU is not needed: Chromium's adapter SwiftShader computes on the processor, and `--adapter default` takes what the
machine has. Needs Chromium, `npm install --prefix tests/web` and `pip install ".[test,browser]"`:

    python tools/check/web_gpu.py
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools/bench")]

from report import markdown_table  # noqa: E402
from support import browser  # noqa: E402

import tfvl  # noqa: E402
from tfvl import shapes  # noqa: E402
from tfvl.cli.console import run_script  # noqa: E402
from tfvl.lite import file  # noqa: E402

KINDS = {"float32": None, "float16": "float16", "8 bits": "dynamic"}
COLUMNS = ("weights", "logits differ by", "largest logit", "ms, WebAssembly", "ms, WebGPU")
QUESTION = "what color is the circle?"
PAGE = """<!doctype html><title>WebGPU</title><link rel=icon href=data:,>
<script type="importmap">{"imports": {
  "@litertjs/core": "./node_modules/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "./node_modules/@litertjs/wasm-utils/dist/index.js"
}}</script>
<script type="module">import * as core from "@litertjs/core"; window.core = core;</script>"""
# Without JSPI no model runs on the GPU in part, and parts of every model have to run beside it.
START = """async () => {
  await core.loadLiteRt("./node_modules/@litertjs/core/wasm/", { jspi: true });
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : "no WebGPU";
}"""
RUN = """async ([name, accelerator]) => {
  const kinds = { int32: Int32Array, float32: Float32Array }, given = await (await fetch("inputs.json")).json();
  const model = await core.loadAndCompile(new Uint8Array(await (await fetch(name)).arrayBuffer()), { accelerator });
  const run = async () => {
    const begun = performance.now(), inputs = {};
    for (const [each, { values, shape, dtype }] of Object.entries(given)) {
      inputs[each] = new core.Tensor(new kinds[dtype](values), shape);
    }
    const { logits } = await model.run(inputs);
    return [Array.from(await logits.data()), performance.now() - begun];
  };
  await run(); // the first run prepares the weights
  return run();
}"""


def write_files(directory: Path) -> None:
    """Writes the page, a file for each kind of weights, and the inputs of a question about a drawn scene."""
    model, processor = tfvl.auto.load("shapes-vilt")
    for kind, quantize in KINDS.items():
        tfvl.export.lite(model, processor, directory / f"{kind}.tflite", quantize=quantize)
    specs = file.read(directory / "float32.tflite").description["inputs"]
    asked = {"images": shapes.draw_scene(3).image(), "text": QUESTION}
    inputs = processor(**asked, padding="max_length", max_length=specs["input_ids"]["shape"][-1], return_tensors="np")
    given = {name: spec | {"values": inputs[name].ravel().tolist()} for name, spec in specs.items()}
    (directory / "inputs.json").write_text(json.dumps(given))
    (directory / "index.html").write_text(PAGE)


def row_of(page, kind: str) -> tuple[str, ...]:
    expected, before = page.evaluate(RUN, [f"{kind}.tflite", "wasm"])
    try:
        found, after = page.evaluate(RUN, [f"{kind}.tflite", "webgpu"])
    except Exception as error:  # Playwright's, with LiteRT's reason
        print(f"{kind}: {error}", file=sys.stderr)
        return kind, "not compiled", f"{np.abs(expected).max():.1f}", f"{before:.0f}", "-"
    difference = np.abs(np.subtract(expected, found)).max()
    return kind, f"{difference:.1g}", f"{np.abs(expected).max():.1f}", f"{before:.0f}", f"{after:.0f}"


def main(adapter: Annotated[str, typer.Option(help="Chromium's --use-webgpu-adapter.")] = "swiftshader"):
    """Prints the table."""
    arguments = ["--enable-unsafe-webgpu", f"--use-webgpu-adapter={adapter}"]
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place))
        browser.install(Path(place))
        with (
            browser.static(Path(place)) as address,
            browser.chromium(*arguments) as opened,
            browser.visit(opened) as visit,
        ):
            visit.page.goto(address)
            visit.page.wait_for_function("() => Boolean(window.core)")
            print(f"Chromium {opened.version}, {visit.page.evaluate(START)}\n")
            rows = [row_of(visit.page, kind) for kind in KINDS]
    print(markdown_table(COLUMNS, rows))


if __name__ == "__main__":
    run_script(lambda: typer.run(main))
