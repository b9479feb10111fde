"""`tfvl explain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tfvl.cli.console import (
    DEFAULT_MODEL,
    SOURCE_HELP,
    Choices,
    ClassName,
    Detector,
    ImageIds,
    MoreImages,
    Phrases,
    Revision,
    console,
    one_line,
    print_table,
    say,
)
from tfvl.files.extras import require
from tfvl.files.quiet import quiet_tensorflow

BEST = 3  # patches or regions that are listed


def explain(
    image: Annotated[
        str,
        typer.Argument(
            help="JPEG, PNG, GIF, BMP or WebP file, or the http(s) address of one; or a file of region "
            "features, as for `tfvl ask`.",
        ),
    ],
    question: Annotated[str, typer.Argument(help="Question, sentence with [MASK], or caption, as the model wants it.")],
    out: Annotated[Path | None, typer.Option(help="Where the picture goes: .png, .pdf or .svg.")] = None,
    model: Annotated[str, typer.Option(help=SOURCE_HELP + " Or a .tflite file.")] = DEFAULT_MODEL,
    method: Annotated[
        str, typer.Option(help="relevance, rollout, attention, occlusion, or for ViLT alignment.")
    ] = "relevance",
    answer: Annotated[str | None, typer.Option(help="The answer to explain; the model's best one without.")] = None,
    word: Annotated[str | None, typer.Option(help="The word, or phrase, that is asked about.")] = None,
    layer: Annotated[int | None, typer.Option(help="Of --method attention.")] = None,
    head: Annotated[int | None, typer.Option(help="Of --method attention.")] = None,
    more: MoreImages = None,
    image_id: ImageIds = None,
    choice: Choices = None,
    phrase: Phrases = None,
    detector: Detector = None,
    class_name: ClassName = None,
    revision: Revision = None,
):
    """Show which words and which parts of the image an answer comes from."""
    from tfvl.preprocessing.regions.regions import Regions
    from tfvl.preprocessing.visuals import read_all

    if out is not None:
        require("matplotlib", extra="plots", purpose="--out draws with it")
    _, visuals = read_all([image, *(more or [])], image_id or [])
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.explanations import explain as explained
    from tfvl.lite.runner import Runner

    given = isinstance(visuals[0], Regions)
    with console(stderr=True).status("explaining"):
        if model.endswith(".tflite"):
            if detector or class_name or revision:
                raise ValueError("--detector, --class and --revision are for a checkpoint; leave them out with a file")
            loaded, processor = Runner(model, warm=False), None
        else:
            source = auto.find(model, architecture=class_name, revision=revision)
            loaded, processor = source.load(detector=None if given else detector or source.default_detector)
        found: Any = explained(
            loaded,
            processor,
            **{"regions" if given else "images": [visuals]},
            texts=[question],
            choices=choice,
            phrases=phrase,
            word=word,
            method=method,
            target=int(answer) if phrase and answer and answer.isdigit() else answer,
            layer=layer,
            head=head,
        )
        (one,) = found
        if out is not None:
            one.save(out)
    say(f"{one_line(one.answer)}: {one.score:.4f}")
    rows = [(token, f"{score:.4f}") for token, score in zip(one.tokens, one.token_scores, strict=True)]
    print_table(f"{one.method}, words", ("token", "score"), rows)
    print_table(f"{one.method}, best parts of the image", ("part", "score"), parts(one))
    if out is not None:
        say(f"Written to {out}.")


def parts(one) -> list[tuple[str, str]]:
    """Returns the patches or regions with the best scores, and these scores."""
    if one.region_scores is not None:
        named = [(f"region {number}", score) for number, score in enumerate(one.region_scores)]
    else:
        grids = one.patch_scores if isinstance(one.patch_scores, tuple) else (one.patch_scores,)
        named = [
            (f"{f'image {number}, ' * (len(grids) > 1)}row {row}, column {column}", score)
            for number, grid in enumerate(grids, start=1)
            for row, line in enumerate(grid)
            for column, score in enumerate(line)
        ]
    return [(name, f"{score:.4f}") for name, score in sorted(named, key=lambda each: -each[1])[:BEST]]
