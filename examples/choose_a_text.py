"""Multiple choice (VCR) by VisualBERT, as in upstream's documentation: which text goes best with a prompt?

    python examples/choose_a_text.py --regions pizza.npz \
        --prompt "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced." \
        --choices "It is eaten with a fork and a knife." "It is eaten while held in the hand."
"""

import argparse
from pathlib import Path

import keras

import tfvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="uclanlp/visualbert-vcr", help="hub id or directory")
    parser.add_argument("--regions", type=Path, required=True, help="the picture's regions, an .npz file")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--choices", nargs="+", required=True)
    args = parser.parse_args()

    processor = tfvl.VisualBertProcessor.from_pretrained(args.model)
    model = tfvl.VisualBertForMultipleChoice.from_pretrained(args.model)

    inputs = processor(text=args.prompt, text_pair=[args.choices], regions=args.regions)  # ids (1, choices, length)
    scores = keras.ops.softmax(model(inputs)["logits"][0]).numpy()  # (choices,)
    for score, choice in sorted(zip(scores, args.choices, strict=True), reverse=True):
        print(f"{score:.3f}  {choice}")


if __name__ == "__main__":
    main()
