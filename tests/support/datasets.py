"""Writes small data sets with the published ones' files and formats, and with pictures and regions."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore

FEATURE_SIZE = 12
ANSWERS = ["yes", "no", "2", "red", "blue"]
# The accuracy of right answers to the 24 questions of `write_vqa`: of ten annotators (number % 10) + 1 gave the right
# one, which scores .3, .6, .9 and then 1.
ALL_RIGHT = (24 - 3 * 0.7 - 3 * 0.4 - 3 * 0.1) / 24


def dump(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def dump_lines(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def vqa_question(number: int, per_image: int = 2) -> dict:
    image = 9 + number // per_image
    words = " ".join(["really"] * (number % 5))
    return {"image_id": image, "question": f"is thing {number} {words} red?", "question_id": image * 1000 + number}


def vqa_annotation(number: int, per_image: int = 2) -> dict:
    question, best = vqa_question(number, per_image), ANSWERS[number % len(ANSWERS)]
    given = [best] * (number % 10 + 1) + [f"odd {number}"] * (9 - number % 10)
    return {
        "question_type": "is",
        "multiple_choice_answer": best,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": place + 1} for place, answer in enumerate(given)
        ],
        "image_id": question["image_id"],
        "answer_type": "yes/no" if best in ("yes", "no") else "other",
        "question_id": question["question_id"],
    }


def write_vqa(directory: Path, count: int = 24, split: str = "train") -> tuple[Path, Path]:
    """Writes the two files of a split, question by question, so that a million questions need no memory."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = (
        directory / f"v2_OpenEnded_mscoco_{split}2014_questions.json",
        directory / f"v2_mscoco_{split}2014_annotations.json",
    )
    for path, key, make in zip(paths, ("questions", "annotations"), (vqa_question, vqa_annotation), strict=True):
        with open(path, "w") as file:
            file.write(f'{{"info": {{"year": 2017}}, "data_subtype": "{split}2014", "{key}": [')
            for number in range(count):
                file.write((", " if number else "") + json.dumps(make(number)))
            file.write("]}")
    return paths


def vqa_images(count: int = 24, split: str = "train", per_image: int = 2) -> list[str]:
    return [f"COCO_{split}2014_{9 + number:012d}" for number in range(-(-count // per_image))]


def write_gqa(directory: Path, split: str = "train_balanced") -> Path:
    questions = {
        f"0{number}": {
            "semantic": [],
            "entailed": [],
            "question": f"Is item {number} red?",
            "imageId": str(2000 + number // 2),
            "isBalanced": True,
            "answer": ["yes", "red"][number % 2],
            "types": {"structural": ["verify", "query"][number % 2], "semantic": "attr", "detailed": "x"},
            "fullAnswer": "Yes, it is.",
        }
        for number in range(6)
    }
    return dump(directory / f"{split}_questions.json", questions)


def write_nlvr2(directory: Path, split: str = "dev", count: int = 8) -> Path:
    rows = [
        {
            "synset": "acorn",
            "label": ["True", "False"][number % 2],
            "sentence": f"There are {number} dogs.",
            "identifier": f"{split}-{number // 4}-{number % 4 // 2}-{number % 2}",
            "left_url": "http://example.org/a.jpg",
            "right_url": "http://example.org/b.jpg",
        }
        for number in range(count)
    ]
    return dump_lines(directory / f"{split}.json", rows)


def nlvr2_images(split: str = "dev", count: int = 8) -> list[str]:
    pairs = dict.fromkeys(f"{split}-{number // 4}-{number % 4 // 2}" for number in range(count))
    return [f"{pair}-img{side}" for pair in pairs for side in (0, 1)]


def write_karpathy(directory: Path, images: int = 12, captions: int = 5) -> Path:
    splits = ["train", "restval", "val", "test"]
    listed = [
        {
            "filepath": "val2014",
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "imgid": number,
            "split": splits[number % 4] if number >= 8 else "train",
            "cocoid": number,
            "sentids": [number * captions + place for place in range(captions)],
            "sentences": [
                {
                    "raw": f"A photo {number} of embeddings {'and things ' * place}.",
                    "tokens": ["a"],
                    "imgid": number,
                    "sentid": number * captions + place,
                }
                for place in range(captions)
            ],
        }
        for number in range(images)
    ]
    return dump(directory / "dataset_coco.json", {"images": listed, "dataset": "coco"})


def karpathy_images(images: int = 12) -> list[str]:
    return [f"COCO_val2014_{number:012d}" for number in range(images)]


def vcr_record(number: int = 0) -> dict:
    return {
        "movie": "FILM",
        "objects": ["person", "person", "person", "car", "person"],
        "img_fn": f"lsmdc_FILM/FILM_{number:02d}.jpg",
        "metadata_fn": f"lsmdc_FILM/FILM_{number:02d}.json",
        "question": ["Does", [2], "see", "the", [3], "near", [0, 2], "?"],
        "answer_choices": [["Yes", "."], ["No", [1], "does", "not", "."], [[2], "sleeps", "."], [[4], "left", "."]],
        "answer_label": 1,
        "rationale_choices": [["Snow", "."], [[0], "waves", "."], [[1], "left", "."], ["It", "is", "dark", "."]],
        "rationale_label": number % 4,
        "annot_id": f"val-{number}",
        "question_number": number,
    }


def write_vcr(directory: Path, count: int = 6, split: str = "val") -> Path:
    return dump_lines(directory / f"{split}.jsonl", [vcr_record(number) for number in range(count)])


def write_entities(directory: Path, ids=("36979", "65567")) -> Path:
    for folder in ("Sentences", "Annotations"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for image in ids:
        (directory / "Sentences" / f"{image}.txt").write_text(
            "[/EN#1/people A young man] in [/EN#2/clothing a blue shirt] near [/EN#3/scene the sea] .\n"
            "[/EN#4/notvisual Nothing] here .\n"
            "Two [/EN#5/people/bodyparts embedded people] wave .\n"
        )
        objects = "".join(
            f"<object><name>{entity}</name>{extra}"
            f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for entity, extra, (x1, y1, x2, y2) in (
                (1, "", (10, 10, 50, 90)),
                (2, "", (10, 30, 50, 60)),
                (5, "<name>1</name>", (60, 10, 90, 90)),
            )
        )
        (directory / "Annotations" / f"{image}.xml").write_text(
            f"<annotation><filename>{image}.jpg</filename><size><width>100</width><height>100</height></size>"
            f"{objects}<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"
        )
    (directory / "val.txt").write_text("".join(f"{image}\n" for image in ids))
    return directory


# --- pictures and regions -------------------------------------------------------------------------------------------


def jpeg(number: int, width: int = 64, height: int = 48) -> bytes:
    levels = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).resize((width, height)).save(file, "JPEG")
    return file.getvalue()


def write_images(directory: Path, names) -> Path:
    """Writes a JPEG for each name; every third has another orientation, so that sizes differ."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        sizes = (48, 64) if number % 3 == 0 else (64, 48)
        (directory / f"{name}.jpg").parent.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.jpg").write_bytes(jpeg(number, *sizes))
    return directory


def made_regions(name: str, number: int, count: int) -> Regions:
    generator = np.random.default_rng(number)
    corners = np.sort(generator.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4)
    return Regions(
        generator.normal(size=(count, FEATURE_SIZE)) + 3,
        corners,
        image_id=name,
        width=100,
        height=100,
        objects_id=generator.integers(0, 7, count),
        objects_conf=generator.uniform(0.1, 1, count),
        attrs_id=generator.integers(0, 5, count),
        attrs_conf=generator.uniform(0.1, 1, count),
    )


def write_regions(path: Path, names) -> RegionStore:
    """Writes a store with 3 to 6 regions for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    RegionStore.write(path, [made_regions(name, number, 3 + number % 4) for number, name in enumerate(names)])
    return RegionStore(path)
