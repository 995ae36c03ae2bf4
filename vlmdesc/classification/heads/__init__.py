"""What decides: each kind of head is one file here and one entry in `HEADS`."""

from vlmdesc.classification.heads.head import Head, HeadCard, Parts
from vlmdesc.classification.heads.store import HEADS, load_head, save_head

__all__ = ["HEADS", "Head", "HeadCard", "Parts", "load_head", "save_head"]
