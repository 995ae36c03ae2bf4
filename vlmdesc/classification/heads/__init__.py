"""What decides: each kind of head is one file here and one entry in `HEADS`."""

from vlmdesc.classification.heads.head import Fitting, Head, HeadCard, Kind, Parts
from vlmdesc.classification.heads.store import HEADS, load_head, save_head

__all__ = ["HEADS", "Fitting", "Head", "HeadCard", "Kind", "Parts", "load_head", "save_head"]
