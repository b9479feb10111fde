"""Trains LXMERT on a folder of pictures without a detector: a small CNN gives the features of a grid, and learns along.

    python examples/train_on_grid_features.py --data my-pictures --out my-lxmert
    python examples/train_on_grid_features.py --out my-lxmert --scenes 40   # draws the pictures of such a folder first

The folder holds pictures and `questions.csv` with the columns image, question, answer.
"""

import argparse
import csv
from pathlib import Path

import keras
import tensorflow as tf

import tfvl
from tfvl import shapes


def draw_folder(folder: Path, scenes: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in (shapes.draw_scene(seed, "train") for seed in range(scenes)):
        scene.image().save(folder / f"{scene.seed}.png")
        rows += [[f"{scene.seed}.png", question.text, question.answer] for question in scene.questions(2)]
    with open(folder / "questions.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "question", "answer"], *rows])
    return folder


def small_cnn() -> keras.Model:
    layers = [keras.Input((64, 64, 3)), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    for width in (32, 64, 128):
        layers += [keras.layers.Conv2D(width, 3, 2, "same"), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return keras.Sequential(layers, name="small_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of pictures; drawn ones where left out")
    parser.add_argument("--out", type=Path, required=True, help="directory for the model, in the hub's layout")
    parser.add_argument("--model", default="shapes-lxmert", help="LXMERT to start from")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    data = args.data or draw_folder(args.out / "pictures", args.scenes)
    with open(data / "questions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    answers = sorted({row["answer"] for row in rows})

    grid = tfvl.GridFeatures(small_cnn(), grid=(4, 4))
    fields = {"visual_feat_dim": grid.feature_size, "num_qa_labels": len(answers), "id2label": dict(enumerate(answers))}
    model = tfvl.LxmertForQuestionAnswering.from_pretrained(args.model, ignore_mismatched_sizes=True, **fields)
    tokenizer = tfvl.LxmertProcessor.from_pretrained(args.model).tokenizer
    processor = tfvl.LxmertProcessor(tokenizer, grid.feature_size, grid)

    def load(path, text, label):
        return {**text, "pixel_values": grid.pixel_values(tf.map_fn(tf.io.read_file, path))}, label

    texts = processor(text=[row["question"] for row in rows])
    labels = [answers.index(row["answer"]) for row in rows]
    dataset = tf.data.Dataset.from_tensor_slices(([str(data / row["image"]) for row in rows], texts, labels))
    dataset = dataset.shuffle(len(rows)).batch(32).map(load, num_parallel_calls=2).prefetch(2)
    joined = grid.in_front_of(model)
    joined.compile(model.default_optimizer(steps=args.epochs * len(dataset), learning_rate=1e-3))
    history = joined.fit(dataset, epochs=args.epochs, verbose=2).history
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)  # and the grid features beside
    print("; ".join(f"{name} {values[-1]:.3f}" for name, values in history.items()))


if __name__ == "__main__":
    main()
