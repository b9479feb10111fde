"""Train a bundled model: a small ViLT, VisualBERT or LXMERT that answers questions about drawn shapes.

    python examples/train_shapes_vqa.py --model visual_bert --out shapes-visual-bert  # two cores, about 6 minutes
    python examples/train_shapes_vqa.py --model lxmert --out shapes-lxmert            # about 15 minutes
    python examples/train_shapes_vqa.py --model vilt --out stage-1                    # about 15 minutes, and then
    python examples/train_shapes_vqa.py --model vilt --out shapes-vilt --start-from stage-1 --seed 1 --epochs 3 \
        --learning-rate 5e-4
    python examples/train_shapes_vqa.py --model vilt --out /tmp/tiny --scenes 40 --epochs 1 --test 50  # seconds

Pictures, regions and texts go through the same processor as in serving. The accuracy table at the end is about scenes
that training has not seen; beside it stands what one gets without looking: each question's most frequent answer.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track
from rich.table import Table

import tfvl
from tfvl import shapes
from tfvl.training.tasks.shapes import LENGTH, PER_SCENE

SIZES = {
    "vocab_size": len(shapes.vocabulary()),
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.12,  # about 1 / sqrt(hidden_size); with the usual 0.02 so small a model hardly learns
    "id2label": dict(enumerate(shapes.answers())),
}
# Empty patches become about 0, and patches with an object about 1, no larger than words and positions: a patch sums
# 768 values, and where it is much larger than its position, the model hardly learns where things are.
PIXELS = {"image_mean": 0.94, "image_std": 1.0}


def make_tokenizer() -> tfvl.BertTokenizer:
    """The vocabulary is the words of the questions and answers."""
    return tfvl.BertTokenizer(list(shapes.vocabulary()), model_max_length=SIZES["max_position_embeddings"])


def make_vilt():
    """Pictures shrink to 64 x 64 pixels, 16 patches."""
    config = tfvl.ViltConfig(**SIZES, num_hidden_layers=4, image_size=64, patch_size=16)
    model = tfvl.ViltForQuestionAnswering(config)
    model.start_as_waves()
    size = {"shortest_edge": config.image_size}
    images = tfvl.ViltImageProcessor(size=size, size_divisor=config.patch_size, **PIXELS)
    return model, tfvl.ViltProcessor(images, make_tokenizer())


def make_visual_bert():
    config = tfvl.VisualBertConfig(
        **SIZES, num_hidden_layers=3, visual_embedding_dim=shapes.FEATURE_SIZE, pad_token_id=0
    )
    return tfvl.VisualBertForQuestionAnswering(config), tfvl.VisualBertProcessor(make_tokenizer(), shapes.FEATURE_SIZE)


def make_lxmert():
    config = tfvl.LxmertConfig(
        **SIZES,
        num_qa_labels=len(shapes.answers()),
        num_object_labels=len(shapes.SHAPES),
        num_attr_labels=len(shapes.COLORS),
        l_layers=2,
        r_layers=1,
        x_layers=2,
        visual_feat_dim=shapes.FEATURE_SIZE,
        pad_token_id=0,
    )
    return tfvl.LxmertForQuestionAnswering(config), tfvl.LxmertProcessor(make_tokenizer(), shapes.FEATURE_SIZE)


def see_pictures(processor, scenes: list) -> dict:
    parts = [scenes[i : i + 64] for i in range(0, len(scenes), 64)]
    parts = [processor(images=[scene.image() for scene in part]) for part in track(parts, "Drawing the pictures")]
    # All pictures are square: nothing in them is padding, and the model does without a pixel_mask.
    return {"pixel_values": tf.concat([part["pixel_values"] for part in parts], axis=0)}


def see_regions(processor, scenes: list) -> dict:
    return processor(regions=[shapes.regions(scene) for scene in track(scenes, "Drawing the pictures")])


class Family(NamedTuple):
    """What differs between the models.

    Attributes:
        make: returns an untrained model and its processor.
        see: from a processor and scenes to the model's visual inputs, a row for each scene.
        target: from labels (batch,) to what the model's loss takes.
        scores: the output that holds the answers' scores.
    """

    make: Callable
    see: Callable
    target: Callable
    scores: str = "logits"


def one_hot(labels):
    return tf.one_hot(labels, len(shapes.answers()))


FAMILIES = {
    "vilt": Family(make_vilt, see_pictures, one_hot),
    "visual_bert": Family(make_visual_bert, see_regions, one_hot),
    "lxmert": Family(make_lxmert, see_regions, tf.identity, "question_answering_score"),
}


def batches(family: Family, processor, scenes: list, questions: list, batch_size: int, *, shuffle: bool):
    """A dataset of (inputs, targets). What is seen of a scene is kept once, however many questions go with it."""
    seen = family.see(processor, scenes)
    texts = processor.tokenizer([question.text for _, question in questions], padding="max_length", max_length=LENGTH)
    labels = [shapes.answers().index(question.answer) for _, question in questions]
    rows = tf.data.Dataset.from_tensor_slices(([scene for scene, _ in questions], texts, labels))
    if shuffle:
        rows = rows.shuffle(len(questions))

    def join(scene, texts, label):
        return texts | {name: tf.gather(values, scene) for name, values in seen.items()}, family.target(label)

    return rows.batch(batch_size, drop_remainder=shuffle).map(join).prefetch(2)


def accuracy_table(family: Family, model, processor, count: int, trained_on: list) -> Table:
    """What the model says on `count` held-out questions, next to each question's usual answer in training."""
    pairs = list(shapes.held_out_questions(count))
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scene for scene, _ in pairs))}
    asked = [(places[scene], question) for scene, question in pairs]
    rows = batches(family, processor, list(places), asked, 250, shuffle=False)
    scores = model.predict(rows, verbose=0)[family.scores]
    seen = defaultdict(Counter)
    for _, question in trained_on:
        seen[question.text][question.answer] += 1
    right, usual = defaultdict(list), defaultdict(list)
    for (_, question), best in zip(asked, np.argmax(scores, axis=-1), strict=True):
        most_common = [answer for answer, _ in seen[question.text].most_common(1)]
        for kind in (question.kind, "all"):
            right[kind].append(shapes.answers()[best] == question.answer)
            usual[kind].append(most_common == [question.answer])
    table = Table("kind", "questions", "accuracy", "without looking", title="On scenes not seen in training")
    for kind in (*(kind for kind in shapes.KINDS if kind in right), "all"):
        table.add_row(kind, str(len(right[kind])), f"{np.mean(right[kind]):.1%}", f"{np.mean(usual[kind]):.1%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=FAMILIES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory for the model, in the hub's layout")
    parser.add_argument("--scenes", type=int, default=8000, help="number of scenes to train on")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at its highest")
    parser.add_argument("--test", type=int, default=2000, help="number of held-out questions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", type=Path, help="directory of a model to train further")
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)

    family = FAMILIES[args.model]
    model, processor = family.make()
    if args.start_from:
        model = type(model).from_pretrained(args.start_from)
    scenes = [shapes.draw_scene(args.seed * 10**6 + i, "train") for i in range(args.scenes)]
    questions = [(i, question) for i, scene in enumerate(scenes) for question in scene.questions(PER_SCENE)]
    training = batches(family, processor, scenes, questions, args.batch_size, shuffle=True)
    steps = args.epochs * len(training)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 20, alpha=0.01, warmup_target=args.learning_rate, warmup_steps=steps // 20
    )
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0), jit_compile=True)
    model.fit(training, epochs=args.epochs)
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)
    Console().print(accuracy_table(family, model, processor, args.test, questions))


if __name__ == "__main__":
    main()
