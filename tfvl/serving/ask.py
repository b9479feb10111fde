"""`tfvl ask --server`: one question to a model behind a server, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfvl.question import Answers, answers_of, image_inputs, more_texts, read_all
from tfvl.serving.client.client import Client


def answer(
    files: Sequence[Path],
    question: str,
    server: str,
    model: str | None = None,
    top_k: int = 5,
    *,
    image_ids: Sequence[str] = (),
    choices: Sequence[str] = (),
    phrases: Sequence[str] = (),
    timeout: float = 60.0,
) -> Answers:
    """As `tfvl.ask.answer`, of the model of that name (unless the server's URL has it).

    Raises:
        OSError: a file cannot be read, or the server gives no answer.
        ValueError: a file cannot be used, the server has no such model, or the model wants other inputs.
    """
    files, images = read_all(files, image_ids)
    with Client(server, model, timeout=timeout) as client:
        specs, src = client.signatures[client.signature]["inputs"], client.model.name
        inputs = {"text": np.array([question], object)}
        inputs |= image_inputs(images, files, specs, src)
        inputs |= more_texts({"choices": choices, "phrases": phrases}, specs, src)
        outputs = client.predict(inputs)
    return answers_of({name: value[0] for name, value in outputs.items()}, files, question, src, phrases, top_k)
