"""Times an explanation beside a forward pass, and `tfvl.pipeline` beside a direct call of an artefact.

    python tools/bench/explain.py            # ViLT-B/32 with random weights at 384×384; the pipeline on shapes-vilt

Both are medians of calls that take turns in one process; memory is the process's peak after each was called once.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
import tensorflow as tf

import tfvl
from tfvl import shapes
from tfvl.answers.rows import HEADS, Words
from tfvl.explanations.scores import scores_of_maps

ANSWERS, VOCABULARY, TOKENS, SIDE = 3129, 30522, 20, 384
MASK_ID = 103


def medians(ways: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Calls the functions in turn; returns the median of each in milliseconds."""
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}


def explanation(rounds: int = 9) -> None:
    model = tfvl.ViltForQuestionAnswering(tfvl.ViltConfig(id2label={n: str(n) for n in range(ANSWERS)}))
    rng = np.random.default_rng(0)
    inputs = {
        "input_ids": tf.constant(rng.integers(MASK_ID + 1, VOCABULARY, (1, TOKENS)), tf.int32),
        "attention_mask": tf.ones((1, TOKENS), tf.int32),
        "token_type_ids": tf.zeros((1, TOKENS), tf.int32),
        "pixel_values": tf.constant(rng.normal(size=(1, SIDE, SIDE, 3)), tf.float32),
        "pixel_mask": tf.ones((1, SIDE, SIDE), tf.int32),
    }
    words = Words(model.config.answer_names, {n: str(n) for n in range(VOCABULARY)}, "[MASK]", MASK_ID, 1)
    head = HEADS["ViltForQuestionAnswering"]
    forward = lambda: model(inputs, training=False)["logits"]  # noqa: E731
    relevance = lambda: scores_of_maps(model, head, inputs, words)[1]  # noqa: E731
    ways = {
        "forward, graph": tf.function(forward),
        "relevance, graph": tf.function(relevance),
        "forward, eager": forward,
        "relevance, eager": relevance,
    }
    peaks = {}
    for name, call in ways.items():
        call()
        peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    found = medians(ways, rounds)
    for name, milliseconds in found.items():
        plain = found["forward, " + name.partition(", ")[2]]
        print(f"{name}: {milliseconds:.0f} ms, {milliseconds / plain:.2f} times, peak {peaks[name]} MB", flush=True)


def pipelines(rounds: int = 300) -> None:
    model, processor = tfvl.auto.load("shapes-vilt")
    image, question = shapes.draw_scene(3).png(), "what color is the circle?"
    with tempfile.TemporaryDirectory() as scratch:
        directory = str(tfvl.export.saved_model(model, processor, Path(scratch) / "1"))
        serve = tf.saved_model.load(directory).signatures["serving_default"]
        checkpoint, artefact = tfvl.pipeline("shapes-vilt"), tfvl.pipeline(directory)
        ways = {
            "serving_default": lambda: {
                name: value.numpy()
                for name, value in serve(image=tf.constant([image]), text=tf.constant([question])).items()
            },
            "pipeline, checkpoint": lambda: checkpoint(image=image, question=question),
            "pipeline, SavedModel": lambda: artefact(image=image, question=question),
        }
        medians(ways, rounds // 10)  # traces, and warms up
        found = medians(ways, rounds)
    for name, milliseconds in found.items():
        print(f"{name}: {milliseconds:.2f} ms, {milliseconds - found['serving_default']:+.2f} ms", flush=True)


if __name__ == "__main__":
    print(report.processor())
    explanation()
    pipelines()
