"""Reasoning about two images (NLVR2), as in upstream's documentation: is a sentence about a pair of pictures true?

    python examples/compare_two_images.py                                       # the bundled model, two drawn scenes
    python examples/compare_two_images.py --images left.jpg right.jpg --model dandelin/vilt-b32-finetuned-nlvr2 \
        --text "The left image contains twice the number of dogs as the right image."
"""

import argparse
from pathlib import Path

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt-nlvr2", help="hub id, directory or bundled name")
    parser.add_argument("--images", type=Path, nargs=2, help="two pictures; drawn scenes where left out")
    parser.add_argument("--text", default="there is a yellow circle in the left image")
    args = parser.parse_args()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForImagesAndTextClassification.from_pretrained(args.model)

    if args.images:
        pair = [image.read_bytes() for image in args.images]
    else:
        pair = [shapes.draw_scene(seed).image() for seed in (7, 8)]
    encoding = processor(images=[pair], text=args.text)  # a batch of one pair: pixel_values (1, 2, height, width, 3)
    logits = model(encoding)["logits"]  # (1, labels)
    print("Predicted answer:", model.config.id2label[int(logits.numpy().argmax(-1)[0])])


if __name__ == "__main__":
    main()
