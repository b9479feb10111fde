"""The server's metrics, in Prometheus's text format and under TF Serving's names, so that its dashboards work."""

import threading
from bisect import bisect_left
from collections import defaultdict

_BOUNDS = tuple(10 * 1.8**power for power in range(33))  # microseconds, up to about 20 minutes; TF Serving's buckets


class Metrics:
    """Counts requests, and collects the distributions of their times."""

    def __init__(self):
        self._lock = threading.Lock()
        self._requests: dict[tuple, int] = defaultdict(int)
        self._times: dict[tuple, list] = defaultdict(lambda: [0.0, [0] * (len(_BOUNDS) + 1)])

    def request(self, model: str, code: str, entrypoint: str, seconds: float) -> None:
        """Records that a request was answered with `code`; `entrypoint` is REST or GRPC."""
        with self._lock:
            self._requests["request_count", (("model_name", model), ("status", code))] += 1
        labels = (("model_name", model), ("API", "Predict"), ("entrypoint", entrypoint), ("status", code))
        self._add_time(("request_latency", labels), seconds)

    def run(self, model: str, seconds: float) -> None:
        """Records a pass through the model, in a batch that may hold several requests."""
        self._add_time(("runtime_latency", (("model_name", model), ("API", "Predict"), ("runtime", "TF1"))), seconds)

    def render(self) -> str:
        lines, seen = [], set()
        with self._lock:
            for (name, labels), count in sorted(self._requests.items()):
                lines += _type(name, "counter", seen)
                lines.append(f":tensorflow:serving:{name}{{{_labels(labels)}}} {count}")
            for (name, labels), (total, counts) in sorted(self._times.items()):
                lines += _type(name, "histogram", seen)
                at_most = 0
                for bound, count in zip((*(f"{bound:g}" for bound in _BOUNDS), "+Inf"), counts, strict=True):
                    at_most += count
                    lines.append(f':tensorflow:serving:{name}_bucket{{{_labels(labels)},le="{bound}"}} {at_most}')
                lines.append(f":tensorflow:serving:{name}_sum{{{_labels(labels)}}} {total:.17g}")
                lines.append(f":tensorflow:serving:{name}_count{{{_labels(labels)}}} {at_most}")
        return "\n".join([*lines, ""])

    def _add_time(self, key: tuple, seconds: float) -> None:
        microseconds = seconds * 1e6
        with self._lock:
            distribution = self._times[key]
            distribution[0] += microseconds
            distribution[1][bisect_left(_BOUNDS, microseconds)] += 1


def _type(name: str, kind: str, seen: set) -> list[str]:
    if name in seen:
        return []
    seen.add(name)
    return [f"# TYPE :tensorflow:serving:{name} {kind}"]


def _labels(labels: tuple) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
