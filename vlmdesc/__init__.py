"""Image classification by description: an LLM says what classes look like, CLIP scores it, with reasons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmdesc.assets import shipped as shipped
    from vlmdesc.classification.classifier import Classifier as Classifier
    from vlmdesc.classification.fit import fit as fit
    from vlmdesc.classification.heads import Head as Head
    from vlmdesc.classification.heads import HeadCard as HeadCard
    from vlmdesc.classification.heads import Parts as Parts
    from vlmdesc.classification.heads import head_record as head_record
    from vlmdesc.classification.heads import load_head as load_head
    from vlmdesc.classification.heads import save_head as save_head
    from vlmdesc.classification.predict import to_frame as to_frame
    from vlmdesc.classification.select import Selected as Selected
    from vlmdesc.classification.select import select as select
    from vlmdesc.concepts.clusters import ClusterNames as ClusterNames
    from vlmdesc.concepts.clusters import ImageNames as ImageNames
    from vlmdesc.concepts.clusters import name as name
    from vlmdesc.concepts.index import Index as Index
    from vlmdesc.concepts.search import SearchResult as SearchResult
    from vlmdesc.descriptors.describe import Asker as Asker
    from vlmdesc.descriptors.describe import Description as Description
    from vlmdesc.descriptors.describe import Endpoint as Endpoint
    from vlmdesc.descriptors.describe import describe as describe
    from vlmdesc.descriptors.edit import edit as edit
    from vlmdesc.descriptors.history import DescriptorFile as DescriptorFile
    from vlmdesc.descriptors.llm import Budget as Budget
    from vlmdesc.descriptors.mend import fix as fix
    from vlmdesc.descriptors.patch import diff as diff
    from vlmdesc.descriptors.patch import merge as merge
    from vlmdesc.descriptors.patch import read_patch as read_patch
    from vlmdesc.descriptors.patch import write_patch as write_patch
    from vlmdesc.embeddings.data import load_data as load_data
    from vlmdesc.embeddings.embed import embed as embed
    from vlmdesc.embeddings.find import find_images as find_images
    from vlmdesc.embeddings.labelled import Joining as Joining
    from vlmdesc.embeddings.labelled import Labelled as Labelled
    from vlmdesc.embeddings.load import load_encoder as load_encoder
    from vlmdesc.embeddings.load import models as models
    from vlmdesc.embeddings.store import Store as Store
    from vlmdesc.embeddings.survey import Survey as Survey
    from vlmdesc.embeddings.survey import survey as survey
    from vlmdesc.embeddings.upkeep import Cache as Cache
    from vlmdesc.errors import VlmdescError as VlmdescError
    from vlmdesc.evaluation.audit import audit as audit
    from vlmdesc.evaluation.compare import compare as compare
    from vlmdesc.evaluation.effect import effect as effect
    from vlmdesc.evaluation.findings import lint as lint
    from vlmdesc.evaluation.run import Evaluation as Evaluation
    from vlmdesc.evaluation.run import evaluate as evaluate
    from vlmdesc.evaluation.scored import Scored as Scored
    from vlmdesc.evaluation.specs import Plan as Plan
    from vlmdesc.evaluation.suggest import suggest as suggest
    from vlmdesc.evaluation.task import Task as Task
    from vlmdesc.evaluation.task import reproduce as reproduce
    from vlmdesc.records import ClassName as ClassName
    from vlmdesc.records import Descriptor as Descriptor
    from vlmdesc.records import Descriptors as Descriptors
    from vlmdesc.records import Edit as Edit
    from vlmdesc.records import Embeddings as Embeddings
    from vlmdesc.records import Prediction as Prediction
    from vlmdesc.records import Report as Report
    from vlmdesc.registries import choices as choices

__version__ = "0.1.0"

# Each name is loaded when it is first asked for: `import vlmdesc` itself must cost nothing.
_HOMES = {
    "Asker": "vlmdesc.descriptors.describe",
    "Budget": "vlmdesc.descriptors.llm",
    "Cache": "vlmdesc.embeddings.upkeep",
    "ClassName": "vlmdesc.records",
    "Classifier": "vlmdesc.classification.classifier",
    "ClusterNames": "vlmdesc.concepts.clusters",
    "Description": "vlmdesc.descriptors.describe",
    "Descriptor": "vlmdesc.records",
    "DescriptorFile": "vlmdesc.descriptors.history",
    "Descriptors": "vlmdesc.records",
    "Edit": "vlmdesc.records",
    "Embeddings": "vlmdesc.records",
    "Endpoint": "vlmdesc.descriptors.describe",
    "Evaluation": "vlmdesc.evaluation.run",
    "Head": "vlmdesc.classification.heads",
    "HeadCard": "vlmdesc.classification.heads",
    "ImageNames": "vlmdesc.concepts.clusters",
    "Index": "vlmdesc.concepts.index",
    "Joining": "vlmdesc.embeddings.labelled",
    "Labelled": "vlmdesc.embeddings.labelled",
    "Parts": "vlmdesc.classification.heads",
    "Plan": "vlmdesc.evaluation.specs",
    "Prediction": "vlmdesc.records",
    "Report": "vlmdesc.records",
    "Scored": "vlmdesc.evaluation.scored",
    "SearchResult": "vlmdesc.concepts.search",
    "Selected": "vlmdesc.classification.select",
    "Store": "vlmdesc.embeddings.store",
    "Survey": "vlmdesc.embeddings.survey",
    "Task": "vlmdesc.evaluation.task",
    "VlmdescError": "vlmdesc.errors",
    "audit": "vlmdesc.evaluation.audit",
    "choices": "vlmdesc.registries",
    "compare": "vlmdesc.evaluation.compare",
    "describe": "vlmdesc.descriptors.describe",
    "diff": "vlmdesc.descriptors.patch",
    "edit": "vlmdesc.descriptors.edit",
    "effect": "vlmdesc.evaluation.effect",
    "embed": "vlmdesc.embeddings.embed",
    "evaluate": "vlmdesc.evaluation.run",
    "find_images": "vlmdesc.embeddings.find",
    "fit": "vlmdesc.classification.fit",
    "fix": "vlmdesc.descriptors.mend",
    "head_record": "vlmdesc.classification.heads",
    "lint": "vlmdesc.evaluation.findings",
    "load_data": "vlmdesc.embeddings.data",
    "load_encoder": "vlmdesc.embeddings.load",
    "load_head": "vlmdesc.classification.heads",
    "merge": "vlmdesc.descriptors.patch",
    "models": "vlmdesc.embeddings.load",
    "name": "vlmdesc.concepts.clusters",
    "read_patch": "vlmdesc.descriptors.patch",
    "reproduce": "vlmdesc.evaluation.task",
    "save_head": "vlmdesc.classification.heads",
    "select": "vlmdesc.classification.select",
    "shipped": "vlmdesc.assets",
    "suggest": "vlmdesc.evaluation.suggest",
    "survey": "vlmdesc.embeddings.survey",
    "to_frame": "vlmdesc.classification.predict",
    "write_patch": "vlmdesc.descriptors.patch",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlmdesc' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
