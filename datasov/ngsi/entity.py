"""Entities, and the three forms in which brokers and consumers meet them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from datasov.errors import InternalError
from datasov.ngsi.context import context
from datasov.ngsi.texts import safe

Kind: TypeAlias = Literal["Number", "Text", "Boolean", "DateTime", "StructuredValue", "geo:json"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Attributes:
        value: a number, a text, a truth value, a list or a GeoJSON geometry; of "DateTime" a text in UTC, with Z.
            None is told as null in NGSIv2; NGSI-LD has no null, so the attribute is left out there.
        metadata: numbers and texts by name.
        linked: its name in NGSI-LD, where that is another one.
        observed: a DateTime in UTC, for NGSI-LD's observedAt. unit: a code of UN/CEFACT, for unitCode.
    """

    name: str
    kind: Kind
    value: Any
    metadata: Mapping[str, float | str] = field(default_factory=dict)
    linked: str = ""
    observed: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity, in no form yet. The id is an ASCII URN."""

    identifier: str
    type: str
    attributes: tuple[Attribute, ...]

    def __post_init__(self) -> None:
        names = [a.name for a in self.attributes]
        if len(set(names)) != len(names):
            raise InternalError("two attributes of an entity have one name: please report it")


def _told(value: Any) -> Any:
    """A value with every text in it as brokers take it."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, list | tuple):
        return [_told(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _told(v) for k, v in value.items()}
    return value


def _number_or_text(value: float | str) -> dict[str, Any]:
    return {"type": "Text" if isinstance(value, str) else "Number", "value": _told(value)}


def normalized(entity: Entity) -> dict[str, Any]:
    """NGSIv2, normalized: what the publisher sends. `metadata` is always there, so that no earlier one stays."""
    found: dict[str, Any] = {"id": entity.identifier, "type": entity.type}
    for a in entity.attributes:
        metadata = {name: _number_or_text(v) for name, v in a.metadata.items()}
        if a.unit:
            metadata["unitCode"] = {"type": "Text", "value": a.unit}
        found[a.name] = {"type": a.kind, "value": _told(a.value), "metadata": metadata}
    return found


def key_values(entity: Entity) -> dict[str, Any]:
    """NGSIv2, keyValues: names and values alone. An attribute without a value is null."""
    return {"id": entity.identifier, "type": entity.type} | {a.name: _told(a.value) for a in entity.attributes}


def linked(entity: Entity) -> dict[str, Any]:
    """NGSI-LD, normalized, with the @context of our terms in it."""
    found: dict[str, Any] = {"id": entity.identifier, "type": entity.type}
    terms = [entity.type]
    for a in entity.attributes:
        if a.value is None:
            continue
        kind = "GeoProperty" if a.kind == "geo:json" else "Property"
        told: dict[str, Any] = {"type": kind, "value": _told(a.value)}
        if a.observed:
            told["observedAt"] = a.observed
        if a.unit:
            told["unitCode"] = a.unit
        for name, value in a.metadata.items():
            told[name] = {"type": "Property", "value": _told(value)}
            terms.append(name)
        found[a.linked or a.name] = told
        terms.append(a.linked or a.name)
    return {**found, "@context": context(dict.fromkeys(terms))}
