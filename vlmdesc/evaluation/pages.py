"""An audit, and the effect of an edit, as HTML pages that need nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import vlmdesc
from vlmdesc.evaluation.report import class_labels, templates
from vlmdesc.records import ClassName
from vlmdesc.records.report import Record

Thumbnails = Mapping[int, bytes]  # JPEGs by the row of an image in the data set; any may be missing


def page(template: str, found: Record, data: str, classes: Sequence[ClassName], thumbnails: Thumbnails) -> str:
    """The HTML of what was found on a data set of that name, in a template of ours."""
    view: dict[str, Any] = {
        "found": found,
        "data": data,
        "labels": class_labels({class_.id: class_.name for class_ in classes}),
        "images": {row: b64encode(jpeg).decode() for row, jpeg in thumbnails.items()},
        "version": vlmdesc.__version__,
    }
    return templates().get_template(template).render(view)
