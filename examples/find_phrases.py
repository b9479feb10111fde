"""Region-to-phrase alignment (Flickr30k Entities) by VisualBERT: which region of a picture does each phrase speak of?

    python examples/find_phrases.py                                       # the bundled model, a drawn scene
    python examples/find_phrases.py --regions park.npz --model my-visual-bert \
        --text "a man in a hat eats an apple" --phrases "a man" "an apple"
"""

import argparse
from pathlib import Path

import tfvl
from tfvl import shapes


def last_token(phrase: list[str], tokens: list[str]) -> int:
    """The place of a phrase's last token in the text, where the authors read what the phrase is about."""
    for start in range(len(tokens) - len(phrase) + 1):
        if tokens[start : start + len(phrase)] == phrase:
            return start + len(phrase) - 1
    raise ValueError(f"{' '.join(phrase)!r} is not in the text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-visual-bert-phrases", help="hub id, directory or bundled name")
    parser.add_argument(
        "--regions", type=Path, help="the picture's regions, an .npz file; a drawn scene where left out"
    )
    parser.add_argument("--detector", default="shapes-detector", help="finds the regions of the drawn scene")
    parser.add_argument("--text", default="the yellow circle is below the purple square")
    parser.add_argument("--phrases", nargs="+", default=["the yellow circle", "the purple square"])
    args = parser.parse_args()

    detector = None if args.regions else args.detector
    processor = tfvl.VisualBertProcessor.from_pretrained(args.model, detector=detector)
    model = tfvl.VisualBertForRegionToPhraseAlignment.from_pretrained(args.model)

    seen = {"regions": args.regions} if args.regions else {"images": shapes.draw_scene(0).image()}
    inputs = processor(text=args.text, **seen)
    tokenizer = processor.tokenizer
    tokens = tokenizer.tokenize(args.text, add_special_tokens=True)
    places = [[last_token(tokenizer.tokenize(phrase), tokens) for phrase in args.phrases]]  # (1, phrases)
    logits = model(inputs, region_to_phrase_position=places)["logits"][0]  # (phrases, regions)
    for phrase, region in zip(args.phrases, logits.numpy().argmax(-1), strict=True):
        print(f"{phrase}: region {region}")


if __name__ == "__main__":
    main()
