"""Trains one model on several machines: the bundled ViLT goes on learning from drawn scenes.

On every machine, each with its own number as "index":

    export TF_CONFIG='{"cluster": {"worker": ["first:2222", "second:2222"]}, "task": {"type": "worker", "index": 0}}'
    python examples/train_on_two_machines.py --out my-model

Without TF_CONFIG one machine trains alone, to the same weights. `tfvl train` takes TF_CONFIG as well, and goes on where
it was interrupted.
"""

import argparse
from pathlib import Path

import tensorflow as tf

import tfvl
from tfvl import shapes
from tfvl.training.distributed import workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt", help="directory or bundled name")
    parser.add_argument("--out", type=Path, required=True, help="directory for the model, in the hub's layout")
    parser.add_argument("--scenes", type=int, default=400, help="number of scenes to train on")
    parser.add_argument("--batch-size", type=int, default=64, help="of all machines together")
    args = parser.parse_args()
    here = workers()  # before anything else of TensorFlow; waits for the others

    with here.scope():
        model = tfvl.ViltForQuestionAnswering.from_pretrained(args.model)
        model.compile()
    processor = tfvl.ViltProcessor.from_pretrained(args.model)

    scenes = [shapes.draw_scene(seed, "train") for seed in range(args.scenes)]
    rows = [(scene, question) for scene in scenes for question in scene.questions()]
    full = len(rows) // args.batch_size * args.batch_size
    mine = rows[here.index : full : here.count]
    inputs = processor(images=[scene.image() for scene, _ in mine], text=[question.text for _, question in mine])
    answers = [shapes.answers().index(question.answer) for _, question in mine]
    dataset = tf.data.Dataset.from_tensor_slices((inputs, tf.one_hot(answers, len(shapes.answers()))))
    dataset = dataset.batch(args.batch_size // here.count)

    with here.together():  # one sentence if another machine fails
        history = model.fit(here.dataset(dataset), verbose=0).history
    print(f"{here.index + 1} of {here.count}: loss {history['loss'][-1]:.4f}, VQA score {history['vqa_score'][-1]:.4f}")
    if here.is_chief:
        model.save_pretrained(args.out)
        processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
