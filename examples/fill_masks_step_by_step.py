"""Masked language modelling, as in upstream's documentation: fill [MASK]s one by one, the surest one first.

    python examples/fill_masks_step_by_step.py                                  # the bundled model, a drawn scene
    python examples/fill_masks_step_by_step.py --image cats.jpg --text "a bunch of [MASK] laying on a [MASK]." \
        --model dandelin/vilt-b32-mlm
"""

import argparse
from pathlib import Path

import keras

import tfvl
from tfvl import shapes


def fill_masks(model, processor, image, text: str) -> list[str]:
    """The text after each step, the last one without any mask."""
    pixels = processor(images=image)  # decoded and resized once
    tokenizer = processor.tokenizer
    ids = tokenizer(text)["input_ids"].numpy()  # (1, length), [CLS] first and [SEP] last
    steps = []
    while (masked := ids[0] == tokenizer.mask_token_id).any():
        logits = model(input_ids=ids, **pixels)["logits"][0]  # (length, vocabulary)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        surest = (probabilities.max(axis=-1) * masked).argmax()
        ids[0, surest] = probabilities[surest].argmax()
        steps.append(processor.decode(ids[0], skip_special_tokens=True))
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-vilt-mlm", help="hub id, directory or bundled name")
    parser.add_argument("--image", type=Path, help="a picture; a drawn scene where left out")
    parser.add_argument("--text", default="there is a [MASK] [MASK]")
    args = parser.parse_args()
    image = args.image.read_bytes() if args.image else shapes.draw_scene(7).image()

    processor = tfvl.ViltProcessor.from_pretrained(args.model)
    model = tfvl.ViltForMaskedLM.from_pretrained(args.model)
    for step in fill_masks(model, processor, image, args.text):
        print(step)


if __name__ == "__main__":
    main()
