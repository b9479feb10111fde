"""Reasoning about two images (NLVR2), as in upstream's documentation: is a sentence about a pair of pictures true?

    python examples/compare_two_images.py --images left.jpg right.jpg \
        --text "The left image contains twice the number of dogs as the right image."
"""

import argparse
from pathlib import Path

import tfvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dandelin/vilt-b32-finetuned-nlvr2", help="hub id or directory")
    parser.add_argument("--images", type=Path, nargs=2, required=True)
    parser.add_argument("--text", required=True)
    args = parser.parse_args()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForImagesAndTextClassification.from_pretrained(args.model)

    pair = [image.read_bytes() for image in args.images]
    encoding = processor(images=[pair], text=args.text)  # a batch of one pair: pixel_values (1, 2, height, width, 3)
    logits = model(encoding)["logits"]  # (1, labels)
    print("Predicted answer:", model.config.id2label[int(logits.numpy().argmax(-1)[0])])


if __name__ == "__main__":
    main()
