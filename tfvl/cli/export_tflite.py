"""What `tfvl export --format tflite` and `tfvl check FILE.tflite` do and print."""

from pathlib import Path

from tfvl.cli.console import console, print_table, quiet_tensorflow
from tfvl.cli.export_options import sides

SIZES = ("image_size", "text_length", "batch", "regions")  # options that --resizable makes none of


def write(src: str, dst: Path, *, top_k: int, image_size: str | None, overwrite: bool, load: dict, **options) -> None:
    """Writes the file and prints what it takes; `options` that are None keep their defaults."""
    options = {name: value for name, value in options.items() if value is not None}
    fixed = [name for name in SIZES if name in options or (name == "image_size" and image_size is not None)]
    if fixed and "resizable" in options:
        raise ValueError(f"--{fixed[0].replace('_', '-')} fixes a size and --resizable none; leave one of them out")
    options["image_size"] = sides(image_size)
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export.tflite.convert import lite
    from tfvl.export.tflite.sizes import checked_path

    checked_path(dst, overwrite)
    with console(stderr=True).status("converting"):
        model, processor = auto.load(src, **load)
        if "regions" in options and processor.sees == "images":
            raise ValueError(f"--regions is for VisualBERT and LXMERT, but {src} takes images; leave it out")
        if image_size is not None and processor.sees == "regions":
            raise ValueError(f"--image-size is for ViLT, but {src} takes regions; leave it out")
        path = lite(model, processor, dst, top_k=top_k, overwrite=overwrite, **options)
    show(path)
    print(f"Written to {path}. Next:")
    image = "IMAGE" if processor.sees == "images" else "REGIONS"
    print(f'  tfvl ask {image} "question" --model {path}')
    print(f"  tfvl check {path} --against {src}")


def show(path: Path) -> None:
    """Prints inputs, outputs, operators and size of a file."""
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
    shown = [
        ("input", name, f"{spec['dtype']} ({', '.join('?' if size < 0 else str(size) for size in spec['shape'])})")
        for name, spec in described.description["inputs"].items()
    ]
    shown += [("output", name, "float32") for name in described.description["outputs"]]
    print_table(f"{path}", ("", "name", "tensor"), shown)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    kind = "builtin operators" if flavour == "tensors" else "operators, builtin ones and tf.text's"
    print(f"{sum(counts.values())} {kind}: {listed}")
    layers = [layer for layer in described.description["sensitivity"] if isinstance(layer, dict)]
    if layers:
        kept = sum(bool(layer.get("in_float")) for layer in layers)
        print(f"{len(layers) - kept} matrix products in 8 bits, {kept} in floats. Least exact (rounding alone: 0.29):")
        for layer in layers[:5]:
            print(f"  {layer.get('steps', 0):.2f} steps  {readable(str(layer.get('name')))}")
    print(f"{path.stat().st_size / 1e6:.1f} MB, weights: {described.description.get('quantize') or 'float32'}")


def readable(name: str) -> str:
    """A layer's path, from the tensor that its matrix product ends in."""
    *layers, _ = name.split(";")[-1].split("/")
    if layers and layers[0].endswith("_1"):  # TensorFlow's number of the trace
        layers = [layer.removesuffix("_1") for layer in layers]
    return "/".join(layers) or "the output"


def check(path: Path, against: str | None, picture: Path | None) -> None:
    """`tfvl check FILE.tflite [--against SRC [--png PICTURE]]`."""
    if picture is not None and not picture.parent.is_dir():
        raise ValueError(f"--png is {picture}, but there is no directory {picture.parent}; make it first")
    show(path)
    if against is None:
        return
    from tfvl.export.tflite.drift import drift, plot

    with console(stderr=True).status("comparing"):
        report = drift(path, against)
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
        print(f"accuracy on drawn scenes: {before:.2%} before, {after:.2%} after, {100 * (after - before):+.2f} points")
    if picture is not None:
        plot([report], picture)
        print(f"drawn to {picture}")
