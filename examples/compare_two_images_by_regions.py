"""Reasoning about two images (NLVR2) by VisualBERT: is a sentence true of the regions found in a pair of pictures?

    python examples/compare_two_images_by_regions.py                            # the bundled model, two drawn scenes
    python examples/compare_two_images_by_regions.py --regions left.npz right.npz --model uclanlp/visualbert-nlvr2 \
        --text "The left image contains twice the number of dogs as the right image."
"""

import argparse
from pathlib import Path

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-visual-bert-nlvr2", help="hub id, directory or bundled name")
    parser.add_argument("--regions", type=Path, nargs=2, help="two .npz files; drawn scenes where left out")
    parser.add_argument("--detector", default="shapes-detector", help="finds the regions of the drawn scenes")
    parser.add_argument("--text", default="there is a yellow circle in the left image")
    args = parser.parse_args()

    processor = tfvl.VisualBertProcessor.from_pretrained(args.model, detector=None if args.regions else args.detector)
    model = tfvl.VisualBertForVisualReasoning.from_pretrained(args.model)

    pair = (
        {"regions": args.regions}
        if args.regions
        else {"images": [shapes.draw_scene(7).image(), shapes.draw_scene(8).image()]}
    )
    inputs = processor(text=args.text, **{name: [both] for name, both in pair.items()})  # a batch of one pair
    logits = model(inputs)["logits"]  # (1, labels)
    print("Predicted answer:", model.config.id2label[int(logits.numpy().argmax(-1)[0])])


if __name__ == "__main__":
    main()
