"""The nouns: frozen records that every room of the house passes on. Arrays inside them are read-only."""

from vlmdesc.records.descriptors import Descriptors
from vlmdesc.records.edits import Change, Done, Edit
from vlmdesc.records.names import ClassName, Descriptor
from vlmdesc.records.report import Report
from vlmdesc.records.results import Concept, Contrast, Embeddings, Hit, Hits, Prediction, Selection

__all__ = [
    "Change",
    "ClassName",
    "Concept",
    "Contrast",
    "Descriptor",
    "Descriptors",
    "Done",
    "Edit",
    "Embeddings",
    "Hit",
    "Hits",
    "Prediction",
    "Report",
    "Selection",
]
