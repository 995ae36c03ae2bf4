"""What decides: each kind of head is one file here and one entry in `HEADS`."""

from vlmdesc.classification.heads.folder import HEADS, head_record, load_head, save_head
from vlmdesc.classification.heads.head import Fitting, Head, HeadCard, HeadKind, Parts

__all__ = ["HEADS", "Fitting", "Head", "HeadCard", "HeadKind", "Parts", "head_record", "load_head", "save_head"]
