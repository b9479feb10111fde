"""Times `RegionDetector.detect` against the same network in PyTorch's primitives, side by side in one run.

    python tools/bench/detector.py [--repeat 3] [--size 640 480] [--threads 2]

Both sides get the weights of the golden data (upstream's sizes: ResNet-101, 300 proposals, 1600 objects, 400
attributes) and the same photograph at 800/1333, and take turns, so that what else runs on the machine hits both. The
torch side is written as upstream's code runs: NCHW, convolution, batch norm and ReLU apart (or, as "folded", with the
batch norm folded into the convolutions, which upstream does not do). Prints seconds, their ratio, and the memory that
tfvl's process needed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.detector import GOLDEN, save_golden

REGIONS = 300


def state_dict(detector) -> dict[str, torch.Tensor]:
    """Returns the detector's weights under upstream's names."""
    from tfvl.porting.save import _pending

    return {name: torch.from_numpy(np.ascontiguousarray(read())) for name, (_, _, read) in _pending(detector).items()}


class TorchDetector:
    """A ResNet-101-C4 Faster R-CNN with attributes, made of torch's functions; it takes one image at a time."""

    def __init__(self, weights: dict[str, torch.Tensor], config, fold: bool):
        self.weights, self.config, self.fold = weights, config, fold
        self.folded = {}
        for name in [name for name in weights if fold and f"{name.removesuffix('weight')}norm.weight" in weights]:
            norm = name.removesuffix("weight") + "norm."
            gamma, beta, mean, variance = (
                weights[norm + part] for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = gamma / torch.sqrt(variance + config.norm_eps)
            self.folded[name.removesuffix(".weight")] = (
                weights[name] * factor[:, None, None, None], beta - mean * factor
            )  # fmt: skip

    def conv(self, x, name, stride=1, padding=0, dilation=1):
        if self.fold:
            kernel, bias = self.folded[name]
            return F.conv2d(x, kernel, bias, stride, padding, dilation)
        x = F.conv2d(x, self.weights[f"{name}.weight"], None, stride, padding, dilation)
        norm = [self.weights[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm, eps=self.config.norm_eps)

    def stage(self, x, name, blocks, stride, dilation=1):
        for block in range(blocks):
            start = f"{name}.{block}"
            inner = F.relu_(self.conv(x, f"{start}.conv1", stride))
            inner = F.relu_(self.conv(inner, f"{start}.conv2", 1, dilation, dilation))
            inner = self.conv(inner, f"{start}.conv3")
            inner += x if block else self.conv(x, f"{start}.shortcut", stride)
            x, stride = F.relu_(inner), 1
        return x

    def linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    @torch.no_grad()
    def __call__(self, levels: np.ndarray) -> dict[str, torch.Tensor]:
        config = self.config
        image = torch.from_numpy(np.ascontiguousarray(levels[:, :, ::-1])).float().permute(2, 0, 1)[None]
        scale = min(config.min_size / min(levels.shape[:2]), config.max_size / max(levels.shape[:2]))
        height, width = (int(side * scale + 0.5) for side in levels.shape[:2])
        image = F.interpolate(image, (height, width), mode="bilinear", align_corners=False)
        image = image - torch.tensor(config.pixel_mean)[None, :, None, None]
        x = F.relu_(self.conv(image, "backbone.stem.conv1", 2, 3))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for number, stride in ((2, 1), (3, 2), (4, 2)):
            x = self.stage(x, f"backbone.res{number}", config.blocks[number - 2], stride)
        proposals = self.proposals(x, height, width)
        pooled = self.stage(self.roi_pool(x, proposals), "roi_heads.res5", config.blocks[3], 1, 2).mean(dim=(2, 3))
        return self.detections(pooled, proposals, height, width)

    def proposals(self, x, height, width):
        config, head = self.config, "proposal_generator.rpn_head"

        def conv(x, name, padding=0):
            return F.conv2d(x, self.weights[f"{head}.{name}.weight"], self.weights[f"{head}.{name}.bias"], 1, padding)

        hidden = F.relu_(conv(x, "conv", 1))
        scores = conv(hidden, "objectness_logits").permute(0, 2, 3, 1).reshape(-1)
        deltas = conv(hidden, "anchor_deltas")[0].permute(1, 2, 0).reshape(-1, 4)
        y, x = torch.meshgrid(*(torch.arange(0.0, 16 * side, 16) for side in hidden.shape[2:]), indexing="ij")
        cells = self.weights["proposal_generator.anchor_generator.cell_anchors.0"]
        anchors = (torch.stack((x, y, x, y), 2).reshape(-1, 1, 4) + cells).reshape(-1, 4)
        boxes = clipped(moved(anchors, deltas, config.rpn_bbox_weights), height, width)
        scores, order = scores.sort(descending=True)
        boxes, scores = boxes[order[: config.rpn_pre_nms]], scores[: config.rpn_pre_nms]
        large = ((boxes[:, 2:] - boxes[:, :2]) > config.rpn_min_size).all(1)
        boxes = boxes[large]
        return boxes[suppressed(boxes, config.rpn_nms_threshold)[: config.rpn_post_nms]]

    def roi_pool(self, x, boxes):
        x = F.pad(x, (0, 1, 0, 1))  # a box may pass the edge by rounding; a ReLU's output is not below zero
        rounded = torch.floor(boxes / 16 + 0.5).int().tolist()
        pooled = [
            F.adaptive_max_pool2d(x[0, :, top : bottom + 1, left : right + 1], self.config.roi_size)
            for left, top, right, bottom in rounded
        ]
        return torch.stack(pooled)

    def detections(self, pooled, proposals, height, width):
        config, head = self.config, "roi_heads.box_predictor"
        logits = self.linear(pooled, f"{head}.cls_score")
        deltas = self.linear(pooled, f"{head}.bbox_pred").view(len(pooled), -1, 4)
        embedded = F.embedding(logits.argmax(1), self.weights[f"{head}.cls_embedding.weight"])
        hidden = F.relu_(self.linear(torch.cat([pooled, embedded], 1), f"{head}.fc_attr"))
        attr_probs, attr_ids = self.linear(hidden, f"{head}.attr_score")[:, :-1].softmax(1).max(1)
        scores, ids = logits.softmax(1)[:, :-1].max(1)
        boxes = moved(proposals, deltas[torch.arange(len(ids)), ids], config.roi_bbox_weights)
        boxes = clipped(boxes, height, width)
        order = scores.argsort(descending=True)
        for threshold in config.nms_thresholds:
            kept = order[suppressed(boxes[order], threshold)][: config.max_detections]
            if len(kept) >= config.min_detections:
                break
        found = {"boxes": boxes, "obj_ids": ids, "obj_probs": scores, "attr_ids": attr_ids, "attr_probs": attr_probs}
        return {name: values[kept] for name, values in (found | {"roi_features": pooled}).items()}


def moved(boxes, deltas, weights):
    sizes = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + 0.5 * sizes
    deltas = deltas / torch.tensor(weights)
    centers = deltas[:, :2] * sizes + centers
    sizes = torch.exp(deltas[:, 2:].clamp(max=float(np.log(1000 / 16)))) * sizes
    return torch.cat([centers - 0.5 * sizes, centers + 0.5 * sizes], 1)


def clipped(boxes, height, width):
    return torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]).float())


def suppressed(boxes: torch.Tensor, threshold: float) -> torch.Tensor:
    """Suppresses overlapping boxes (N, 4), which are sorted, best first; returns the positions of those kept."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive, kept = torch.ones(len(boxes), dtype=torch.bool), []
    while alive.any() and len(kept) < REGIONS:
        first = int(alive.int().argmax())
        kept.append(first)
        shared = torch.minimum(boxes[first, 2:], boxes[:, 2:]) - torch.maximum(boxes[first, :2], boxes[:, :2])
        shared = shared.clamp(min=0).prod(1)
        alive &= ~(shared / (areas[first] + areas - shared) > threshold)
        alive[first] = False
    return torch.tensor(kept, dtype=torch.long)


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


# Runs in a separate process, without torch; prints the most memory that it held, in MiB, before and after detecting.
MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
from tfvl.detector.model import RegionDetector
held = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
detector = RegionDetector.from_pretrained(sys.argv[1])
before = held()
detector.detect([np.load(sys.argv[1] + "/levels.npy")])
print(before, held())
"""


def memory(directory: Path, threads: int) -> tuple[str, str]:
    """Returns the MiB that a process held at most before its first image, and over its whole life."""
    command = [sys.executable, "-c", MEMORY, str(directory), str(threads)]
    before, after = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
    return before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as directory:
        compare(save_golden(Path(directory) / "detector"), tuple(arguments.size), arguments.threads, arguments.repeat)


def compare(directory: Path, size: tuple[int, int], threads: int, repeat: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    from tfvl.detector.model import RegionDetector

    (directory / "config.yaml").write_text("{}")
    detector = RegionDetector.from_pretrained(directory)
    weights = state_dict(detector)
    with Image.open(GOLDEN / "frcnn_astronaut.png") as photograph:
        levels = np.asarray(photograph.convert("RGB").resize(size))
    np.save(directory / "levels.npy", levels)
    sides = {
        "tfvl": detector.detect,
        "torch": TorchDetector(weights, detector.config, fold=False),
        "torch, folded": TorchDetector(weights, detector.config, fold=True),
    }
    for side in sides.values():
        side(levels)  # tracing, allocating
    times = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            times[name].append(seconds(side, levels))
    for name, values in times.items():
        print(f"{name:14} {statistics.median(values):6.2f} s (best {min(values):.2f})", flush=True)
    best = {name: min(values) for name, values in times.items()}
    print(f"torch / tfvl: {best['torch'] / best['tfvl']:.2f}; folded: {best['torch, folded'] / best['tfvl']:.2f}")
    before, after = memory(directory, threads)
    print(f"memory: {after} MiB at most, {before} MiB of it before the first image")


if __name__ == "__main__":
    main()
