"""Writes files of a user's own rows about small pictures."""

import csv
from pathlib import Path

from support import datasets

ANSWERS = ("yes", "no", "Dark Blue")


def rows(count: int = 12) -> list[dict[str, str]]:
    """Makes rows, two for each image, with answers in turn."""
    return [
        {
            "image": f"photos/{number // 2}.jpg",
            "question": f"is thing {number} red?",
            "answer": ANSWERS[number % len(ANSWERS)],
        }
        for number in range(count)
    ]


def write_csv(path: Path, listed: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, listed[0])
        writer.writeheader()
        writer.writerows(listed)
    return path


def write_own(root: Path, listed: list[dict] | None = None) -> Path:
    """Writes a CSV file, with its pictures beside it."""
    listed = rows() if listed is None else listed
    images = (row[name] for row in listed for name in ("image", "image2") if name in row)
    datasets.write_images(root, dict.fromkeys(image.removesuffix(".jpg") for image in images))
    return write_csv(root / "my.csv", listed)
