"""What `tfvl export --format tflite` and `tfvl check FILE.tflite` do and print."""

from pathlib import Path

from tfvl.console import console, print_table, quiet_tensorflow
from tfvl.lite.options import sides


def write(src: str, dst: Path, *, top_k: int, image_size: str | None, overwrite: bool, load: dict, **options) -> None:
    """Writes the file and prints what it takes; `options` that are None keep their defaults."""
    options = {name: value for name, value in options.items() if value is not None} | {"image_size": sides(image_size)}
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export.lite_sizes import checked_path
    from tfvl.export.tflite import lite

    checked_path(dst, overwrite)
    with console(stderr=True).status("converting"):
        model, processor = auto.load(src, **load)
        path = lite(model, processor, dst, top_k=top_k, overwrite=overwrite, **options)
    show(path)
    print(f"Written to {path}. Next:")
    image = "IMAGE" if hasattr(processor, "image_processor") else "REGIONS"
    print(f'  tfvl ask {image} "question" --model {path}')
    print(f"  tfvl check {path} --against {src}")


def show(path: Path) -> None:
    """Prints inputs, outputs, operators and size of a file."""
    quiet_tensorflow()
    from tfvl.export.lite_ops import operators
    from tfvl.lite import file

    described = file.read(path)
    flavour = described.description.get("signature", file.FLAVOURS[0])
    shown = [
        ("input", name, f"{spec['dtype']} ({', '.join('?' if size < 0 else str(size) for size in spec['shape'])})")
        for name, spec in described.description["inputs"].items()
    ]
    shown += [("output", name, "float32") for name in described.description["outputs"]]
    print_table(f"{path}", ("", "name", "tensor"), shown)
    counts = operators(path.read_bytes(), flavour)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    kind = "builtin operators" if flavour == "tensors" else "operators, builtin ones and tf.text's"
    print(f"{sum(counts.values())} {kind}: {listed}")
    layers = [layer for layer in described.description["sensitivity"] if isinstance(layer, dict)]
    if layers:
        kept = sum(bool(layer.get("in_float")) for layer in layers)
        print(f"{len(layers)} matrix products in 8 bits by the examples, but {kept} of them in floats; least exact:")
        for layer in layers[:5]:
            print(f"  {layer.get('steps', 0):.2f} steps  {str(layer.get('name')).split(';')[-1]}")
    print(f"{path.stat().st_size / 1e6:.1f} MB, weights: {described.description['quantize'] or 'float32'}")


def check(path: Path, against: str | None, picture: Path | None) -> None:
    """`tfvl check FILE.tflite [--against SRC]`."""
    show(path)
    if against is None:
        return
    from tfvl.export.lite_drift import drift, plot

    with console(stderr=True).status("comparing"):
        report = drift(path, against)
    rows = [
        (
            each.output,
            f"{each.mean_cosine:.6f}",
            f"{each.cosine:.6f}",
            f"{each.difference:.2e}",
            f"{each.largest:.2e}",
            f"{each.top_1:.1%}",
            f"{each.top_5:.1%}",
        )
        for each in report.outputs
    ]
    columns = (
        "output",
        "mean cosine",
        "smallest",
        "largest difference",
        "largest value",
        "same best",
        "same best five",
    )
    print_table(f"{path} against {against}: {report.examples} examples", columns, rows)
    if report.accuracy is not None:
        before, after = report.accuracy
        print(f"accuracy on drawn scenes: {before:.2%} before, {after:.2%} after, {after - before:+.2%}")
    if picture is not None:
        plot([report], picture)
        print(f"drawn to {picture}")
