"""Trains with a loss and metrics of the user's own on two logical CPUs of this process, and on one.

As a script it prints for each head the results of `fit` and `evaluate` on two and on one, and the weights' difference.
"""

import json
import sys

import numpy as np

HEADS = ["ViltForQuestionAnswering", "VisualBertForPreTraining", "LxmertForQuestionAnswering"]
ROWS = [0, 1, 1, 2]  # of the example: two for each replica


def run(head: str, strategy) -> tuple[dict, list]:
    import keras
    import tensorflow as tf

    from support.classes import small_model, training_example

    inputs, labels = tf.nest.map_structure(lambda value: np.asarray(value)[ROWS], training_example(head))
    labels = {name: np.where(value == -100, 1, value) for name, value in labels.items()}
    with strategy.scope():
        model = small_model(head)
        soft = head == "ViltForQuestionAnswering"
        loss = "mse" if soft else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        names = list(model.targets.values())
        metrics = {name: ["accuracy"] for name in names}
        model.compile(keras.optimizers.SGD(0.1), dict.fromkeys(names, loss), metrics=metrics, weighted_metrics=metrics)
    history = model.fit(inputs, labels, batch_size=4, shuffle=False, epochs=2, verbose=0).history
    evaluated = model.evaluate(inputs, labels, batch_size=4, verbose=0, return_dict=True)
    return {"fit": history, "evaluate": evaluated}, model.get_weights()


def main() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    results, strategy = (
        {},
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    )  # two of them in a process disturb each other
    for head in HEADS:
        two, weights = run(head, strategy)
        tf.config.run_functions_eagerly(True)  # three steps take less than to trace them
        one, others = run(head, tf.distribute.get_strategy())
        tf.config.run_functions_eagerly(False)
        apart = max(float(np.abs(mine - other).max()) for mine, other in zip(weights, others, strict=True))
        results[head] = {"two": two, "one": one, "apart": apart}
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
