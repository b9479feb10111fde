"""`tfvl check`: prints what is in an exported model, as `tfvl export` does for a model that it wrote."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from tfvl.cli.console import AsJson, console, print_json, print_table, say
from tfvl.files.extras import require
from tfvl.files.quiet import quiet_tensorflow


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIRECTORY | FILE.tflite | NAME ...",
            help="Directory of a SavedModel, e.g. models/vilt_vqa/1, or a .tflite file; with --published, hub ids.",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Release of TensorFlow Serving: 2.19, 2.20 or 2.21.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="SRC", help="The model it was made of, to compare with.")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--png", help="Where to draw that comparison.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Compare the checkpoints of the hub with what upstream publishes.")
    ] = False,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="With --published: ask the model pages' questions too.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option("--from", help="With --published: a directory that holds them, instead of the hub.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="With --published: a file of results; a run goes on where it was interrupted.")
    ] = None,
    as_json: AsJson = False,
):
    """Say what an exported model takes and gives, and what would keep TensorFlow Serving from running it.

    With --published, say whether published checkpoints give here what upstream publishes of them.
    """
    names = names or []
    if published:
        if target is not None or against is not None or picture is not None:
            raise ValueError("--target, --against and --png are for an exported model; leave them out with --published")
        quiet_tensorflow()
        from tfvl.cli.published import check_published

        if not check_published(names, source, tasks, results, as_json):
            raise typer.Exit(1)
        return None
    if tasks or source is not None or results is not None:
        raise ValueError("--tasks, --from and --results go with --published")
    if len(names) != 1:
        raise ValueError(f"give one directory or .tflite file, got {len(names)}; or --published for checkpoints")
    path = Path(names[0])
    problems: tuple[str, ...] = ()
    if picture is not None:
        if against is None:
            raise ValueError("--png draws a comparison; name the model to compare with, --against SRC")
        if not picture.parent.is_dir():
            raise ValueError(f"--png is {picture}, but there is no directory {picture.parent}; make it first")
        require("matplotlib", extra="plots", purpose="--png draws with it")
    if path.suffix == ".tflite":
        if target is not None:
            raise ValueError("--target is for a SavedModel; leave it out with a .tflite file")
        document = show_file(path, as_json)
    else:
        document, problems = show_saved_model(path, target, as_json)
    if against is not None and not problems:
        document |= show_drift(path, against, picture, as_json)
    if as_json:
        print_json(document)
    if problems:
        raise ValueError(f"{path} would not be served: {'; '.join(problems)}")


def show_saved_model(
    directory: Path, target: str | None = None, as_json: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Prints what `tfvl.export.check` found, unless it is wanted as JSON.

    Returns: what it found, and the problems with the target, a release of TensorFlow Serving (None: the newest).
    """
    quiet_tensorflow()
    from tfvl.export import check
    from tfvl.export.op_check import outside

    report = check(directory, *([target] if target else []))
    document = dataclasses.asdict(report) | {"served_by": report.served_by}
    if as_json:
        return document, report.problems
    tensors = [
        (signature, side.removesuffix("s"), name, spec)
        for signature, sides in report.signatures.items()
        for side, specs in sides.items()
        for name, spec in specs.items()
    ]
    print_table(f"{directory}", ("signature", "", "name", "tensor"), tensors)
    size = f"graph {report.graph_bytes / 1e6:.1f} MB, variables {report.variable_bytes / 1e6:.1f} MB"
    assets = f"{len(report.assets)} assets of {sum(report.assets.values()):,} bytes"
    say(f"reaches beyond inputs and outputs: {outside.sentence(report.reaches) or 'nothing'}")
    say(f"{len(report.ops)} kinds of ops, {len(report.problems)} problems; {size}, {assets}")
    requests = (", ".join(f"{name} {spec}" for name, spec in inputs.items()) for inputs in report.warmup)
    say(f"warm-up requests: {'; '.join(requests) or 'none, so the first users will wait'}")
    say(f"TensorFlow Serving that knows every op and attribute: {', '.join(report.served_by) or 'none'}")
    if report.eight_bits:
        in_floats = f"; in floats: {', '.join(report.floats)}" if report.floats else ""
        say(f"{len(report.eight_bits)} products with weights in 8 bits{in_floats}")
    return document, report.problems


def show_drift(path: Path, against: str, picture: Path | None, as_json: bool = False) -> dict[str, Any]:
    """Compares an exported model with the one it was made of, and prints the drift, unless it is wanted as JSON."""
    from tfvl.export.saved_model_drift import saved_model_drift
    from tfvl.export.tflite.drift import drift, plot

    with console(stderr=True).status("comparing"):
        report = (drift if path.suffix == ".tflite" else saved_model_drift)(path, against)
    if picture is not None:
        plot([report], picture)
    document = {"against": against, "drift": dataclasses.asdict(report)}
    if as_json:
        return document
    rows = [
        (
            each.output,
            f"{each.mean_cosine:.6f}",
            f"{each.cosine:.6f}",
            f"{each.difference:.1e} of {each.largest:.3g}",
            f"{each.top_1:.1%}",
            f"{each.top_5:.1%}",
        )
        for each in report.outputs
    ]
    columns = ("output", "mean cosine", "smallest", "difference", "top 1", "top 5")
    print_table(f"{path} against {against}: {report.examples} examples", columns, rows)
    if report.accuracy is not None:
        before, after = report.accuracy
        say(f"accuracy on drawn scenes: {before:.2%} before, {after:.2%} after, {100 * (after - before):+.2f} points")
    if picture is not None:
        say(f"drawn to {picture}")
    return document


def show_file(path: Path, as_json: bool = False) -> dict:
    """Returns inputs, outputs, operators and size of a `.tflite` file; prints them unless they are wanted as JSON."""
    quiet_tensorflow()
    from tfvl.export.tflite.ops import operators
    from tfvl.lite import file
    from tfvl.lite.runtime import cannot_load

    described = file.read(path)
    flavour = described.flavour
    try:
        counts = operators(path.read_bytes(), flavour)
    except ValueError as error:
        raise cannot_load(path, error) from None
    document = {
        "file": path,
        "flavour": flavour,
        "inputs": described.description["inputs"],
        "outputs": described.description["outputs"],
        "operators": dict(counts),
        "bytes": path.stat().st_size,
        "weights": described.description.get("quantize") or "float32",
    }
    if as_json:
        return document
    shown = [
        ("input", name, f"{spec['dtype']} ({', '.join('?' if size < 0 else str(size) for size in spec['shape'])})")
        for name, spec in described.description["inputs"].items()
    ]
    shown += [("output", name, "float32") for name in described.description["outputs"]]
    print_table(f"{path}", ("", "name", "tensor"), shown)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    kind = "builtin operators" if flavour == "tensors" else "operators, builtin ones and tf.text's"
    say(f"{sum(counts.values())} {kind}: {listed}")
    layers = [layer for layer in described.description["sensitivity"] if isinstance(layer, dict)]
    if layers:
        kept = sum(bool(layer.get("in_float")) for layer in layers)
        say(f"{len(layers) - kept} matrix products in 8 bits, {kept} in floats. Least exact (rounding alone: 0.29):")
        for layer in layers[:5]:
            say(f"  {layer.get('steps', 0):.2f} steps  {readable(str(layer.get('name')))}")
    say(f"{path.stat().st_size / 1e6:.1f} MB, weights: {document['weights']}")
    return document


def readable(name: str) -> str:
    """Returns a layer's path, given the name of the tensor that its matrix product computes."""
    *layers, _ = name.split(";")[-1].split("/")
    if layers and layers[0].endswith("_1"):  # TensorFlow's number of the trace
        layers = [layer.removesuffix("_1") for layer in layers]
    return "/".join(layers) or "the output"
