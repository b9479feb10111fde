"""Load tests of a served model, and where its time goes.

    python serving/loadtest.py run http://localhost:8501 --model vilt_vqa      # latency against load: a table, a PNG
    python serving/loadtest.py base models/vilt_base/1                          # a ViLT of base size to try it with
    python serving/loadtest.py profile models/vilt_base/1                       # decode, resize, tokenise, model

`run` first lets a few clients ask as fast as they can (closed loop), which gives the capacity, then sends requests at
random moments (Poisson arrivals, open loop) at shares of it: users do not wait for each other's answers, so queues
grow as they would. A latency counts from the moment at which the request should have been sent.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from tfvl.cli.console import print_table
from tfvl.serving.client.client import Client, DeadlineExceededError, RequestRefusedError, ServerUnavailableError

SHARES = (0.25, 0.5, 0.75, 0.9)  # of the capacity
MOST_IN_FLIGHT = 128
QUESTION = "How many rockets are standing on the launch pad?"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])


@dataclass
class Result:
    """What came of the requests of one load.

    Attributes:
        rate: requests per second that were offered; None: as fast as the clients could.
        seconds: from the first request to the last answer.
        latencies: seconds, of every answered request.
        errors: how many failed, by kind.
    """

    rate: float | None
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter = field(default_factory=Counter)

    @property
    def throughput(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")

    def row(self) -> tuple[str, ...]:
        offered = "closed loop" if self.rate is None else f"{self.rate:.2f}/s"
        times = (f"{self.percentile(share) * 1e3:.0f} ms" for share in (50, 95, 99, 100))
        errors = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors.items())) or "none"
        return (offered, str(len(self.latencies)), f"{self.throughput:.2f}", *times, errors)


COLUMNS = ("offered", "answers", "per s", "p50", "p95", "p99", "max", "errors")


def ask_once(client: Client, request: dict, result: Result, due: float) -> None:
    """One request; its latency from `due` on, or its kind of error."""
    try:
        answers = client.ask(**request)
    except ServerUnavailableError:
        result.errors["unavailable"] += 1
    except DeadlineExceededError:
        result.errors["deadline"] += 1
    except RequestRefusedError as error:
        result.errors[error.code] += 1
    else:
        bad = sum(not answer.ok for answer in answers)
        if bad:
            result.errors["rows with a status"] += bad
        result.latencies.append(time.perf_counter() - due)


def closed_loop(client: Client, requests: Sequence[dict], clients: int, seconds: float) -> Result:
    """`clients` threads ask one question after the other."""
    result, start = Result(None), time.perf_counter()

    def go_on(number: int) -> None:
        while time.perf_counter() - start < seconds:
            ask_once(client, requests[number % len(requests)], result, time.perf_counter())
            number += clients

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(go_on, range(clients)))
    result.seconds = time.perf_counter() - start
    return result


def open_loop(client: Client, requests: Sequence[dict], rate: float, seconds: float, seed: int) -> Result:
    """Requests at random moments, `rate` per second on average, whether or not the earlier ones are answered."""
    generator = np.random.default_rng(seed)
    moments = np.cumsum(generator.exponential(1 / rate, max(1, round(rate * seconds))))
    result = Result(rate)
    with ThreadPoolExecutor(MOST_IN_FLIGHT) as pool:
        start = time.perf_counter()
        for number, moment in enumerate(moments):
            time.sleep(max(0.0, start + moment - time.perf_counter()))
            pool.submit(ask_once, client, requests[number % len(requests)], result, start + moment)
    result.seconds = time.perf_counter() - start
    return result


def plot(results: Sequence[Result], path: Path) -> None:
    """Latency against load."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for share in (50, 95, 99):
        axes.plot(
            [result.rate for result in results],
            [result.percentile(share) * 1e3 for result in results],
            marker="o",
            label=f"p{share}",
        )
    axes.set(xlabel="offered requests per second", ylabel="latency, ms", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def photograph(seed: int = 0) -> bytes:
    """A JPEG of 640×480 pixels with the detail of a photograph: noise of several sizes."""
    generator = np.random.default_rng(seed)
    levels = np.full((480, 640, 3), 110.0)
    for size in (4, 16, 64, 160):
        noise = generator.normal(0, 90 / size**0.4, (size * 3 // 4, size, 3)).astype(np.float32)
        for channel in range(3):
            levels[..., channel] += Image.fromarray(noise[..., channel]).resize((640, 480), Image.Resampling.BICUBIC)
    file = BytesIO()
    Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def requests_for(specs: dict, images: Sequence[bytes], question: str, rows: int) -> list[dict]:
    """What is asked, in turn: one request for each image, or for random regions where the model takes those."""
    texts = {"text": [question] * rows}
    if "image" in specs:
        pair = len(specs["image"].shape) > 1
        return [texts | {"image": (image, image) if pair else image} for image in images]
    size, regions = specs["regions"].shape[-1], (36,)
    if size is None:
        raise typer.BadParameter("this model takes regions of a size that it does not say; there is no request for it")
    features = np.random.default_rng(0).normal(size=(*regions, size)).astype(np.float32)
    pair = len(specs["regions"].shape) > 3
    more = {"boxes": np.tile(np.array([[0, 0, 1, 1]], np.float32), (*regions, 1))} if "boxes" in specs else {}
    more |= {name: [question.split()[0]] for name in ("choices", "phrases") if name in specs}
    return [texts | {"regions": (features, features) if pair else features} | more]


@app.command()
def run(
    server: Annotated[str, typer.Argument(metavar="URL", help="http://HOST:8501 or grpc://HOST:8500.")],
    model: Annotated[str | None, typer.Option(help="The model's name, unless URL ends in /v1/models/NAME.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Image files; without, made-up ones of 640×480.")] = None,
    question: Annotated[str, typer.Option(help="What is asked.")] = QUESTION,
    rows: Annotated[int, typer.Option(min=1, help="Questions in a request.")] = 1,
    clients: Annotated[int, typer.Option(min=1, help="Of the closed loop.")] = 8,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 20.0,
    rate: Annotated[list[float] | None, typer.Option(help="Requests per second, instead of shares.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request has failed.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    png: Annotated[Path | None, typer.Option(help="Where to draw latency against load.")] = None,
):
    """Capacity, then latency against load."""
    if png and not find_spec("matplotlib"):
        raise SystemExit("loadtest: --png needs matplotlib; install it, or leave --png out")
    images = [path.read_bytes() for path in image] if image else [photograph(number) for number in range(4)]
    with Client(server, model, timeout=timeout, retries=0, max_rows=max(rows, 1)) as client:
        client.wait_until_ready()
        requests = requests_for(client.signatures[client.signature]["inputs"], images, question, rows)
        for request in requests:  # connections, and shapes that the server has not seen yet
            client.ask(**request)
        print(f"{server}: {clients} clients, {rows} questions in a request, {seconds:g} s for each load, seed {seed}")
        capacity = closed_loop(client, requests, clients, seconds)
        rates = rate or [share * capacity.throughput for share in SHARES]
        results = [open_loop(client, requests, one, seconds, seed + number) for number, one in enumerate(rates)]
    print_table(server, COLUMNS, [result.row() for result in (capacity, *results)])
    for share, result in zip(SHARES, results, strict=False) if not rate else ():
        if share == 0.5:
            print(f"at half load, p99 / p50: {result.percentile(99) / result.percentile(50):.2f}")
    if png:
        plot(results, png)
        print(f"drawn in {png}")


@app.command()
def base(
    directory: Annotated[Path, typer.Argument(help="Directory to write, e.g. models/vilt_base/1.")],
    size: Annotated[str, typer.Option(help="base, or tiny for a quick try.")] = "base",
):
    """Export a ViLT for question answering with random weights: they do not change how long an answer takes."""
    import tfvl
    from tfvl.export import saved_model

    tiny = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64}
    labels = {index: f"answer {index}" for index in range(3129)}
    model = tfvl.ViltForQuestionAnswering(tfvl.ViltConfig(id2label=labels, **(tiny if size == "tiny" else {})))
    print(saved_model(model, base_processor(), directory))


def base_processor():
    """That of the published ViLT checkpoints."""
    import tfvl

    vocabulary = Path(tfvl.__file__).parent / "bundled/bert-base-uncased/vocab.txt"
    tokenizer = tfvl.BertTokenizer(vocabulary.read_text(encoding="utf-8").splitlines(), model_max_length=40)
    return tfvl.ViltProcessor(tfvl.ViltImageProcessor(), tokenizer)


@app.command()
def profile(
    directory: Annotated[Path, typer.Argument(help="A version of an exported ViLT, e.g. models/vilt_base/1.")],
    processor: Annotated[str | None, typer.Option(help="Source of its processor; without, ViLT's usual one.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image file; without, a made-up one of 640×480.")] = None,
    question: Annotated[str, typer.Option(help="What is asked.")] = QUESTION,
    rows: Annotated[int, typer.Option(min=1, help="Batch size.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each, in turn.")] = 20,
):
    """Where the time of an answer goes, in this process: the same rows through the artefact and through its parts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    import tfvl
    from tfvl.preprocessing.image import formats

    prepare = tfvl.ViltProcessor.from_pretrained(processor) if processor else base_processor()
    signatures = tf.saved_model.load(str(directory)).signatures
    images = tf.constant([image.read_bytes() if image else photograph()] * rows)
    texts = tf.constant([question] * rows)
    pixels = prepare.image_processor.max_pixels

    def decode(images):
        return tf.map_fn(lambda one: tf.size(formats.read(one, pixels)[0]), images, fn_output_signature=tf.int32)

    parts = {
        "answer, all in all": lambda: signatures["serving_default"](image=images, text=texts)["scores"],
        "decode": compiled(decode, images),
        "decode, resize, normalise": compiled(prepare.image_processor.decode_and_preprocess_rows, images),
        "tokenise": compiled(lambda texts: prepare.tokenizer(texts)["input_ids"], texts),
        "model": None,
    }
    tensors = {name: tf.constant(value) for name, value in prepare(images=[*images.numpy()], text=texts).items()}
    parts["model"] = lambda: signatures["tensors"](**tensors)["logits"]
    seconds = medians(parts, repeats)
    total = seconds["answer, all in all"]
    times = {
        "decode": seconds["decode"],
        "resize, normalise": seconds["decode, resize, normalise"] - seconds["decode"],
        "tokenise": seconds["tokenise"],
        "model": seconds["model"],
        "the rest: postprocessing, what the parts do not share": total
        - sum(seconds[name] for name in ("decode, resize, normalise", "tokenise", "model")),
        "answer, all in all": total,
    }
    table = [(name, f"{one * 1e3:.2f} ms", f"{one / total:.1%}") for name, one in times.items()]
    print_table(f"{directory}, batch {rows}, medians of {repeats}", ("part", "time", "share"), table)
    print(f"in-graph preprocessing: {(seconds['decode, resize, normalise'] + seconds['tokenise']) / total:.1%}")
    print(f"all that is not the model: {1 - seconds['model'] / total:.1%}")


def compiled(function: Callable, argument) -> Callable:
    """As a graph, like in the artefact."""
    import tensorflow as tf

    graph = tf.function(function, input_signature=[tf.TensorSpec([None], argument.dtype)], autograph=False)
    return lambda: graph(argument)


def medians(functions: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Seconds of each, called in turn, so that what else the machine does hits all of them."""
    import tensorflow as tf

    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(repeats + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            for value in tf.nest.flatten(function()):
                value.numpy()
            if number >= 2:  # the first calls trace and allocate
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


if __name__ == "__main__":
    threading.stack_size(1 << 20)  # many threads, which do little
    app()
