"""Multiple choice (VCR) by VisualBERT, as in upstream's documentation: which text goes best with a prompt?

    python examples/choose_a_text.py                                            # the bundled model, a drawn scene
    python examples/choose_a_text.py --regions pizza.npz --model uclanlp/visualbert-vcr \
        --prompt "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced." \
        --choices "It is eaten with a fork and a knife." "It is eaten while held in the hand."
"""

import argparse
from pathlib import Path

import keras

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-visual-bert-choice", help="hub id, directory or bundled name")
    parser.add_argument("--regions", type=Path, help="the picture's, an .npz file; a drawn scene where left out")
    parser.add_argument("--detector", default="shapes-detector", help="finds the regions of the drawn scene")
    parser.add_argument("--prompt", default="what is below the blue object?")
    parser.add_argument(
        "--choices", nargs="+", default=["an orange circle", "an orange triangle", "an orange star", "a yellow circle"]
    )
    args = parser.parse_args()

    processor = tfvl.VisualBertProcessor.from_pretrained(args.model, detector=None if args.regions else args.detector)
    model = tfvl.VisualBertForMultipleChoice.from_pretrained(args.model)

    seen = {"regions": args.regions} if args.regions else {"images": shapes.draw_scene(7).image()}
    inputs = processor(text=args.prompt, text_pair=[args.choices], **seen)  # ids (1, choices, length)
    scores = keras.ops.softmax(model(inputs)["logits"][0]).numpy()  # (choices,)
    for score, choice in sorted(zip(scores, args.choices, strict=True), reverse=True):
        print(f"{score:.3f}  {choice}")


if __name__ == "__main__":
    main()
