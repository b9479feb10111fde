"""`tf.data` pipelines for training, whose batches any later run can repeat.

Nothing here has a state. The batches of an epoch depend on the seed and the epoch only, and what is drawn for an
example on the seed, the epoch and the example only. So a pipeline that is started at step k of epoch e yields exactly
the batches that an uninterrupted one yields from there on.
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

WINDOW = 64  # examples are sorted within so many batches: alike within a batch, in random order between batches
PREFETCHED = 2  # batches that are made ahead
RATIO_STEPS = 4  # images are sorted by their aspect ratio, rounded to a power of 2^(1/4)

# For each input, the axes, other than the first, whose size differs between batches.
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
    """Decides which examples make up each batch of each epoch.

    Args:
        count: number of examples.
        batch_size: rows of a batch, on all machines together.
        seed: seeds the order.
        shuffle: whether each epoch has another order; else it is that of the examples.
        keys: sort keys, (count,) each, the most important first (`bucket_keys`). A batch is then made of examples with
            similar keys, such as lengths, which saves padding.
        drop_remainder: whether the last batch is left out if it is not full; False for evaluation.

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
        """Returns the indices of a batch's examples, int64 (batch,)."""
        if not 0 <= step < self.steps:
            raise ValueError(f"step {step} is none of an epoch of {self.steps} steps.")
        with self._lock:  # so that only one thread sorts the next epoch
            order = self._order_of(epoch)
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def _order(self, epoch: int) -> np.ndarray:
        """Returns the indices of all examples in the order of an epoch; each batch is a slice of it."""
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
    """Returns keys for `BatchPlan`: the images' aspect ratios, if the model reads images, and the texts' lengths."""
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
        plan: says which examples are in each batch.
        workers: the number of batches that are made at once, each in a thread; None: TensorFlow decides.
        shard: the number of this machine and of all machines; each takes its share of the rows of every batch.

    Attributes:
        failure: the exception that kept a batch from being made, which TensorFlow replaces by an error of its own.

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
        """The number of batches per epoch."""
        return self.plan.steps

    def ids(self, epoch: int, step: int) -> list[str]:
        """Returns the ids of the examples in this machine's share of a batch."""
        return [self.loader.examples[int(place)].id for place in self._places(epoch, step)]

    def batch(self, epoch: int, step: int) -> tuple[dict, Any, np.ndarray]:
        """Makes the inputs, labels and weights of a batch, as NumPy arrays; they are the same each time."""
        return self.loader(self._places(epoch, step), epoch)

    def _places(self, epoch: int, step: int) -> np.ndarray:
        index, count = self.shard
        return self.plan.places(epoch, step)[index::count]

    def dataset(self, epoch: int = 0, step: int = 0, epochs: int = 1) -> tf.data.Dataset:
        """Returns a dataset of batches (inputs, labels, weights), from a step of an epoch on.

        Args:
            epoch, step: the first batch, both counted from 0.
            epochs: the number of epochs, the first one included.

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
        """Returns a dataset of one epoch; each time that it is iterated again, it yields the next epoch's batches."""
        spec, epochs = self.spec, itertools.count()
        epoch = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: next(epochs), [], tf.int64))
        steps = epoch.flat_map(lambda number: tf.data.Dataset.range(number * self.steps, (number + 1) * self.steps))
        made = steps.map(functools.partial(self._made, spec), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return made.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(PREFETCHED)

    @functools.cached_property
    def spec(self) -> tuple:
        """Returns the `tf.TensorSpec`s of inputs, labels and weights; sizes that differ between batches are None."""
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
    """Returns the specs of labels, an array or nested dicts and pairs of arrays, with the free axes of each name."""
    if isinstance(labels, dict):
        return {name: _label_spec(value, rows, free, name) for name, value in labels.items()}
    if isinstance(labels, tuple):
        return tuple(_label_spec(value, rows, free, name) for value in labels)
    return _spec(labels, rows, free.get(name, ()))
