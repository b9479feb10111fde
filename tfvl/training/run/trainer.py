"""A training run on top of `model.fit`, which can be stopped at any moment and continued with the same result."""

import contextlib
import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfvl.files.whole import written_whole
from tfvl.modeling.schedules import WarmupDecay
from tfvl.porting.upload import make_repository, push
from tfvl.training.distributed import Workers
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.run import checkpoint
from tfvl.training.run.best import Best
from tfvl.training.run.guards import disk_full_in_a_sentence, locked, signals_remembered
from tfvl.training.run.history import History, Row, draw_curves
from tfvl.training.run.inputs import check_inputs, digests_of
from tfvl.training.run.model_card import model_card
from tfvl.training.run.opening import Opened, check_data, open_run, source_of, task_of
from tfvl.training.run.settings import RunConfig, check_same
from tfvl.training.run.trackers import Track, check_trackers, tracking

SETTINGS, CHECKPOINTS, CURVES = "run.yaml", "checkpoints", "curves.png"
SHOWN_IDS = 64


class NonFiniteError(ValueError):
    """A loss or gradient was not finite. The message names the batch's examples."""


@dataclasses.dataclass
class Listener:
    """Functions that are called while a run goes on; by default they do nothing.

    Attributes:
        say: is called with a sentence.
        step: is called with the number of steps that are done, and of all.
        row: is called with a row of the history, and the number of all steps.
        validation: is called with the number of steps of a validation that are done, and of all.
    """

    say: Callable[[str], None] = lambda sentence: None
    step: Callable[[int, int], None] = lambda done, total: None
    row: Callable[[Row, int], None] = lambda row, total: None
    validation: Callable[[int, int], None] = lambda done, total: None


def train(
    run: RunConfig, out: Path, *, workers: Workers | None = None, command: str = "", listener: Listener | None = None
) -> dict[str, Any]:
    """Trains a model, or continues an interrupted run with the same settings in the same directory.

    Args:
        run: the settings.
        out: directory for `run.yaml`, `checkpoints/`, `logs/` (TensorBoard), `history.csv`, `curves.png`, and the
            models `best/` (by the validation's metric) and `last/`.
        workers: the place of this process among those that train the model.
        command: the command line, for the model card.
        listener: the functions that are called while training goes on.

    Returns: the state of the last checkpoint: `step`, `best` (`step` and `value`), `rows`, `metrics`, …

    Raises:
        ValueError: settings or data cannot be used, `out` holds another run or one that is going on, the model or the
            data have changed since the run in `out` began, the disk is full, or (`NonFiniteError`) the loss is not
            finite.
        KeyboardInterrupt: the process was asked to stop; a checkpoint was written.
        WorkerLost: another of the workers is gone.
    """
    workers, listener = workers or Workers(), listener or Listener()
    check_data(run)
    check_trackers(run)
    if find_spec("matplotlib") is None:
        listener.say(f"{CURVES} will not be drawn: matplotlib is not installed (pip install matplotlib)")
    if run.push_to_hub and workers.is_chief:  # so that a wrong name or token is an error before the work
        make_repository(run.push_to_hub)
    source = source_of(run)
    run = run.completed(source.model_class, task_of(run))
    with workers.together(), locked(out) if workers.is_chief else contextlib.nullcontext():
        if (out / SETTINGS).exists():
            check_same(out / SETTINGS, run)
        elif workers.is_chief and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(f"{out} holds files that are no run's; choose another --out.")
        saved = checkpoint.last(out / CHECKPOINTS)
        workers.agree(saved.state["step"] if saved else 0, f"checkpoints in {out}")
        with workers.scope():
            opened = open_run(run, workers.shard, source)
            inputs = digests_of(source.path, opened)
            if saved:
                check_inputs(out, saved.state.get("inputs", {}), inputs)
                if saved.state["finished"]:
                    listener.say(f"{out} holds this run already, finished after {saved.state['step']} steps.")
                    return saved.state
            trainer = Trainer(run, out, opened, workers, command, listener)
            trainer.inputs = inputs
        if workers.is_chief:
            run.write(out / SETTINGS)
        with disk_full_in_a_sentence(trainer):
            trainer.restore(saved)
            return trainer.run_to_the_end()


class Trainer:
    """One run in one process; its arguments are those of `train`."""

    def __init__(self, run: RunConfig, out: Path, opened: Opened, workers: Workers, command: str, listener: Listener):
        self.run, self.out, self.workers, self.command, self.listener = run, out, workers, command, listener
        self.model, self.processor, self.training, self.validation = opened
        every = run.epochs * self.training.steps
        self.total = min(run.steps or every, every)
        self.step, self.found, self.seconds = 0, Best(), 0.0
        self.metrics: dict[str, float] = {}
        self.saved_step: int | None = None
        self.history: History | None = None
        self.inputs: dict[str, str] = {}
        self.to_restore: tuple[dict, dict] | None = None
        self.track: Track = lambda row: None
        self.compile()

    def compile(self) -> None:
        run = self.run
        self.optimizer = self.model.default_optimizer(
            learning_rate=schedule(run, self.total),
            weight_decay=run.weight_decay,
            beta_2=run.beta_2,
            epsilon=run.epsilon,
            rate_multipliers=run.rate_multipliers,
            global_clipnorm=run.clip_norm or None,
            gradient_accumulation_steps=run.gradient_accumulation if run.gradient_accumulation > 1 else None,
            skip_nonfinite=run.precision != "mixed_float16",  # there, loss scaling skips them
        )
        self.model.compile(self.optimizer, jit_compile=run.jit_compile)

    # --- the steps ---

    def run_to_the_end(self) -> dict[str, Any]:
        run = self.run
        per_epoch, started = self.training.steps, time.monotonic() - self.seconds
        for pipeline in (self.training, self.validation):
            if pipeline and pipeline.loader.report.counts:
                self.listener.say(f"{pipeline.loader.report}; {' '.join(pipeline.loader.report.sentences)}")
        if self.step:
            self.listener.say(f"going on after step {self.step} of {self.total}")
        if self.workers.is_chief:
            followed: Any = tracking(run, self.out, self.model)
        else:
            followed = contextlib.nullcontext(self.track)
        with signals_remembered() as asked, followed as self.track:
            while self.step < self.total and not self.found.stops(run.early_stopping):
                epoch, first = divmod(self.step, per_epoch)
                dataset = self.training.dataset(epoch, first).take(self.total - self.step)
                try:
                    self.model.fit(
                        self.workers.dataset(dataset),
                        initial_epoch=epoch,
                        epochs=epoch + 1,
                        steps_per_epoch=min(per_epoch - first, self.total - self.step),
                        shuffle=False,  # the pipeline has shuffled
                        verbose=0,
                        callbacks=[AfterStep(self, asked, started)],
                    )
                except tf.errors.OpError:
                    failures = [pipeline.failure for pipeline in (self.training, self.validation) if pipeline]
                    for failure in filter(None, failures):
                        raise failure from None
                    raise
        if self.workers.is_chief:
            self.save_model("last")
            self.curves()
            self.save(finished=True)
            self.history.close()
            self.push()
        self.workers.agree(self.step, "numbers of steps")  # waits until the chief has written everything
        return self.state(finished=True)

    def after_step(self, logs: dict, seconds: float) -> None:
        """Does what is due between two steps: logging, validation, checkpoints, stopping."""
        self.step, self.seconds = self.step + 1, seconds
        run, loss = self.run, float(logs["loss"])
        self.check_finite(loss)
        self.listener.step(self.step, self.total)
        ends = self.step % self.training.steps == 0 or self.step == self.total
        validates = ends if run.validation_steps is None else self.step % run.validation_steps == 0
        validates = self.validation is not None and (validates or self.step == self.total)
        if ends or validates or self.step % run.log_steps == 0:
            row = {
                "step": self.step,
                "epoch": round(self.step / self.training.steps, 4),
                "seconds": round(seconds, 1),
                "learning_rate": float(self.model.optimizer.learning_rate),
                **{name: float(value) for name, value in logs.items()},
            }
            self.model.reset_metrics()
            if validates:
                row |= self.validate()
            if self.history:
                self.history.add(row)
            self.track(row)
            self.listener.row(row, self.total)
        if self.found.stops(run.early_stopping):
            self.model.stop_training = True
            self.listener.say(self.found.sentence(self.step))
        elif self.step < self.total and self.is_checkpoint_due():
            self.save()

    def check_finite(self, loss: float) -> None:
        """Raises NonFiniteError if the step's loss or a gradient is not finite; the optimizer has skipped it."""
        updates = int(self.optimizer._iterations.numpy())
        skipped = getattr(self.optimizer, "skip_nonfinite", False) and updates != self.step
        if math.isfinite(loss) and not skipped:
            return
        self.step -= 1
        ids = self.training.ids(*divmod(self.step, self.training.steps))
        listed = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else "")
        if self.workers.is_chief:
            self.save_model("last")
        what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not finite"
        raise NonFiniteError(
            f"{what} at step {self.step + 1}, whose batch has the examples {listed}; the weights from before it are in "
            f"{self.out / 'last'}; look at these examples, or lower learning_rate."
        )

    def validate(self) -> Row:
        """Evaluates the model, saves it if it is among the best, and returns the columns for the history."""
        task = task_of(self.run)
        if task.metric:
            self.metrics = evaluate(self.model, self.validation, task, self.listener.validation).metrics
            name, sign = next(iter(self.metrics), None), 1
        else:
            self.metrics = self.model.evaluate(self.validation.dataset(), return_dict=True, verbose=0)
            self.model.reset_metrics()
            name, sign = "loss", -1
        if name in self.metrics:
            write, remove = self.found.add(self.step, name, float(self.metrics[name]), sign, self.run.keep_best)
            if self.workers.is_chief:
                for each in write:
                    self.save_model(each)
                for each in remove:
                    shutil.rmtree(self.out / each, ignore_errors=True)
        return {f"val_{key}": float(value) for key, value in self.metrics.items()}

    # --- what is written ---

    def groups(self) -> dict[str, list]:
        """Returns all variables that a step reads or changes: weights, dropout's seeds, the optimizer's, metrics."""
        metrics = [variable for metric in self.model.metrics for variable in metric.variables]
        known = {id(variable) for variable in metrics}
        model = [variable for variable in self.model.variables if id(variable) not in known]
        return {"model": model, "optimizer": self.model.optimizer.variables, "metrics": metrics}

    def state(self, finished: bool) -> dict[str, Any]:
        return {
            "step": self.step,
            "finished": finished,
            **dataclasses.asdict(self.found),
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "seconds": self.seconds,
            "rows": self.history.rows if self.history else [],
            "inputs": self.inputs,
        }

    def is_checkpoint_due(self) -> bool:
        run = self.run
        by_steps = run.checkpoint_steps is not None and self.step % run.checkpoint_steps == 0
        return by_steps or time.monotonic() - self.saved_at >= 60 * run.checkpoint_minutes

    def save(self, finished: bool = False) -> None:
        if self.workers.is_chief:
            arrays = checkpoint.arrays_of(self.groups())
            checkpoint.save(self.out / CHECKPOINTS, self.step, arrays, self.state(finished))
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def restore(self, saved: checkpoint.SavedState | None) -> None:
        """Restores a checkpoint, or the state before the first step if `saved` is None."""
        self.saved_at = time.monotonic()
        if saved:
            state = saved.state
            self.step, self.metrics, self.seconds = (state[name] for name in ("step", "metrics", "seconds"))
            self.found = Best(state["best"], state.get("kept", []), state.get("since", 0))
            self.saved_step = self.step
            groups = self.groups()
            checkpoint.assign(groups, saved.arrays)
            self.to_restore = (
                {"metrics": groups["metrics"]},
                {name: value for name, value in saved.arrays.items() if name.startswith("metrics/")},
            )
        if self.workers.is_chief:
            self.history = History(self.out, saved.state["rows"] if saved else ())

    def restore_metrics(self) -> None:
        """Restores the running means of loss and metrics, which `fit` resets when it starts."""
        if self.to_restore:
            checkpoint.assign(*self.to_restore)
            self.to_restore = None

    def save_model(self, name: str) -> None:
        pipelines = {"training": self.training, "validation": self.validation}
        data = [
            (f"{split} examples", f"{len(pipeline.loader.examples):,} ({pipeline.loader.report})")
            for split, pipeline in pipelines.items()
            if pipeline
        ]
        with written_whole(self.out / name) as directory:
            self.model.save_pretrained(directory)
            self.processor.save_pretrained(directory)
            card = model_card(self.run, self.model, data, self.metrics, self.step, self.command)
            (directory / "README.md").write_text(card, encoding="utf-8")

    def push(self) -> None:
        """Uploads the best model, or without a validation the last one, if `push_to_hub` is set."""
        if self.run.push_to_hub:
            found = self.out / ("best" if self.found.best else "last")
            address = push(lambda place: shutil.copytree(found, place, dirs_exist_ok=True), self.run.push_to_hub)
            self.listener.say(f"{found} is on the hub: {address}")

    def curves(self) -> None:
        draw_curves(self.history, f"val_{self.found.best['name']}" if self.found.best else "", self.out / CURVES)


class AfterStep(keras.callbacks.Callback):
    """A callback that calls the trainer after each batch."""

    def __init__(self, trainer: Trainer, asked: list, started: float):
        super().__init__()
        self.trainer, self.asked, self.started = trainer, asked, started

    def on_epoch_begin(self, epoch, logs=None):
        self.trainer.restore_metrics()

    def on_train_batch_end(self, batch, logs=None):
        trainer = self.trainer
        trainer.after_step(logs, time.monotonic() - self.started)
        if self.asked:
            trainer.save()
            trainer.listener.say(f"stopped after step {trainer.step} of {trainer.total}; the same command goes on")
            raise KeyboardInterrupt


def schedule(run: RunConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate's schedule over a run's steps."""
    if run.schedule == "cosine":
        rising = int(steps * run.warmup)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if rising else run.learning_rate,
            steps - rising,
            alpha=0.01,
            warmup_target=run.learning_rate if rising else None,
            warmup_steps=rising,
        )
    end = run.learning_rate if run.schedule == "constant" else 0.0
    return WarmupDecay(run.learning_rate, steps, run.warmup, end)
