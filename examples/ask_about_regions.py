"""Visual question answering by VisualBERT or LXMERT, from the regions that a detector found in a picture.

    python examples/ask_about_regions.py                                # the bundled LXMERT, a drawn scene
    python examples/ask_about_regions.py --model shapes-visual-bert
    python examples/ask_about_regions.py --model unc-nlp/lxmert-vqa-uncased --regions kitchen.npz \
        --text "What is on the table?"
"""

import argparse
from pathlib import Path

import keras

import tfvl
from tfvl import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-lxmert", help="hub id, directory or bundled name")
    parser.add_argument("--regions", type=Path, help="an .npz file; those of a drawn scene where left out")
    parser.add_argument("--text", default="how many objects are there?")
    args = parser.parse_args()
    regions = args.regions or shapes.regions(shapes.draw_scene(7))

    model, processor = tfvl.auto.load(args.model)  # VisualBertForQuestionAnswering or LxmertForQuestionAnswering
    outputs = model(processor(text=args.text, regions=regions))
    logits = outputs["logits"] if "logits" in outputs else outputs["question_answering_score"]  # (1, answers)
    scores, indices = keras.ops.top_k(keras.ops.softmax(logits[0]), 3)
    print("Predicted answer:", model.config.id2label[int(indices[0])])
    for score, index in zip(scores, indices, strict=True):
        print(f"  {float(score):.3f}  {model.config.id2label[int(index)]}")


if __name__ == "__main__":
    main()
