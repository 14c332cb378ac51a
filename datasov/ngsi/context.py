"""The @context of our terms: sent with each NGSI-LD entity, and never fetched by anybody.

The core context of NGSI-LD counts for every broker without being named (ETSI GS CIM 009, clause 5.5.7), so that it is
left out: no broker goes out to look anything up.
"""

from __future__ import annotations

from collections.abc import Iterable

NAMESPACE = "urn:datasov:ngsi:"
"""Our terms' IRIs begin so."""
CORE = frozenset({"id", "type", "location", "title", "description"})
"""Names in our entities that the core context defines."""


def context(names: Iterable[str]) -> dict[str, str]:
    """The @context of an entity: its type and attributes, those of the core context left out."""
    return {name: NAMESPACE + name for name in names if name not in CORE}
