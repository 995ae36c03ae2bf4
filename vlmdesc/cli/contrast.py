"""The language model of --ask: what sets classes apart from those they are taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import vlmdesc as vd

if TYPE_CHECKING:
    from vlmdesc.records import Descriptors


def Asker(given: Descriptors, ask: str, base_url: str, key_variable: str) -> vd.Asker:  # noqa: N802
    """What asks the language model that --ask names. Raises: InputError for an endpoint that cannot be used."""
    endpoint = vd.Endpoint(key_variable=key_variable, concurrency=1)
    return vd.Asker(given, ask, endpoint, base_url)
