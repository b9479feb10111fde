"""Keeps track of a run's best models (`best/`, and `best-STEP/` if several are kept), and tells when to stop early."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Best:
    """The results of the validations so far.

    Attributes:
        best: the `step`, the `name` of the metric and the `value` of the best validation; None before the first.
        kept: [step, value] of the best `keep` validations, the best first, if several models are kept. Values that are
            better when lower have their sign changed.
        since: the number of validations since the best one.
    """

    best: dict[str, Any] | None = None
    kept: list[list] = field(default_factory=list)
    since: int = 0

    def add(self, step: int, name: str, value: float, sign: int, keep: int) -> tuple[list[str], list[str]]:
        """Adds a validation; returns the names of the models to write, and of those to remove.

        Args:
            step: the step after which the model was validated.
            name, value: the metric.
            sign: 1 if a higher value is better, else -1.
            keep: the number of models that are kept.
        """
        self.since += 1
        write, remove = [], []
        if self.best is None or sign * value > sign * self.best["value"]:
            self.best, self.since = {"step": step, "name": name, "value": value}, 0
            write.append("best")
        if keep > 1:
            ranked = sorted([*self.kept, [step, sign * value]], key=lambda pair: (-pair[1], pair[0]))
            self.kept = ranked[:keep]
            write += [f"best-{step}" for kept, _ in self.kept if kept == step]
            remove += [f"best-{gone}" for gone, _ in ranked[keep:] if gone != step]
        return write, remove

    def stops(self, early_stopping: int | None) -> bool:
        """Returns whether the last `early_stopping` validations have not been better than an earlier one."""
        return early_stopping is not None and self.since >= early_stopping

    def sentence(self, step: int) -> str:
        """Returns the sentence that tells the user that the run stops early after a step."""
        best = self.best or {"step": 0, "name": "metric", "value": float("nan")}
        return (
            f"stopped early after step {step}: {self.since} validations without a better {best['name']} than the "
            f"{best['value']:.4f} of step {best['step']}"
        )
