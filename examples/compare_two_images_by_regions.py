"""Reasoning about two images (NLVR2) by VisualBERT: is a sentence true of the regions found in a pair of pictures?

    python examples/compare_two_images_by_regions.py --regions left.npz right.npz \
        --text "The left image contains twice the number of dogs as the right image."
"""

import argparse
from pathlib import Path

import tfvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="uclanlp/visualbert-nlvr2", help="hub id or directory")
    parser.add_argument("--regions", type=Path, nargs=2, required=True, help="two .npz files")
    parser.add_argument("--text", required=True)
    args = parser.parse_args()

    processor = tfvl.VisualBertProcessor.from_pretrained(args.model)
    model = tfvl.VisualBertForVisualReasoning.from_pretrained(args.model)

    inputs = processor(text=args.text, regions=[args.regions])  # a batch of one pair
    logits = model(inputs)["logits"]  # (1, labels)
    print("Predicted answer:", model.config.id2label[int(logits.numpy().argmax(-1)[0])])


if __name__ == "__main__":
    main()
