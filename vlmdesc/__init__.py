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
    from vlmdesc.embeddings.embed import embed as embed
    from vlmdesc.embeddings.load import load_encoder as load_encoder
    from vlmdesc.embeddings.store import Store as Store
    from vlmdesc.errors import VlmdescError as VlmdescError
    from vlmdesc.evaluation.compare import Comparison as Comparison
    from vlmdesc.evaluation.compare import compare as compare
    from vlmdesc.evaluation.run import Evaluation as Evaluation
    from vlmdesc.evaluation.run import evaluate as evaluate
    from vlmdesc.evaluation.scored import Scored as Scored
    from vlmdesc.evaluation.specs import Plan as Plan
    from vlmdesc.evaluation.task import Reproduced as Reproduced
    from vlmdesc.evaluation.task import Task as Task
    from vlmdesc.evaluation.task import reproduce as reproduce
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
    "Comparison": "vlmdesc.evaluation.compare",
    "Descriptor": "vlmdesc.records",
    "Descriptors": "vlmdesc.records",
    "Embeddings": "vlmdesc.records",
    "Evaluation": "vlmdesc.evaluation.run",
    "Head": "vlmdesc.classification.heads",
    "HeadCard": "vlmdesc.classification.heads",
    "Parts": "vlmdesc.classification.heads",
    "Plan": "vlmdesc.evaluation.specs",
    "Prediction": "vlmdesc.records",
    "Report": "vlmdesc.records",
    "Reproduced": "vlmdesc.evaluation.task",
    "Scored": "vlmdesc.evaluation.scored",
    "Store": "vlmdesc.embeddings.store",
    "Task": "vlmdesc.evaluation.task",
    "VlmdescError": "vlmdesc.errors",
    "compare": "vlmdesc.evaluation.compare",
    "embed": "vlmdesc.embeddings.embed",
    "evaluate": "vlmdesc.evaluation.run",
    "load_data": "vlmdesc.embeddings.data",
    "load_encoder": "vlmdesc.embeddings.load",
    "load_head": "vlmdesc.classification.heads",
    "reproduce": "vlmdesc.evaluation.task",
    "save_head": "vlmdesc.classification.heads",
    "shipped": "vlmdesc.assets",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlmdesc' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
