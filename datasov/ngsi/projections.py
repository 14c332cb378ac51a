"""Projections onto two Smart Data Models. They say less than the DPStatistic whose id they name: read that for noise.

Rounding and clamping happen here alone, and they bias: a mean of clamped counts is too high where counts are small.
"""

from __future__ import annotations

from datasov.errors import InvalidQueryError
from datasov.ngsi.describe import geometry, times
from datasov.ngsi.entity import Attribute, Entity
from datasov.ngsi.periods import Period
from datasov.ngsi.statistic import By, DPStatistic

PEOPLE = ("count", "distinct", "coverage")
_FREQUENCIES = {3600: "H", 86_400: "D", 7 * 86_400: "W"}


def crowd_flow(found: DPStatistic, by: By = "release") -> Entity | None:
    """dataModel.Transportation CrowdFlowObserved: `peopleCount` is the value, rounded, and 0 where that is negative.

    None where the cell was withheld.

    Raises:
        InvalidQueryError: the number counts neither residents nor rows.
    """
    if found.kind not in PEOPLE:
        raise InvalidQueryError("peopleCount counts people: project a distinct(), a coverage() or a count()")
    if found.value is None:
        return None
    wanted = ("dateObserved", "dateObservedFrom", "dateObservedTo")
    place = geometry(found)
    return Entity(
        found.identifier(by, "CrowdFlowObserved"), "CrowdFlowObserved",
        (
            *(a for a in times(found) if a.name in wanted),
            Attribute("peopleCount", "Number", max(0, round(found.value))),
            *([] if place is None else [Attribute("location", "geo:json", place)]),
            Attribute("dataProvider", "Text", found.source.city),
            Attribute("seeAlso", "StructuredValue", [found.identifier(by)]),
        ),
    )  # fmt: skip


def observation(found: DPStatistic, by: By = "release") -> Entity:
    """SDMX Observation: `obsValue` is the value as released, `obsStatus` E (estimated), or Q where it was withheld."""
    identity = found.identifier(by, "Observation")
    names = [("statistic", found.name), ("unit", found.unit)]
    dimensions = [*names, *((column, "" if value is None else str(value)) for _, column, value in found.keys)]
    value = [] if found.value is None else [Attribute("obsValue", "Number", found.value)]
    period = [] if found.period is None else [Attribute("timePeriod", "Text", _range(found.period))]
    length = None if found.period is None else int((found.period.end - found.period.begin).total_seconds())
    freq = _FREQUENCIES.get(length) if length is not None else None
    return Entity(
        identity, "Observation",
        (
            Attribute("title", "Text", identity), Attribute("identifier", "Text", found.source.query),
            Attribute("dimensions", "StructuredValue", [{"key": k, "value": v} for k, v in dimensions]),
            *value, *period,
            *([] if freq is None else [Attribute("freq", "Text", freq)]),
            Attribute("obsStatus", "Text", "Q" if found.value is None else "E"),
            Attribute("confStatus", "Text", "F"),
            Attribute("dataProvider", "Text", found.source.city),
            Attribute("seeAlso", "StructuredValue", [found.identifier(by)]),
        ),
    )  # fmt: skip


def _range(period: Period) -> str:
    """An ISO 8601 interval in local time, as SDMX's time ranges are written: the beginning and the length."""
    seconds = int((period.end - period.begin).total_seconds())
    days, rest = divmod(seconds, 86_400)
    length = "P" + (f"{days}D" if days else "") + (f"T{rest}S" if rest else "")
    return f"{period.begin.replace(tzinfo=None).isoformat()}/{length}"
