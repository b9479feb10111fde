"""VisualBERT, LXMERT and ViLT for TensorFlow and Keras: load a checkpoint of the hub, fine-tune, export, serve it.

Every public name is listed in `_MODULES` and imported on first use, so that `import tfvl` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "tfvl.vilt.config": ("ViltConfig",),
    "tfvl.vilt.heads": (
        "ViltModel",
        "ViltForMaskedLM",
        "ViltForPreTraining",
        "ViltForQuestionAnswering",
        "ViltForImagesAndTextClassification",
        "ViltForImageAndTextRetrieval",
        "ViltForTokenClassification",
    ),
    "tfvl.vilt.processor": ("ViltProcessor",),
    "tfvl.visual_bert.config": ("VisualBertConfig",),
    "tfvl.visual_bert.heads": (
        "VisualBertModel",
        "VisualBertForPreTraining",
        "VisualBertForQuestionAnswering",
        "VisualBertForMultipleChoice",
        "VisualBertForVisualReasoning",
        "VisualBertForRegionToPhraseAlignment",
    ),
    "tfvl.visual_bert.processor": ("VisualBertProcessor",),
    "tfvl.lxmert.config": ("LxmertConfig",),
    "tfvl.lxmert.heads": ("LxmertModel", "LxmertForPreTraining", "LxmertForQuestionAnswering"),
    "tfvl.lxmert.processor": ("LxmertProcessor",),
    "tfvl.detector.config": ("DetectorConfig",),
    "tfvl.detector.model": ("RegionDetector",),
    "tfvl.processors.grid_features": ("GridFeatures",),
    "tfvl.preprocessing.image.processor": ("ViltImageProcessor", "ViltFeatureExtractor"),
    "tfvl.preprocessing.regions.regions": ("Regions",),
    "tfvl.preprocessing.regions.store": ("RegionStore",),
    "tfvl.preprocessing.text.tokenizer": (
        "BertTokenizer",
        "BertTokenizerFast",
        "LxmertTokenizer",
        "LxmertTokenizerFast",
    ),
    "tfvl.explanations": ("explain",),
    "tfvl.pipelines": ("pipeline",),
    "tfvl.training.dataset": ("dataset",),
    "tfvl.errors": ("CheckpointError",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_SUBMODULES = (
    *("auto", "explanations", "export", "layers", "lite", "lxmert", "porting", "preprocessing", "serving", "training"),
    *("vilt", "visual_bert"),
)

__all__ = [*_HOME, *_SUBMODULES, "__version__"]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"tfvl.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'tfvl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
