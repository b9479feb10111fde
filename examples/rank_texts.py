"""Image-text retrieval, as in upstream's documentation: which text fits a picture best?

    python examples/rank_texts.py                                               # the bundled model, a drawn scene
    python examples/rank_texts.py --image cats.jpg --model dandelin/vilt-b32-finetuned-coco \
        --texts "An image of two cats chilling on a couch" "A football player scoring a goal"
"""

import argparse
from pathlib import Path

import tfvl
from tfvl import shapes

TEXTS = (
    "the blue circle is top right",
    "the red circle is top right",
    "there are 3 orange objects",
    "there are 3 red objects",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt-retrieval", help="hub id, directory or bundled name")
    parser.add_argument("--image", type=Path, help="a picture; a drawn scene where left out")
    parser.add_argument("--texts", nargs="+", default=TEXTS)
    args = parser.parse_args()
    image = args.image.read_bytes() if args.image else shapes.draw_scene(7).image()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForImageAndTextRetrieval.from_pretrained(args.model)

    image = processor(images=image)
    texts = processor(text=args.texts)  # (texts, length)
    texts = {name: value[None] for name, value in texts.items()}  # (1, texts, length): the image is embedded only once
    scores = model(texts | image)["logits"][0].numpy()  # (texts,)
    for score, text in sorted(zip(scores, args.texts, strict=True), reverse=True):
        print(f"{score:8.3f}  {text}")


if __name__ == "__main__":
    main()
