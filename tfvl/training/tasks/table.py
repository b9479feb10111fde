"""The tasks by their names."""

from tfvl.training.tasks.entities import Entities
from tfvl.training.tasks.gqa import Gqa
from tfvl.training.tasks.nlvr2 import Nlvr2
from tfvl.training.tasks.pretraining import Pretraining, PretrainingQuestions
from tfvl.training.tasks.retrieval import Retrieval
from tfvl.training.tasks.shapes import Shapes
from tfvl.training.tasks.task import Task
from tfvl.training.tasks.tokens import Tokens
from tfvl.training.tasks.vcr import VcrAnswer, VcrRationale
from tfvl.training.tasks.vqa import Vqa

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Vqa(),
        Gqa(),
        Shapes(),
        Nlvr2(),
        Retrieval(),
        VcrAnswer(),
        VcrRationale(),
        Entities(),
        Pretraining(),
        PretrainingQuestions(),
        Tokens(),
    )
}


def task_named(name: str) -> Task:
    """Returns the task of a name. Raises ValueError if there is none."""
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name]
