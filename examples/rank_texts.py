"""Image-text retrieval, as in upstream's documentation: which text fits a picture best?

    python examples/rank_texts.py --image cats.jpg \
        --texts "An image of two cats chilling on a couch" "A football player scoring a goal"
"""

import argparse
from pathlib import Path

import tfvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dandelin/vilt-b32-finetuned-coco", help="hub id or directory")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--texts", nargs="+", required=True)
    args = parser.parse_args()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForImageAndTextRetrieval.from_pretrained(args.model)

    image = processor(images=args.image.read_bytes())
    texts = processor(text=args.texts)  # (texts, length)
    texts = {name: value[None] for name, value in texts.items()}  # (1, texts, length): the image is embedded only once
    scores = model(texts | image)["logits"][0].numpy()  # (texts,)
    for score, text in sorted(zip(scores, args.texts, strict=True), reverse=True):
        print(f"{score:8.3f}  {text}")


if __name__ == "__main__":
    main()
