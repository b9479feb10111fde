"""Region-to-phrase alignment (Flickr30k Entities) by VisualBERT: which region of a picture does each phrase speak of?

    python examples/find_phrases.py --regions park.npz --model my-visual-bert \
        --text "a man in a hat eats an apple" --phrases "a man" "an apple"
"""

import argparse
from pathlib import Path

import tfvl


def last_token(phrase: list[str], tokens: list[str]) -> int:
    """The place of a phrase's last token in the text, where the authors read what the phrase is about."""
    for start in range(len(tokens) - len(phrase) + 1):
        if tokens[start : start + len(phrase)] == phrase:
            return start + len(phrase) - 1
    raise ValueError(f"{' '.join(phrase)!r} is not in the text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="uclanlp/visualbert-vqa-coco-pre", help="hub id or directory")
    parser.add_argument("--regions", type=Path, required=True, help="the picture's regions, an .npz file")
    parser.add_argument("--text", required=True)
    parser.add_argument("--phrases", nargs="+", required=True)
    args = parser.parse_args()

    processor = tfvl.VisualBertProcessor.from_pretrained(args.model)
    model = tfvl.VisualBertForRegionToPhraseAlignment.from_pretrained(args.model)

    inputs = processor(text=args.text, regions=args.regions)
    tokenizer = processor.tokenizer
    tokens = tokenizer.tokenize(args.text, add_special_tokens=True)
    places = [[last_token(tokenizer.tokenize(phrase), tokens) for phrase in args.phrases]]  # (1, phrases)
    logits = model(inputs, region_to_phrase_position=places)["logits"][0]  # (phrases, regions)
    for phrase, region in zip(args.phrases, logits.numpy().argmax(-1), strict=True):
        print(f"{phrase}: region {region}")


if __name__ == "__main__":
    main()
