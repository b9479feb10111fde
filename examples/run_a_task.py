"""One call for every task: `tfvl.pipeline`, on drawn scenes and bundled models, or on your pictures and models.

python examples/run_a_task.py region-detection
python examples/run_a_task.py fill-mask --text "there is a [MASK] circle"
python examples/run_a_task.py token-classification --model my-vilt --image cats.jpg --text "two cats"
python examples/run_a_task.py visual-question-answering --model http://localhost:8501/v1/models/vilt_vqa
"""

import argparse

import tfvl
from tfvl import shapes
from tfvl.pipelines import TASKS

BUNDLED = {
    "visual-question-answering": "shapes-vilt",
    "fill-mask": "shapes-vilt-mlm",
    "image-text-retrieval": "shapes-vilt-retrieval",
    "visual-reasoning": "shapes-vilt-nlvr2",
    "multiple-choice": "shapes-visual-bert-choice",
    "phrase-grounding": "shapes-visual-bert-phrases",
    "region-detection": "shapes-detector",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", help="any source of tfvl.pipeline; a bundled model where there is one")
    parser.add_argument("--image", nargs="+", help="a picture, or two; a drawn scene where left out")
    parser.add_argument("--regions", nargs="+", help="in place of it: .npz files, for VisualBERT and LXMERT")
    parser.add_argument("--text", default="how many objects are there?", help="question, sentence or caption")
    parser.add_argument("--choices", nargs="+")
    parser.add_argument("--phrases", nargs="+")
    args = parser.parse_args()
    if not (args.model or args.task in BUNDLED):
        parser.error(f"{args.task} has no bundled model; name one with --model")

    with tfvl.pipeline(args.model or BUNDLED[args.task], args.task) as pipe:
        files = args.regions or args.image or [shapes.draw_scene(7).image()]
        asked = {"regions" if args.regions else "image": files[0] if len(files) == 1 else files}
        if args.task != "region-detection":
            asked |= {"text": args.text, "choices": args.choices, "phrases": args.phrases}
        for answer in pipe(**asked):
            print({name: round(value, 4) if name == "score" else value for name, value in answer.items()})


if __name__ == "__main__":
    main()
