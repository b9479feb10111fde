"""Visual question answering by VisualBERT or LXMERT, from the regions that a detector found in a picture.

    python examples/ask_about_regions.py                                # the bundled LXMERT, a drawn scene
    python examples/ask_about_regions.py --model shapes-visual-bert
    python examples/ask_about_regions.py --model unc-nlp/lxmert-vqa-uncased --image kitchen.jpg \
        --detector unc-nlp/frcnn-vg-finetuned --text "What is on the table?"
    python examples/ask_about_regions.py --model unc-nlp/lxmert-vqa-uncased --regions kitchen.npz
"""

import argparse
from pathlib import Path

import keras

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-lxmert", help="hub id, directory or bundled name")
    parser.add_argument("--image", type=Path, help="a picture; a drawn scene where left out")
    parser.add_argument("--detector", default="shapes-detector", help="hub id, directory or bundled name")
    parser.add_argument("--regions", type=Path, help="an .npz file in place of the picture and the detector")
    parser.add_argument("--text", default="how many objects are there?")
    args = parser.parse_args()

    # VisualBertForQuestionAnswering or LxmertForQuestionAnswering
    model, processor = tfvl.auto.load(args.model, detector=None if args.regions else args.detector)
    if args.regions:
        inputs = processor(text=args.text, regions=args.regions)
    else:
        inputs = processor(text=args.text, images=args.image or shapes.draw_scene(7).image())
    outputs = model(inputs)
    logits = outputs["logits"] if "logits" in outputs else outputs["question_answering_score"]  # (1, answers)
    scores, indices = keras.ops.top_k(keras.ops.softmax(logits[0]), 3)
    print("Predicted answer:", model.config.id2label[int(indices[0])])
    for score, index in zip(scores, indices, strict=True):
        print(f"  {float(score):.3f}  {model.config.id2label[int(index)]}")


if __name__ == "__main__":
    main()
