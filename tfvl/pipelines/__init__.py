"""One object for a model that answers, wherever it is: a checkpoint, a SavedModel, a `.tflite` file, or on a server.

    vqa = tfvl.pipeline("shapes-vilt")
    vqa(image="scene.png", question="how many stars are there?")

`sources` has a class for each kind of source, `calls` turns the arguments of a call into requests, and `results` turns
a model's outputs into answers. Each source imports what it needs when it is opened, so that a `.tflite` file and a
server are used without TensorFlow. Imports export and below.
"""

from tfvl.pipelines.base import Pipeline
from tfvl.pipelines.opening import open_pipeline, pipeline
from tfvl.pipelines.results import TASKS, Answers
from tfvl.pipelines.sources import (
    CheckpointPipeline,
    DetectorPipeline,
    LitePipeline,
    SavedModelPipeline,
    ServerPipeline,
)

__all__ = [
    "TASKS",
    "Answers",
    "CheckpointPipeline",
    "DetectorPipeline",
    "LitePipeline",
    "Pipeline",
    "SavedModelPipeline",
    "ServerPipeline",
    "open_pipeline",
    "pipeline",
]
