"""Entities as they come in: NGSIv2 normalized or keyValues, NGSI-LD in any representation; notifications."""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidDataError
from datasov.ngsi.texts import plain

MAX_BODY = 8 * 1024 * 1024
MAX_ENTITIES = 10_000
MAX_DEPTH = 32
_LONE = re.compile("[\ud800-\udfff]")
_TIMES = ("TimeInstant", "timestamp", "dateObserved", "observedAt")
"""Metadata of NGSIv2 that tell when a value was observed, the first that is there."""


@dataclass(frozen=True, slots=True)
class Value:
    """An attribute: its value (numbers with a point are Decimals), when it was observed, and its unit, where told."""

    value: Any
    observed: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """An entity: its attributes by name; texts as they were before :func:`datasov.ngsi.texts.safe`."""

    identifier: str
    type: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an entity, or a value of one, is not taken. For the holder of the data alone."""

    entity: str
    attribute: str
    reason: str


def read(body: bytes) -> tuple[list[Reading], list[Fault]]:
    """The entities of a body: one, a list, or a notification's data; and those that are none.

    Raises:
        InvalidDataError: the body is no JSON, too long, or holds no entities.
    """
    if len(body) > MAX_BODY:
        raise InvalidDataError("the body is longer than 8 MiB: send fewer entities at once")
    try:
        found = json.loads(body, parse_float=_number, parse_constant=_refuse, object_pairs_hook=_members)
    except (ValueError, RecursionError):
        raise InvalidDataError("the body is no JSON: send entities or a notification, in UTF-8") from None
    if isinstance(found, Mapping) and "id" in found and "data" not in found:
        found = [found]
    if isinstance(found, Mapping):
        found = found.get("data")
    if not isinstance(found, list) or len(found) > MAX_ENTITIES:
        raise InvalidDataError("the body holds no entities, or above 10,000: send one, a list, or a notification")
    readings, faults = [], []
    for entity in found:
        if not isinstance(entity, Mapping) or not all(isinstance(entity.get(k), str) for k in ("id", "type")):
            name = entity.get("id") if isinstance(entity, Mapping) else None
            faults.append(
                Fault(name if isinstance(name, str) else "", "", "an entity has an id and a type, both texts")
            )
            continue
        reason = _odd(entity)
        if reason:
            faults.append(Fault("", "", reason))
            continue
        own = {n: v for n, v in entity.items() if n not in ("id", "type", "@context")}
        values = {_short(name): _value(told) for name, told in own.items()}
        readings.append(Reading(entity["id"], _short(entity["type"]), values))
    return readings, faults


def _odd(entity: Mapping[str, Any]) -> str:
    """Why an entity cannot be read, whatever it says; "" where it can."""
    level: list[Any] = [entity]
    for _ in range(MAX_DEPTH):
        inner = [n for o in level for n in ((*o.keys(), *o.values()) if isinstance(o, dict) else o)]
        if any(isinstance(n, str) and not n.isascii() and _LONE.search(n) for n in inner):
            return "a text that is no Unicode: send UTF-8"
        level = [n for n in inner if isinstance(n, dict | list)]
        if not level:
            return ""
    return f"nested more than {MAX_DEPTH} deep: send the entity by itself"


def _number(text: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:  # an exponent beyond what a Decimal has
        raise ValueError("not a number that can be kept") from None


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; two members of one name would be read in two ways by two readers (RFC 8259, section 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that stands twice")
    return found


def _refuse(_: str) -> None:
    raise ValueError("not a number of JSON")


def _short(name: str) -> str:
    """The last part of an IRI: brokers that know no @context tell whole ones."""
    return name.replace("#", "/").rpartition("/")[2] if "://" in name else name


def _value(told: object) -> Value:
    if not isinstance(told, Mapping):
        return Value(_plain(told))
    if "object" in told and told.get("type", "Relationship") == "Relationship":
        return Value(_plain(told["object"]), _text(told.get("observedAt")))
    if "value" not in told:
        return Value(_plain(told))
    metadata = told["metadata"] if isinstance(told.get("metadata"), Mapping) else {}
    flat = {n: m.get("value") if isinstance(m, Mapping) else m for n, m in metadata.items()}
    times = (_text(flat.get(name)) for name in _TIMES)
    observed = _text(told.get("observedAt")) or next((t for t in times if t), None)
    return Value(_plain(told["value"]), observed, _text(told.get("unitCode")) or _text(flat.get("unitCode")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return (
            _plain(value["@value"]) if set(value) == {"@type", "@value"} else {k: _plain(v) for k, v in value.items()}
        )
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return plain(value) if isinstance(value, str) else value
