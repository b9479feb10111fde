"""The public names of tfvl, each with the module that holds it: read by `tfvl/__init__.py` and by type checkers.

`as` says that a name is public. A name that is missing here does not exist in `tfvl`.
"""

from . import auto as auto
from . import explanations as explanations
from . import export as export
from . import layers as layers
from . import lite as lite
from . import lxmert as lxmert
from . import porting as porting
from . import preprocessing as preprocessing
from . import serving as serving
from . import training as training
from . import vilt as vilt
from . import visual_bert as visual_bert
from .vilt.config import ViltConfig as ViltConfig
from .vilt.heads import (
    ViltModel as ViltModel,
    ViltForMaskedLM as ViltForMaskedLM,
    ViltForPreTraining as ViltForPreTraining,
    ViltForQuestionAnswering as ViltForQuestionAnswering,
    ViltForImagesAndTextClassification as ViltForImagesAndTextClassification,
    ViltForImageAndTextRetrieval as ViltForImageAndTextRetrieval,
    ViltForTokenClassification as ViltForTokenClassification,
)
from .vilt.processor import ViltProcessor as ViltProcessor
from .visual_bert.config import VisualBertConfig as VisualBertConfig
from .visual_bert.heads import (
    VisualBertModel as VisualBertModel,
    VisualBertForPreTraining as VisualBertForPreTraining,
    VisualBertForQuestionAnswering as VisualBertForQuestionAnswering,
    VisualBertForMultipleChoice as VisualBertForMultipleChoice,
    VisualBertForVisualReasoning as VisualBertForVisualReasoning,
    VisualBertForRegionToPhraseAlignment as VisualBertForRegionToPhraseAlignment,
)
from .visual_bert.processor import VisualBertProcessor as VisualBertProcessor
from .lxmert.config import LxmertConfig as LxmertConfig
from .lxmert.heads import (
    LxmertModel as LxmertModel,
    LxmertForPreTraining as LxmertForPreTraining,
    LxmertForQuestionAnswering as LxmertForQuestionAnswering,
)
from .lxmert.processor import LxmertProcessor as LxmertProcessor
from .detector.config import DetectorConfig as DetectorConfig
from .detector.model import RegionDetector as RegionDetector
from .preprocessing.image.processor import (
    ViltImageProcessor as ViltImageProcessor,
    ViltFeatureExtractor as ViltFeatureExtractor,
)
from .preprocessing.regions.regions import Regions as Regions
from .preprocessing.regions.store import RegionStore as RegionStore
from .preprocessing.text.tokenizer import (
    BertTokenizer as BertTokenizer,
    BertTokenizerFast as BertTokenizerFast,
    LxmertTokenizer as LxmertTokenizer,
    LxmertTokenizerFast as LxmertTokenizerFast,
)
from .answers.checkpoints import list_pretrained as list_pretrained
from .pipelines import pipeline as pipeline
from .training.dataset import dataset as dataset
from .explanations import explain as explain
from .processors.grid_features import GridFeatures as GridFeatures
from .errors import CheckpointError as CheckpointError

__version__: str
