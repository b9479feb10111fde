"""The task guide for visual question answering, with tfvl: from data to a model on the hub, and what it says.

    python examples/visual_question_answering.py --out my-vilt                       # drawn scenes, the bundled model
    python examples/visual_question_answering.py --data vqa.jsonl --model dandelin/vilt-b32-mlm \
        --out my-vilt --push-to me/my-vilt

A line of the data is `{"image": "cats.jpg", "question": "how many?", "answers": {"2": 1.0, "3": 0.3}}`: every answer
that people gave, with its weight. Without data 40 scenes are drawn.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

import tfvl
from tfvl import shapes


def drawn(count: int) -> list[dict]:
    """Questions about drawn scenes, in the form of the data."""
    scenes = [shapes.draw_scene(seed, "train") for seed in range(count)]
    return [
        {"image": scene.image(), "question": question.text, "answers": {question.answer: 1.0}}
        for scene in scenes
        for question in scene.questions()
    ]


def read(file: Path) -> list[dict]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row | {"image": file.parent / row["image"]} for row in rows]


def prepared(rows: list[dict], processor, label2id: dict[str, int]) -> tuple[dict, tf.Tensor]:
    """The model's inputs, and a soft target for each answer."""
    inputs = processor(images=[row["image"] for row in rows], text=[row["question"] for row in rows])
    targets = np.zeros((len(rows), len(label2id)), np.float32)
    for row, target in zip(rows, targets, strict=True):
        for answer, weight in row["answers"].items():
            target[label2id[answer]] = weight
    return inputs, tf.constant(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a .jsonl file; drawn scenes where left out")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--model", default="shapes-vilt", help="where to start: hub id, directory or bundled name")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--push-to", metavar="REPO", help="a repository of the hub")
    args = parser.parse_args()

    # 1. the data, and the answers that occur in it
    rows = read(args.data) if args.data else drawn(args.scenes)
    labels = sorted({answer for row in rows for answer in row["answers"]})
    label2id = {label: number for number, label in enumerate(labels)}

    # 2. a model with a new head for these answers, and its processor
    model = tfvl.ViltForQuestionAnswering.from_pretrained(
        args.model, id2label=dict(enumerate(labels)), ignore_mismatched_sizes=True
    )
    processor = tfvl.ViltProcessor.from_pretrained(args.model)

    # 3. training: the paper's loss, optimizer and metric by default
    batches = [rows[start : start + args.batch_size] for start in range(0, len(rows), args.batch_size)]
    model.compile()
    for epoch in range(args.epochs):
        results = [model.train_on_batch(*prepared(each, processor, label2id), return_dict=True) for each in batches]
        print(f"epoch {epoch + 1}: loss {float(results[-1]['loss']):.4f}")

    # 4. the checkpoint, which transformers loads too; and on the hub
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)
    if args.push_to:
        import huggingface_hub

        huggingface_hub.create_repo(args.push_to, exist_ok=True)
        huggingface_hub.upload_folder(repo_id=args.push_to, folder_path=args.out)

    # 5. what it says, and why
    image, question = rows[0]["image"], rows[0]["question"]
    for answer in tfvl.pipeline(args.out)(image=image, question=question, top_k=3):
        print(f"{answer['score']:.3f}  {answer['answer']}")
    one = tfvl.explain(model, processor, image=image, text=question)
    print(f"{question} The strongest word is {one.tokens[int(one.token_scores.argmax())]!r}.")


if __name__ == "__main__":
    main()
