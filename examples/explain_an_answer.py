"""Why that answer: the words and the parts of the picture that it comes from.

    python examples/explain_an_answer.py --out why.png                       # the bundled ViLT, a drawn scene
    python examples/explain_an_answer.py --model shapes-lxmert --out why.png
    python examples/explain_an_answer.py --model dandelin/vilt-b32-finetuned-vqa --image cats.jpg \
        --text "how many cats are there?" --out why.png
"""

import argparse
from pathlib import Path

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt", help="hub id, directory or bundled name")
    parser.add_argument("--detector", help="for VisualBERT and LXMERT; bundled models have one")
    parser.add_argument("--image", type=Path, help="a picture; a drawn scene where left out")
    parser.add_argument("--text", default="what color is the triangle?")
    parser.add_argument("--method", default="relevance", choices=tfvl.explanations.METHODS)
    parser.add_argument("--out", type=Path, help="where the drawing goes; needs matplotlib")
    args = parser.parse_args()

    source = tfvl.auto.find(args.model)
    model, processor = source.load(detector=args.detector or source.default_detector)
    image = args.image or shapes.draw_scene(23).image()
    one = tfvl.explain(model, processor, image=image, text=args.text, method=args.method)
    print(f"{one.answer} ({one.score:.3f})")
    for token, score in zip(one.tokens, one.token_scores, strict=True):
        print(f"  {score:8.4f}  {token}")
    if args.out:
        one.save(args.out)


if __name__ == "__main__":
    main()
