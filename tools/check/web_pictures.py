"""Compares how Chromium and Pillow decode pictures: their levels, and the scores that `Runner` gives to either.

Given the same levels, the page's pixels are `Runner`'s to the bit (tests/web); here the levels are what the page's
worker takes from a file, and what Pillow decodes, upright. Prints a Markdown table: a row for each JPEG of tests/data,
or for each file that is named; and for the last of them with the colour profile Display P3 inside, which Chromium
writes, once as the page reads it, and once as a page would that leaves colour management on. Needs Chromium, `npm
install --prefix tests/web` and `pip install ".[test,browser]"`:

    python tools/check/web_pictures.py
"""

import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from PIL import Image, ImageCms, ImageOps

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools/bench")]

from report import markdown_table  # noqa: E402
from support import browser, web  # noqa: E402

import tfvl  # noqa: E402
from tfvl.cli.console import run_script  # noqa: E402
from tfvl.lite import Runner  # noqa: E402
from tfvl.preprocessing.image.decode import to_levels  # noqa: E402
from tfvl.web.folder import MODEL  # noqa: E402

QUESTION = "what color is the circle?"
COLUMNS = ("picture", "pixels", "levels that differ", "largest difference", "mean", "largest of a score", "best answer")
# Runs in the page's worker, whose `levels` reads every picture that is asked about.
LEVELS = """async ([file, managed]) => {
  const picture = await (await fetch(`data:;base64,${file}`)).blob();
  const image = managed ? await createImageBitmap(picture) : picture;
  const { data, width, height } = await levels(image);
  const address = new FileReaderSync().readAsDataURL(new Blob([data]));
  return [height, width, address.slice(address.indexOf(",") + 1)];
}"""
# Runs there too; draws the picture on a canvas of Display P3 and encodes it as a JPEG, which gets that profile.
WITH_PROFILE = """async (file) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:;base64,${file}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d", { colorSpace: "display-p3" }).drawImage(bitmap, 0, 0);
  const made = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  const address = new FileReaderSync().readAsDataURL(made);
  return address.slice(address.indexOf(",") + 1);
}"""


class Case(NamedTuple):
    """A row of the table. Attributes: content: of the file; managed: whether Chromium converts its colours."""

    name: str
    content: bytes
    managed: bool = False


def of_chromium(worker, case: Case) -> np.ndarray:
    """Returns the levels (height, width, 3) uint8 that the page reads."""
    height, width, levels = worker.evaluate(LEVELS, [web.text_of(case.content), case.managed])
    return np.frombuffer(base64.b64decode(levels), np.uint8).reshape(height, width, 4)[..., :3]


def of_pillow(case: Case) -> np.ndarray:
    """Returns the levels (height, width, 3) uint8 that Pillow reads, turned as the EXIF orientation says."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(case.content)))
    return to_levels(image, 2**27, on_white=True).levels


def with_profile(worker, case: Case) -> list[Case]:
    """Writes the picture as a JPEG with a colour profile; returns it twice, the second time to be converted by it."""
    content = base64.b64decode(worker.evaluate(WITH_PROFILE, web.text_of(case.content)))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(Image.open(io.BytesIO(content)).info["icc_profile"]))
    name = f"{case.name}, {ImageCms.getProfileDescription(profile).strip()}"
    return [Case(name, content), Case(f"{name}, colours managed", content, managed=True)]


def row_of(case: Case, theirs: np.ndarray, ours: np.ndarray, runner: Runner) -> tuple[str, ...]:
    """Compares Chromium's levels with Pillow's, and the answers to them, which are all labels."""
    difference = np.abs(theirs.astype(int) - ours)
    rows = runner([theirs, ours], QUESTION)
    page, python = (dict(zip(row["answers"], row["scores"], strict=True)) for row in rows)
    score = max(abs(page[answer] - python[answer]) for answer in page)
    same = "the same" if rows[0]["answers"][0] == rows[1]["answers"][0] else "another"
    shares = f"{(difference > 0).mean():.1%}", str(difference.max()), f"{difference.mean():.3f}"
    return case.name, "×".join(map(str, theirs.shape[1::-1])), *shares, f"{score:.4f}", same


def main(files: Annotated[list[Path] | None, typer.Argument(help="JPEG or other pictures.")] = None):
    """Prints the table."""
    model, processor = tfvl.auto.load("shapes-vilt")
    cases = [Case(path.name, path.read_bytes()) for path in files or sorted((ROOT / "tests/data").glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as place:
        folder, directory = Path(place, "folder"), Path(place, "site")
        directory.mkdir()
        # Every label is an answer, so that none of the scores is left out.
        tfvl.export.web(model, processor, folder, top_k=len(model.config.id2label))
        runner = Runner(folder / MODEL)
        with web.site(folder, directory) as address, browser.chromium() as opened, browser.visit(opened) as visit:
            visit.page.goto(address)
            visit.page.wait_for_function("() => Boolean(window.model)")
            (worker,) = [each for each in visit.page.workers if each.url.endswith("/worker.js")]
            cases += with_profile(worker, cases[-1])
            rows = [row_of(case, of_chromium(worker, case), of_pillow(case), runner) for case in cases]
            print(f"Chromium {opened.version}, Pillow {Image.__version__}\n")
    print(markdown_table(COLUMNS, rows))


if __name__ == "__main__":
    run_script(lambda: typer.run(main))
