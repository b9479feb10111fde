"""Runs `tfvl train` as one of several workers: `support/distributed_train.py ROOT OUT [STEP]`.

The second worker is killed after that step, unless `ROOT/killed` says that it was killed before.
"""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfvl.cli import app as cli
from tfvl.training.distributed import place_of
from tfvl.training.run.trainer import Trainer


def main(root: Path, out: Path, last: int) -> int:
    index, _ = place_of(os.environ["TF_CONFIG"])
    after_step = Trainer.after_step

    def after_step_or_death(trainer: Trainer, *arguments) -> None:
        after_step(trainer, *arguments)
        if index == 1 and trainer.step == last and not (root / "killed").exists():
            (root / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.after_step = after_step_or_death
    return cli.main(["train", "--config", str(root / "run.yaml"), "--out", str(out)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else -1))
