"""`tfvl check --published`: compares what the published checkpoints give here with what upstream publishes of them."""

import contextlib
import dataclasses
import gc
import hashlib
import json
import time
import typing
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfvl.cli.console import console, print_json, print_table, say
from tfvl.cli.published_facts import CHECKPOINTS, TOLERANCE, Published, Question
from tfvl.errors import CheckpointError, OutOfReachError
from tfvl.files.digest import digest_of_files
from tfvl.files.json_file import read_json
from tfvl.files.whole import write_text

RELATIVE = 1e-5  # the relative tolerance of `torch.allclose`, with which transformers' tests compare
GOOD = ("pass", "loads")  # "loads" if upstream publishes no numbers


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome for one checkpoint, a row of the table.

    Attributes:
        name: the name of the checkpoint.
        result: "pass", "loads", "differs", "fails" if it could not be loaded or asked, or "unreachable".
        difference: the largest difference to the published numbers, if there are any.
        seconds, megabytes: the time that the check took, and the size of the checkpoint's files.
        note: why it is not a pass; or what was asked and answered.
        content: a digest of all that the outcome depends on; "" if the files cannot be had.
    """

    name: str
    result: str
    difference: float | None = None
    seconds: float = 0.0
    megabytes: float = 0.0
    note: str = ""
    content: str = ""


def check_published(
    names: Sequence[str], source: Path | None, tasks: bool, results: Path | None, as_json: bool = False
) -> bool:
    """Checks checkpoints one by one, prints a table, and returns whether all are good.

    Args:
        names: hub ids of the table, or their last parts ("vilt-b32-mlm"); without any, all are checked.
        source: a directory that holds the checkpoints as `owner/name` or `name`; None is the hub, or the mirror of it
            that HF_ENDPOINT in the environment names.
        tasks: ask the questions of the model pages as well.
        results: a file that keeps the outcomes, so that an interrupted run can go on. One that was good is kept as long
            as the published facts and the contents of the checkpoint's files are the same.
        as_json: print the outcomes as JSON in place of the table.

    Raises:
        ValueError: there is no such name or directory, the file holds something else than outcomes, or none of the
            checkpoints can be reached on the hub.
    """
    rows = chosen(names)
    if source is not None and not source.is_dir():
        raise ValueError(f"--from is {source}, but there is no such directory")
    before = kept_in(results) if results is not None and results.is_file() else {}
    outcomes = {}
    with console(stderr=True).status("") as status:
        for row in rows:
            status.update(f"{row.name} ({len(outcomes) + 1} of {len(rows)})")
            kept, content = before.get(row.name), ""
            if results is not None:
                with contextlib.suppress(ValueError, OSError):  # `check` says why the files cannot be had
                    content = content_of(row, source, tasks)
            if kept and kept["result"] in GOOD and kept["content"] == content:
                outcomes[row.name] = kept
            else:
                outcomes[row.name] = dataclasses.asdict(check(row, source, tasks)) | {"content": content}
            if results is not None:
                write_text(results, json.dumps(before | outcomes, indent=2) + "\n")
    if all(each["result"] == "unreachable" for each in outcomes.values()):
        raise ValueError(
            "the hub cannot be reached (or HF_HUB_OFFLINE is set) and none of the checkpoints lies in its cache; "
            "connect, set HF_ENDPOINT to a mirror, or name a directory that holds them: --from DIR"
        )
    good = sum(each["result"] in GOOD for each in outcomes.values())
    if as_json:
        print_json(outcomes)
        return good == len(outcomes)
    columns = ("checkpoint", "result", "largest difference", "tolerance", "seconds", "MB", "")
    print_table("published checkpoints", columns, [shown(each) for each in outcomes.values()])
    say(f"{good} of {len(outcomes)} are as published; sources: tfvl/cli/published_facts.py")
    return good == len(outcomes)


def kept_in(results: Path) -> dict[str, dict]:
    """Reads the outcomes of an earlier run. Raises ValueError, which names the file, if it holds something else."""
    before, wanted = read_json(results), typing.get_type_hints(Outcome)
    for name, kept in before.items():
        fits = isinstance(kept, dict) and kept.keys() == wanted.keys()
        if not fits or not all(isinstance(kept[key], kind) for key, kind in wanted.items()):
            raise ValueError(f"{results} holds no outcome for {name}; remove it, or name another file by --results")
    return before


def content_of(row: Published, source: Path | None, tasks: bool) -> str:
    """Returns a digest of all that an outcome depends on: what is published, and the files that it is compared with."""
    pictures = [*row.pictures, *(each for question in row.questions if tasks for each in question.pictures)]
    files = [
        located(row.name, source),
        located(row.text_from or row.name, source, weights=False),
        *(picture(*each, source) for each in pictures),
    ]
    return hashlib.sha256(repr([row, tasks, *map(digest_of_files, files)]).encode()).hexdigest()


def chosen(names: Sequence[str]) -> list[Published]:
    """Returns the rows of these names. Raises ValueError if there is no such checkpoint."""
    known = {row.name: row for row in CHECKPOINTS}
    short = {name.partition("/")[2]: row for name, row in known.items()}
    if unknown := [name for name in names if name not in known | short]:
        raise ValueError(f"{', '.join(unknown)}: no checkpoint of the table; it has {', '.join(known)}")
    return [(known | short)[name] for name in dict.fromkeys(names)] or list(CHECKPOINTS)


def shown(outcome: dict) -> tuple[str, ...]:
    difference = outcome["difference"]
    numbers = (f"{difference:.1e}", f"{TOLERANCE:g}") if difference is not None else ("", "")
    seconds, size = f"{outcome['seconds']:.1f}", f"{outcome['megabytes']:.1f}"
    return (outcome["name"], outcome["result"], *numbers, seconds, size, outcome["note"])


def check(row: Published, source: Path | None = None, tasks: bool = False) -> Outcome:
    """Checks one checkpoint; an error becomes the outcome's note."""
    started = time.time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about heads that the class leaves out
            outcome = compared(row, located(row.name, source), source, tasks)
    except OutOfReachError as error:
        outcome = Outcome(row.name, "unreachable", note=line(error))
    except (ValueError, OSError) as error:
        outcome = Outcome(row.name, "fails", note=line(error))
    gc.collect()  # a base-size model is half a gigabyte
    return dataclasses.replace(outcome, seconds=time.time() - started)


def compared(row: Published, path: Path, source: Path | None, tasks: bool) -> Outcome:
    """Loads the checkpoint and compares its outputs with what is published."""
    import numpy as np

    from tfvl import auto

    family = next(family for family in auto.FAMILIES.values() if row.architecture in family.models)
    model = family.models[row.architecture].from_pretrained(path)
    megabytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) / 1e6
    outputs = model({name: np.array(value) for name, value in (row.inputs or prepared(row, family, source)).items()})
    done = Outcome(row.name, "pass" if row.expected else "loads", None, 0.0, megabytes)
    for name, shape in (row.shapes or {}).items():
        if tuple(outputs[name].shape) != shape:
            return dataclasses.replace(
                done, result="differs", note=f"{name} is {tuple(outputs[name].shape)}, not {shape}"
            )
    if not all(np.isfinite(value).all() for value in outputs.values() if not isinstance(value, dict | tuple | list)):
        return dataclasses.replace(done, result="differs", note="an output is not finite")
    differences, fits = [], True
    for name, (place, values) in (row.expected or {}).items():
        apart = np.abs(np.asarray(outputs[name])[place] - np.array(values))
        differences.append(float(apart.max()))
        fits = fits and bool((apart <= TOLERANCE + RELATIVE * np.abs(values)).all())
    done = dataclasses.replace(done, difference=max(differences, default=None))
    if not fits:
        return dataclasses.replace(done, result="differs", note=f"compared with {row.source}")
    answers = [asked(question, path, row.architecture, source) for question in row.questions] if tasks else []
    wrong = [said for said, right in answers if not right]
    result = "differs" if wrong else done.result
    return dataclasses.replace(done, result=result, note="; ".join(wrong or [said for said, _ in answers]))


def prepared(row: Published, family, source: Path | None) -> dict:
    """Prepares a text and pictures with the processor that upstream's test uses."""
    processor = family.processor.from_pretrained(located(row.text_from or row.name, source, weights=False))
    pictures = [picture(*each, source) for each in row.pictures]
    inputs = processor(images=[pictures] if len(pictures) > 1 else pictures, text=[row.text])
    return {name: value for name, value in inputs.items() if name in ("input_ids", "pixel_values")}


def asked(question: Question, path: Path, architecture: str, source: Path | None) -> tuple[str, bool]:
    """Asks a question; returns what the checkpoint answers, as a phrase, and whether that is the published answer."""
    from tfvl.pipelines import open_pipeline
    from tfvl.preprocessing.requests import Request

    files = [picture(*each, source).read_bytes() for each in question.pictures]
    with open_pipeline(str(path), top_k=1, architecture=architecture) as pipeline:
        (answers,) = pipeline.ask([Request(question.text, files)])
    answer = answers.scored[0][0] if answers.scored else ""
    right = answer.lower() == question.answer.lower()
    return f"{question.text!r}: {answer}" + ("" if right else f", published: {question.answer}"), right


def located(name: str, source: Path | None, weights: bool = True) -> Path:
    """Returns the directory of a checkpoint. Raises CheckpointError if there is none."""
    from tfvl.porting import hub

    if source is None:
        return hub.resolve(name, weights=weights)
    return first_of(name, (source / name, source / name.partition("/")[2]), source)


def picture(repository: str, file: str, source: Path | None) -> Path:
    """Returns the file of a picture from a data set of the hub. Raises CheckpointError if there is none."""
    from huggingface_hub import errors, hf_hub_download

    if source is not None:
        places = (source / "datasets" / repository / file, source / repository / file, source / file)
        return first_of(f"{repository}/{file}", places, source)
    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise OutOfReachError(f"{repository}/{file}: the hub is out of reach: {line(error)}") from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise CheckpointError(f"{repository}/{file}: the hub refused it: {line(error)}") from None


def first_of(name: str, places: Sequence[Path], source: Path) -> Path:
    found: Iterator[Path] = (place for place in places if place.exists())
    path = next(found, None)
    if path is None:
        raise CheckpointError(f"{source} holds no {name}")
    return path


def line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
