"""Writes tests/golden/images.json: hashes of what upstream's Pillow processor makes of the test images.

Run where transformers is installed: python tools/golden/images.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import PIL
import transformers
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.images import DIGESTS, cases, digest, for_upstream


def upstream(images: list) -> dict[str, dict]:
    """Returns digests of upstream's outputs: pixel_values with channels last, pixel_mask as int32."""
    outputs = ViltImageProcessorPil()([for_upstream(image) for image in images], return_tensors="np")
    return {
        "pixel_values": digest(np.moveaxis(outputs["pixel_values"], 1, -1)),
        "pixel_mask": digest(outputs["pixel_mask"].astype(np.int32)),
    }


def main() -> None:
    images = cases()
    golden = {
        "versions": {"transformers": transformers.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
        "images": {name: upstream([image]) for name, image in images.items()},
        "batch": upstream(list(images.values())[::5]),
    }
    DIGESTS.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{DIGESTS}: {len(images)} images and a batch")


if __name__ == "__main__":
    main()
