"""`tfvl serve`: runs TF Serving if it is installed; else, and for `.tflite` files, the embedded server."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.files.backend import require_tensorflow


def serve(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Directory of a model with numbered versions, e.g. models/vilt_vqa, one version of it, or a .tflite "
            "file.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the model in URLs; without it, the directory's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8501,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8500,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Most rows that are run together.")] = 8,
    batch_timeout: Annotated[
        float, typer.Option(min=0, metavar="MS", help="How long a row waits for others, in milliseconds.")
    ] = 2.0,
    batch_threads: Annotated[int, typer.Option(min=1, help="Batches that run at the same time.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Of the CPU, for a .tflite file; without it one per core, at most four."),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="How many versions are served, the highest ones.")] = 1,
    label: Annotated[list[str] | None, typer.Option(metavar="LABEL=VERSION", help="A name for a version.")] = None,
    poll: Annotated[float, typer.Option(min=0.05, metavar="SECONDS", help="How often PATH is looked at.")] = 1.0,
    max_megabytes: Annotated[int, typer.Option(min=1, max=2047, help="Largest request.")] = 32,
    read_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Within which a request must have arrived.")
    ] = 30.0,
    drain: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long requests may take to end after SIGTERM.")
    ] = 30.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name that requests may call the server, beside those of loopback and --host; * for any.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Web pages that may ask, e.g. https://example.org:8080; * for any, none without it."
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option("--page", help="A page at / too, which asks the model in a browser; by the embedded server."),
    ] = False,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Also where tensorflow_model_server is on PATH.")
    ] = False,
):
    """Serve an exported model over REST and gRPC, as TensorFlow Serving does."""
    require_tensorflow("tfvl serve")
    from tfvl.serving.server import directories, launch

    serving = launch.Serving(
        find=directories.finder(path),
        name=name or directories.default_name(path),
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        keep=keep,
        labels=launch.parse_labels(label or []),
        allow_hosts=allow_host or (),
        allow_origins=allow_origin or (),
        batching={"max_batch_size": max_batch_size, "timeout_ms": batch_timeout, "threads": batch_threads},
    )
    tflite = any(directories.lite_files(version) for version in serving.find().values())
    if launch.model_server() and not (embedded or page or tflite):
        launch.run_model_server(serving)
    launch.run_embedded(
        serving,
        threads=threads,
        poll=poll,
        max_bytes=max_megabytes * 2**20,
        read_seconds=read_timeout,
        drain_seconds=drain,
        page=page,
    )
