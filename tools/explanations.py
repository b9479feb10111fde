"""Measures how good explanations are, by the pointing game and the perturbation test, on drawn scenes.

    python tools/explanations.py --out figures --questions 2000
    python tools/explanations.py --models shapes-vilt --methods relevance rollout --perturbed 500

Pointing game: a question about a colour or a shape is about one object. A hit is a strongest patch that the object lies
in, or a strongest region whose centre is within its box. Chance is the mean share of such parts.

Perturbation test (Chefer, Gur & Wolf, ICCV 2021, section 5): words, or parts of the image, are hidden in steps of 10 %,
those with the highest score first or those with the lowest. The figure is the area under the curve of the accuracy,
beside that of random scores. If the highest are hidden first, less is better: the gain is random - area; if the lowest
are hidden first, more is better: the gain is area - random.

Writes `explanations.json`, prints the table, and with matplotlib (extra `plots`) draws `explanations.png`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

import tfvl
from tfvl import shapes
from tfvl.cli.console import run_script
from tfvl.explanations.explainer import Explainer
from tfvl.explanations.scores import OF_MAPS, scores_of_maps
from tfvl.files.json_file import write_json

MODELS = ("shapes-vilt", "shapes-lxmert", "shapes-visual-bert")
METHODS = (*OF_MAPS, "occlusion", "alignment", "random")
SHARES = np.linspace(0, 1, 11)
BATCH = 50
KINDS = ("color", "shape")


def questions(count: int, kinds=shapes.KINDS):
    """Yields the first `count` questions of the kinds on held-out scenes, each with its scene."""
    seed = 0
    while count > 0:
        scene = shapes.draw_scene(seed)
        for question in scene.questions(dict.fromkeys(kinds, 1))[:count]:
            yield scene, question
            count -= 1
        seed += 1


def asked_about(scene: shapes.Scene, question: shapes.Question) -> shapes.Thing:
    """Returns the object that is described in a question about a colour or a shape."""
    words = question.text.rstrip("?").split()
    names = dict(scene.names)
    described = [name for name in names if name.endswith("object") and name.split()[0] in words]
    return names[words[-1]] if question.kind == "color" else names[described[0]]


REGIONS: dict[int, tfvl.Regions] = {}  # by the scene's seed


def regions_of(detector, seed: int) -> tfvl.Regions:
    """Returns what the detector finds in a scene; it detects once for all models and questions."""
    if seed not in REGIONS:
        (REGIONS[seed],) = detector.regions([shapes.draw_scene(seed).image()])
    return REGIONS[seed]


class Model:
    """A bundled model, which prepares inputs and scores their parts by each method."""

    def __init__(self, name: str):
        detector = None if name == "shapes-vilt" else "shapes-detector"
        self.name, (self.model, self.processor) = name, tfvl.auto.load(name, detector=detector)
        self.explainer = Explainer(self.model, self.processor, "relevance")
        options = {"autograph": False, "reduce_retracing": True}
        self.logits = tf.function(lambda inputs: self.explainer.choose(inputs, -1, -1)[1], **options)
        self.graphs = {}

    def prepared(self, pairs):
        """Returns the inputs of pairs (scene, question), and the regions of each scene, None if it sees pixels."""
        texts = [question.text for _, question in pairs]
        if self.processor.sees == "images":
            return self.processor(images=[scene.image() for scene, _ in pairs], text=texts), None
        regions = [regions_of(self.processor.detector, scene.seed) for scene, _ in pairs]
        return self.processor(text=texts, regions=regions), regions

    def scores(self, inputs, method: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores of words, (N, L), and of parts of the image, (N, parts)."""
        if method == "random":
            return rng.uniform(size=inputs["input_ids"].shape), rng.uniform(size=self.parts(inputs).shape)
        if method in OF_MAPS:
            if method not in self.graphs:
                run = lambda given, method=method: scores_of_maps(  # noqa: E731
                    self.model, self.explainer.head, given, self.explainer.words, method
                )[1]
                self.graphs[method] = tf.function(run, autograph=False, reduce_retracing=True)
            found = self.graphs[method](inputs)
        else:
            found = self.one_by_one(inputs, method)
        parts = found["patch_scores" if "patch_scores" in found else "region_scores"]
        return np.asarray(found["token_scores"]), np.asarray(parts).reshape(len(parts), -1)

    def one_by_one(self, inputs, method: str) -> dict[str, np.ndarray]:
        rows = []
        for row in range(len(inputs["input_ids"])):
            one = {name: value[row : row + 1] for name, value in inputs.items()}
            length = int(tf.reduce_sum(one["attention_mask"]))
            one |= {name: one[name][:, :length] for name in ("input_ids", "attention_mask", "token_type_ids")}
            scores = getattr(self.explainer, method)(one, -1, -1, None)[1]
            padding = inputs["input_ids"].shape[1] - length
            rows.append({n: np.asarray(v)[0] for n, v in scores.items()})
            rows[-1]["token_scores"] = np.pad(rows[-1]["token_scores"], (0, padding))
        return {name: np.stack([row[name] for row in rows]) for name in rows[0] if name.endswith("_scores")}

    def parts(self, inputs) -> np.ndarray:
        """Returns which parts of the image are not padding, bool (N, parts)."""
        if "visual_attention_mask" in inputs:
            return inputs["visual_attention_mask"].numpy() > 0
        rows, columns = (size // patch for size, patch in zip(inputs["pixel_mask"].shape[1:], self.patch, strict=True))
        return np.ones((len(inputs["pixel_mask"]), rows * columns), bool)

    @property
    def patch(self) -> tuple[int, int]:
        return self.model.config.patch_shape

    def answers(self, inputs) -> np.ndarray:
        outputs = self.logits(inputs)
        return np.argmax(outputs[self.explainer.head.logits], axis=-1)

    def right(self, pairs) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(self.explainer.words.labels)}
        return np.array([numbers[question.answer] for _, question in pairs])

    def hidden_words(self, inputs, hidden: np.ndarray) -> dict:
        tokenizer = self.processor.tokenizer
        return inputs | {"input_ids": tf.where(hidden, tokenizer.mask_token_id, inputs["input_ids"])}

    def hidden_parts(self, inputs, hidden: np.ndarray) -> dict:
        if "visual_attention_mask" in inputs:
            return inputs | {"visual_attention_mask": tf.where(hidden, 0, inputs["visual_attention_mask"])}
        height, width = self.patch
        rows, columns = (size // patch for size, patch in zip(inputs["pixel_mask"].shape[1:], self.patch, strict=True))
        grid = hidden.reshape(-1, rows, columns).repeat(height, axis=1).repeat(width, axis=2)
        return inputs | {"pixel_values": tf.where(grid[..., None], 0.0, inputs["pixel_values"])}


def pointing_game(model: Model, pairs, methods, rng) -> tuple[dict[str, float], float]:
    """Plays the pointing game; returns the share of hits by method, and the chance of one."""
    hits, chances = {method: [] for method in methods}, []
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        inputs, regions = model.prepared(batch)
        targets = [on_target(model, inputs, regions, row, asked_about(*pair)) for row, pair in enumerate(batch)]
        real = model.parts(inputs)
        chances += [target[real[row]].mean() for row, target in enumerate(targets)]
        for method in methods:
            _, parts = model.scores(inputs, method, rng)
            best = np.where(real, parts, -np.inf).argmax(axis=1)
            hits[method] += [target[place] for target, place in zip(targets, best, strict=True)]
    return {method: float(np.mean(each)) for method, each in hits.items()}, float(np.mean(chances))


def on_target(model: Model, inputs, regions, row: int, thing: shapes.Thing) -> np.ndarray:
    """Returns which parts show the object, bool (parts,): patches in which it lies, or regions centred on it."""
    box = np.array(thing.box) / shapes.SIDE
    if regions is not None:
        found = regions[row].boxes
        target = np.zeros(model.parts(inputs).shape[1], bool)
        middle = (found[:, :2] + found[:, 2:]) / 2
        target[: len(found)] = ((middle > box[:2]) & (middle < box[2:])).all(axis=1)
        return target
    rows, columns = (size // patch for size, patch in zip(inputs["pixel_mask"].shape[1:], model.patch, strict=True))
    y, x = np.arange(rows)[:, None] / rows, np.arange(columns)[None] / columns
    across = (x + 1 / columns > box[0]) & (x < box[2])
    return (across & (y + 1 / rows > box[1]) & (y < box[3])).ravel()


def perturbation(model: Model, pairs, methods, rng) -> dict[str, dict[str, float]]:
    """Returns, by method, the areas of four curves: of words and image parts, highest or lowest scores first."""
    found = {method: {} for method in methods}
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        inputs, _ = model.prepared(batch)
        right = model.right(batch)
        special = np.isin(inputs["input_ids"].numpy(), model.processor.tokenizer.all_special_ids)
        for method in methods:
            for what, scores, real, hide in zip(
                ("words", "image"),
                model.scores(inputs, method, rng),
                (~special, model.parts(inputs)),
                (model.hidden_words, model.hidden_parts),
                strict=True,
            ):
                for order, sign in (("highest", -1), ("lowest", 1)):
                    ranks = np.where(real, sign * scores, np.inf).argsort(axis=1, kind="stable").argsort(axis=1)
                    counts = real.sum(axis=1, keepdims=True)
                    curve = [model.answers(hide(inputs, ranks < np.round(share * counts))) == right for share in SHARES]
                    area = np.trapezoid(np.array(curve, float), SHARES, axis=0)  # (rows,)
                    found[method].setdefault(f"{what}, {order} first", []).extend(area)
    return {method: {name: float(np.mean(areas)) for name, areas in each.items()} for method, each in found.items()}


def measured(name: str, methods, count: int, perturbed: int, slow: int) -> dict:
    model, rng = Model(name), np.random.default_rng(0)
    possible = [method for method in methods if method != "alignment" or name == "shapes-vilt"]
    quick = [method for method in possible if method not in ("occlusion", "alignment")]
    rest = [method for method in possible if method not in quick]
    pointed, chance = pointing_game(model, list(questions(count, KINDS)), quick, rng)
    areas = perturbation(model, list(questions(perturbed)), quick, rng)
    if rest:
        pointed |= pointing_game(model, list(questions(slow, KINDS)), rest, rng)[0]
        areas |= perturbation(model, list(questions(slow)), rest, rng)
    gains = {
        method: {
            curve: (areas["random"][curve] - area) if "highest" in curve else (area - areas["random"][curve])
            for curve, area in each.items()
        }
        for method, each in areas.items()
        if "random" in areas
    }
    return {"pointing": pointed, "chance": chance, "areas": areas, "gains": gains}


def table(results: dict[str, dict]) -> str:
    lines = ["| model | method | pointing game | words, highest | words, lowest | image, highest | image, lowest |"]
    lines.append("|" + "---|" * 7)
    for name, each in results.items():
        for method, share in each["pointing"].items():
            gains = each["gains"].get(method, {})
            cells = [f"{gains[curve]:+.2f}" for curve in gains]
            lines.append(f"| {name} | {method} | {share:.1%} | {' | '.join(cells)} |")
        lines.append(f"| {name} | chance | {each['chance']:.1%} | | | | |")
    return "\n".join(lines)


def draw(results: dict[str, dict], file: Path) -> None:
    from tfvl.explanations.drawing import new_figure, saved

    made = new_figure(9, 5)
    axes = made.subplots(2, 1, sharex=False)
    colors = ("#440154", "#31688e", "#35b779")
    methods = list(dict.fromkeys(method for each in results.values() for method in each["pointing"]))
    for number, (name, each) in enumerate(results.items()):
        own = [method for method in methods if method in each["pointing"]]
        places = np.array([methods.index(method) for method in own]) + 0.25 * (number - 1)
        axes[0].bar(places, [each["pointing"][method] for method in own], 0.24, color=colors[number])
        gains = [np.mean(list(each["gains"].get(method, {"": 0}).values())) for method in own]
        axes[1].bar(places, gains, 0.24, color=colors[number], label=name)
    axes[0].set_ylabel("pointing game")
    axes[1].set_ylabel("area gained over random")
    axes[1].legend(loc="lower left", fontsize=8, ncols=len(results))
    for axis in axes:
        axis.set_xlim(-0.5, len(methods) - 0.5)
        axis.set_xticks(np.arange(len(methods)), methods)
        axis.grid(axis="y", alpha=0.3)
    made.tight_layout()
    saved(made, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--questions", type=int, default=2000, help="of the pointing game")
    parser.add_argument("--perturbed", type=int, default=2000, help="of the perturbation test")
    parser.add_argument("--slow", type=int, default=200, help="of both, for occlusion and alignment")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in args.models:
        results[name] = measured(name, args.methods, args.questions, args.perturbed, args.slow)
        write_json(args.out / "explanations.json", results)
        print(json.dumps({name: results[name]["pointing"]}), flush=True)
    print(table(results))
    draw(results, args.out / "explanations.png")


if __name__ == "__main__":
    run_script(main)
