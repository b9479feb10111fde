"""Visual question answering, as in upstream's documentation: the best answers to a question about a picture.

    python examples/ask_about_an_image.py                                   # the bundled model, a drawn scene
    python examples/ask_about_an_image.py --image cats.jpg --text "How many cats are there?" \
        --model dandelin/vilt-b32-finetuned-vqa
"""

import argparse
from pathlib import Path

import keras

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt", help="hub id, directory or bundled name")
    parser.add_argument("--image", type=Path, help="a picture; a drawn scene where left out")
    parser.add_argument("--text", default="how many objects are there?")
    args = parser.parse_args()
    image = args.image.read_bytes() if args.image else shapes.draw_scene(7).image()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForQuestionAnswering.from_pretrained(args.model)

    encoding = processor(image, args.text)
    logits = model(encoding)["logits"]  # (1, answers)
    scores, indices = keras.ops.top_k(keras.ops.sigmoid(logits[0]), 3)
    print("Predicted answer:", model.config.id2label[int(indices[0])])
    for score, index in zip(scores, indices, strict=True):
        print(f"  {float(score):.3f}  {model.config.id2label[int(index)]}")


if __name__ == "__main__":
    main()
