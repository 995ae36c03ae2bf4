"""Image classification by description: an LLM says what classes look like, CLIP scores it, with reasons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmdesc.assets import shipped as shipped
    from vlmdesc.classification.classifier import Classifier as Classifier
    from vlmdesc.classification.heads import Head as Head
    from vlmdesc.classification.heads import HeadCard as HeadCard
    from vlmdesc.classification.heads import Parts as Parts
    from vlmdesc.classification.heads import load_head as load_head
    from vlmdesc.classification.heads import save_head as save_head
    from vlmdesc.embeddings.data import load_data as load_data
    from vlmdesc.embeddings.embed import EmbedRun as EmbedRun
    from vlmdesc.embeddings.embed import embed as embed
    from vlmdesc.embeddings.labelled import Joining as Joining
    from vlmdesc.embeddings.labelled import Labelled as Labelled
    from vlmdesc.embeddings.load import load_encoder as load_encoder
    from vlmdesc.embeddings.load import models as models
    from vlmdesc.embeddings.store import Store as Store
    from vlmdesc.embeddings.survey import Survey as Survey
    from vlmdesc.embeddings.survey import survey as survey
    from vlmdesc.errors import VlmdescError as VlmdescError
    from vlmdesc.evaluation.scored import Scored as Scored
    from vlmdesc.records import ClassName as ClassName
    from vlmdesc.records import Descriptor as Descriptor
    from vlmdesc.records import Descriptors as Descriptors
    from vlmdesc.records import Embeddings as Embeddings
    from vlmdesc.records import Prediction as Prediction
    from vlmdesc.records import Report as Report

__version__ = "0.1.0"

# Each name is loaded when it is first asked for: `import vlmdesc` itself must cost nothing.
_HOMES = {
    "Classifier": "vlmdesc.classification.classifier",
    "ClassName": "vlmdesc.records",
    "Descriptor": "vlmdesc.records",
    "Descriptors": "vlmdesc.records",
    "EmbedRun": "vlmdesc.embeddings.embed",
    "Embeddings": "vlmdesc.records",
    "Head": "vlmdesc.classification.heads",
    "HeadCard": "vlmdesc.classification.heads",
    "Joining": "vlmdesc.embeddings.labelled",
    "Labelled": "vlmdesc.embeddings.labelled",
    "Parts": "vlmdesc.classification.heads",
    "Prediction": "vlmdesc.records",
    "Report": "vlmdesc.records",
    "Scored": "vlmdesc.evaluation.scored",
    "Store": "vlmdesc.embeddings.store",
    "Survey": "vlmdesc.embeddings.survey",
    "VlmdescError": "vlmdesc.errors",
    "embed": "vlmdesc.embeddings.embed",
    "load_data": "vlmdesc.embeddings.data",
    "load_encoder": "vlmdesc.embeddings.load",
    "load_head": "vlmdesc.classification.heads",
    "models": "vlmdesc.embeddings.load",
    "save_head": "vlmdesc.classification.heads",
    "shipped": "vlmdesc.assets",
    "survey": "vlmdesc.embeddings.survey",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlmdesc' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
