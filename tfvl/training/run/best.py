"""Which of a run's models are its best ones: `best/`, `best-STEP/` where several are kept, and when to stop early."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Best:
    """What the validations so far have found.

    Attributes:
        best: the best one's `step`, the `name` of its metric and its `value`; None before the first.
        kept: [step, value] of the best `keep`, the best first, where there are to be several; higher values are better.
        since: validations since the best one.
    """

    best: dict[str, Any] | None = None
    kept: list[list] = field(default_factory=list)
    since: int = 0

    def add(self, step: int, name: str, value: float, sign: int, keep: int) -> tuple[list[str], list[str]]:
        """Takes in a validation; gives the names of the models to write, and of those to remove.

        Args:
            sign: 1 where a higher value is better, else -1.
            keep: how many models stay.
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
        """Whether the last validations, as many as that, brought nothing better."""
        return early_stopping is not None and self.since >= early_stopping

    def sentence(self, step: int) -> str:
        """Says that a run stops early after a step."""
        best = self.best or {"step": 0, "name": "metric", "value": float("nan")}
        return (
            f"stopped early after step {step}: {self.since} validations without a better {best['name']} than the "
            f"{best['value']:.4f} of step {best['step']}"
        )
