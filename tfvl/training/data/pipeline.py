"""`tf.data` pipelines for training: which examples make which batch, and batches that any later run can repeat.

Nothing here remembers where it was. The batches of an epoch are a function of the seed and the epoch, and what is drawn
for an example of the seed, the epoch and the example, so that a pipeline started at step k of epoch e gives exactly
what one that never stopped would have given from there on.
"""

import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvl.training.data.images import image_sizes
from tfvl.training.data.loading import Loader, Pictures

WINDOW = 64  # batches that are sorted together: alike within a batch, random from batch to batch
PREFETCHED = 2  # batches that are made ahead
RATIO_STEPS = 4  # image shapes are told apart by their aspect ratio in steps of 2^(1/4)

# Of inputs, the axes beside the first whose size differs between batches.
FREE_AXES = {
    "input_ids": (-1,),
    "token_type_ids": (-1,),
    "attention_mask": (-1,),
    "pixel_values": (-3, -2),
    "pixel_mask": (-2, -1),
    "visual_feats": (1,),
    "visual_pos": (1,),
    "visual_embeds": (1,),
    "visual_attention_mask": (1,),
    "visual_token_type_ids": (1,),
    "region_to_phrase_position": (1,),
}


class BatchPlan:
    """Which examples make which batch of which epoch.

    Args:
        count: of examples.
        batch_size: of all machines together.
        seed: of the order.
        shuffle: another order in each epoch; else that of the examples.
        keys: numbers by which examples are alike, (count,) each, the most important first: batches are then of
            examples that are alike (`bucket_keys`), which saves padding.
        drop_remainder: leave out the last batch where it is not full; False for evaluation.

    Attributes:
        steps: batches per epoch.

    Raises:
        ValueError: a size is not positive, or there is no full batch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        keys: Sequence[np.ndarray] = (),
        drop_remainder: bool = True,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1.")
        if count < batch_size and (drop_remainder or not count):
            raise ValueError(
                f"{count} examples do not fill one batch of {batch_size}; lower batch_size, or keep the remainder."
            )
        self.count, self.batch_size, self.seed, self.shuffle, self.keys = count, batch_size, seed, shuffle, tuple(keys)
        self.steps = count // batch_size if drop_remainder else -(-count // batch_size)
        self._order_of = functools.lru_cache(maxsize=2)(self._order)
        self._lock = threading.Lock()

    def places(self, epoch: int, step: int) -> np.ndarray:
        """The places of a batch's examples, int64 (batch,)."""
        if not 0 <= step < self.steps:
            raise ValueError(f"step {step} is none of an epoch of {self.steps} steps.")
        with self._lock:  # so that threads do not all sort the next epoch
            order = self._order_of(epoch)
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def _order(self, epoch: int) -> np.ndarray:
        """All places, those of a batch side by side."""
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, epoch))))
        order = generator.permutation(self.count) if self.shuffle else np.arange(self.count)
        if not self.keys:
            return order
        window = WINDOW * self.batch_size if self.shuffle else self.count
        for start in range(0, self.count, window):
            part = order[start : start + window]
            order[start : start + window] = part[np.lexsort([key[part] for key in reversed(self.keys)])]
        if self.shuffle:
            full = self.count // self.batch_size * self.batch_size
            batches = order[:full].reshape(-1, self.batch_size)
            order[:full] = batches[generator.permutation(len(batches))].ravel()
        return order


def bucket_keys(loader: Loader) -> list[np.ndarray]:
    """What examples are sorted by: with pictures first by their aspect ratio, then by the length of their text."""
    examples = loader.examples
    if not isinstance(loader.visual, Pictures):
        return [examples.lengths]
    firsts = [examples[int(place)].images[0] for place in examples.first_of_image]
    sizes = image_sizes(loader.visual.source, firsts)
    ratios = [0 if sizes[name] is None else np.log2(sizes[name][1] / sizes[name][0]) for name in firsts]
    return [np.round(np.array(ratios) * RATIO_STEPS).astype(np.int32)[examples.images], examples.lengths]


class BatchPipeline:
    """The batches of a data set as a `tf.data.Dataset`, from any step on.

        pipeline = BatchPipeline(loader, BatchPlan(len(loader.examples), 32, keys=bucket_keys(loader)))
        model.fit(pipeline.dataset(epoch=3, step=1200))

    Args:
        loader: makes the batches.
        plan: says of what.
        workers: batches that are made at once, each in a thread; None: as many as TensorFlow thinks best.
        shard: the number of this machine and how many there are; each takes its share of the rows of every batch.

    Attributes:
        failure: what kept a batch from being made, where TensorFlow ends a dataset with an error of its own.

    Raises:
        ValueError: the plan is for another number of examples, or its batches cannot be shared evenly.
    """

    def __init__(
        self,
        loader: Loader,
        plan: BatchPlan,
        workers: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ):
        index, count = shard
        if plan.count != len(loader.examples):
            raise ValueError(f"the plan is for {plan.count} examples, but there are {len(loader.examples)}.")
        if not 0 <= index < count or plan.batch_size % count:
            raise ValueError(
                f"shard is {shard}, expected a machine's number from 0 on and how many there are, which must divide "
                f"the batch size of {plan.batch_size}."
            )
        self.loader, self.plan, self.workers, self.shard = loader, plan, workers, shard
        self.failure: ValueError | None = None

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return self.plan.steps

    def ids(self, epoch: int, step: int) -> list[str]:
        """The ids of the examples of a batch (of this machine's rows)."""
        return [self.loader.examples[int(place)].id for place in self._places(epoch, step)]

    def batch(self, epoch: int, step: int) -> tuple[dict, Any, np.ndarray]:
        """Inputs, labels and weights of a batch, as NumPy arrays; the same each time."""
        return self.loader(self._places(epoch, step), epoch)

    def _places(self, epoch: int, step: int) -> np.ndarray:
        index, count = self.shard
        return self.plan.places(epoch, step)[index::count]

    def dataset(self, epoch: int = 0, step: int = 0, epochs: int = 1) -> tf.data.Dataset:
        """Batches of (inputs, labels, weights), in order, from a step of an epoch on.

        Args:
            epoch, step: where to start, both counted from 0.
            epochs: how many, the first one included.

        Raises:
            ValueError: there is no such step.
        """
        if not 0 <= step < self.steps:
            raise ValueError(f"step {step} is none of an epoch of {self.steps} steps.")
        first, last = epoch * self.steps + step, (epoch + epochs) * self.steps
        calls = self.workers or tf.data.AUTOTUNE
        spec = self.spec
        dataset = tf.data.Dataset.range(first, last)
        dataset = dataset.map(functools.partial(self._made, spec), num_parallel_calls=calls, deterministic=True)
        return dataset.prefetch(PREFETCHED)

    def next_epoch(self) -> tf.data.Dataset:
        """The batches of an epoch, the first one; each time that the dataset is gone through again, of the next."""
        spec, epochs = self.spec, itertools.count()
        epoch = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: next(epochs), [], tf.int64))
        steps = epoch.flat_map(lambda number: tf.data.Dataset.range(number * self.steps, (number + 1) * self.steps))
        made = steps.map(functools.partial(self._made, spec), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return made.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(PREFETCHED)

    @functools.cached_property
    def spec(self) -> tuple:
        """`tf.TensorSpec`s of inputs, labels and weights; sizes that differ between batches are None."""
        inputs, labels, weights = self.batch(0, 0)
        full = self.plan.count >= self.plan.batch_size * self.steps
        rows = self.plan.batch_size // self.shard[1] if full else None
        return (
            {name: _spec(value, rows, FREE_AXES.get(name, ())) for name, value in inputs.items()},
            _label_spec(labels, rows, self.loader.free_label_axes),
            _spec(weights, rows, ()),
        )

    def _made(self, spec: tuple, number: tf.Tensor) -> tuple:
        specs = tf.nest.flatten(spec)
        tensors = tf.numpy_function(self._flat, [number], [value.dtype for value in specs])
        shaped = [tf.ensure_shape(tensor, value.shape) for tensor, value in zip(tensors, specs, strict=True)]
        return tf.nest.pack_sequence_as(spec, shaped)

    def _flat(self, number: np.ndarray) -> list[np.ndarray]:
        try:
            return tf.nest.flatten(self.batch(*divmod(int(number), self.steps)))
        except ValueError as error:
            self.failure = error
            raise


def _spec(value: np.ndarray, rows: int | None, free: Sequence[int]) -> tf.TensorSpec:
    shape = [rows, *value.shape[1:]]
    for axis in free:
        shape[axis] = None
    return tf.TensorSpec(shape, value.dtype)


def _label_spec(labels: Any, rows: int | None, free: Mapping[str, Sequence[int]], name: str = "labels") -> Any:
    """Specs of an array, or of dicts and pairs of arrays, with the free axes of each name."""
    if isinstance(labels, dict):
        return {name: _label_spec(value, rows, free, name) for name, value in labels.items()}
    if isinstance(labels, tuple):
        return tuple(_label_spec(value, rows, free, name) for value in labels)
    return _spec(labels, rows, free.get(name, ()))
