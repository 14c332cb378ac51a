"""A DPStatistic as an entity: which attributes it has, in which order. docs/ngsi.md is this table in prose."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from datasov.catalogue import mesh
from datasov.errors import InvalidDataError
from datasov.model.privacy import ATTO, NANO
from datasov.ngsi.entity import Attribute, Entity
from datasov.ngsi.periods import local, utc
from datasov.ngsi.statistic import By, DPStatistic, Key
from datasov.ngsi.units import code_of

CLASS = "統計情報"
"""What a release is in the terms of Japanese law: statistical information, here with a stated guarantee."""


def describe(found: DPStatistic, by: By = "release") -> Entity:
    """The entity of a number: the same attributes for every answer to a question, so that no old one stays."""
    return Entity(found.identifier(by), "DPStatistic", (*_number(found), *_guarantee(found), *_origin(found)))


def _number(found: DPStatistic) -> Iterator[Attribute]:
    source = found.source
    interval: dict[str, float | str] = {}
    if found.low is not None and found.high is not None:
        interval = {"low": found.low, "high": found.high, "confidence": source.confidence}
    yield Attribute(
        "value", "Number", found.value, interval, linked="noisyValue", observed=utc(_observed(found)),
        unit=code_of(found.unit) or "",
    )  # fmt: skip
    yield Attribute("low", "Number", found.low)
    yield Attribute("high", "Number", found.high)
    yield Attribute("confidence", "Number", source.confidence)
    yield Attribute("withheld", "Boolean", found.withheld)
    yield Attribute("minimumCohort", "Number", source.cohort)
    yield Attribute("statistic", "Text", found.name)
    yield Attribute("statisticKind", "Text", found.kind)
    yield Attribute("unit", "Text", found.unit)
    yield Attribute("table", "Text", source.table)
    yield Attribute("domain", "Text", source.domain)
    yield Attribute("cell", "Number", found.cell)
    yield Attribute("keys", "StructuredValue", [column for _, column, _ in found.keys])
    for name, _, value in found.keys:
        yield _key(name, value)
    if (place := geometry(found)) is not None:
        yield Attribute("location", "geo:json", place)
    yield from times(found)


def _key(name: str, value: Key) -> Attribute:
    if isinstance(value, bool):
        return Attribute(name, "Boolean", value)
    if isinstance(value, int):
        return Attribute(name, "Number", value)
    return Attribute(name, "Text", value.isoformat() if isinstance(value, dt.date) else value)


def _guarantee(found: DPStatistic) -> Iterator[Attribute]:
    loss, told = found.source.loss, found.source.loss.document()
    yield Attribute("informationClass", "Text", CLASS)
    yield Attribute("privacyMeasure", "Text", loss.measure)
    yield Attribute("rho" if loss.measure == "zcdp" else "epsilon", "Number", loss.nano / NANO)
    yield Attribute("delta", "Number", loss.delta / ATTO)
    yield Attribute("unitOfPrivacy", "Text", told["unit"])
    yield Attribute("adjacency", "Text", told["adjacency"])
    yield Attribute("mechanism", "Text", found.source.mechanism)
    yield Attribute("noiseScale", "Number", found.scale)
    yield Attribute("trust", "Text", found.source.trust)


def _origin(found: DPStatistic) -> Iterator[Attribute]:
    source = found.source
    yield Attribute("city", "Text", source.city)
    yield Attribute("purpose", "Text", source.purpose)
    yield Attribute("programme", "Text", source.programme or None)
    yield Attribute("queryHash", "Text", source.query)
    yield Attribute("dataEpoch", "Number", source.epoch)
    yield Attribute("releaseId", "Text", source.release)
    yield Attribute("step", "Number", source.step)
    yield Attribute("logOrigin", "Text", source.proof.origin)
    yield Attribute("leafIndex", "Number", source.proof.index)
    yield Attribute("resultDigest", "Text", source.proof.result)


def _observed(found: DPStatistic) -> dt.datetime:
    if found.period is not None:
        return found.period.begin
    return dt.datetime.fromtimestamp(found.source.time, ZoneInfo(found.source.zone))


def times(found: DPStatistic) -> Iterator[Attribute]:
    """When: in UTC as DateTime, which is what a broker would make of it, and the local date and zone as texts."""
    observed = _observed(found)
    yield Attribute("dateObserved", "DateTime", utc(observed))
    if found.period is not None:
        yield Attribute("dateObservedFrom", "DateTime", utc(found.period.begin))
        yield Attribute("dateObservedTo", "DateTime", utc(found.period.end))
        yield Attribute("localFrom", "Text", local(found.period.begin))
        yield Attribute("localTo", "Text", local(found.period.end))
    yield Attribute("dateReleased", "DateTime", utc(found.source.time))
    yield Attribute("localDate", "Text", observed.date().isoformat())
    yield Attribute("timeZone", "Text", found.source.zone)


def geometry(found: DPStatistic) -> dict[str, object] | None:
    """The square of the mesh code among the keys, as GeoJSON; None where none is."""
    if found.mesh is None:
        return None
    try:
        south, west, north, east = mesh.bounds(found.mesh)
    except InvalidDataError:
        return None
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
