"""A council and an assembly whose keys tests hold, and the documents that they sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov.authority import approval
from datasov.authority.approval import Signed
from datasov.crypto.sign import SigningKey
from datasov.model.charter import CHARTER, DAY, Charter, Group, Member
from datasov.model.consent import Coverage
from datasov.model.privacy import Loss
from datasov.model.programme import PROGRAMME, Programme
from datasov.model.template import Allowed, Template
from tests.helpers import NOW, PURPOSE, TRIPS, found_city, key_of

COUNCIL = tuple(f"council {n}" for n in range(5))
ASSEMBLY = tuple(f"resident {n}" for n in range(7))
ORDINARY = (*COUNCIL[:3], *ASSEMBLY[:4])
"""Enough for an ordinary approval, and one fewer in each group than an emergency needs."""
URGENT = (*COUNCIL[:4], *ASSEMBLY[:6])
BASE = ds.query(TRIPS).keys("district").bound(rows=5, keys=2)
COUNTS = BASE.count().distinct()


def members(names: Iterable[str]) -> tuple[Member, ...]:
    return tuple(Member(n, key_of(n).public) for n in names)


def charter_for(city: ds.City, /, **changed: Any) -> Charter:
    """Council 3 of 5 (4 in an emergency), assembly 4 of 7 (6); three days of notice; nothing left open."""
    values: dict[str, Any] = {
        "city": str(city.id), "version": 1, "issued": NOW - 10, "expires": NOW + 1000 * DAY,
        "council": Group(members(COUNCIL), 3, 4), "assembly": Group(members(ASSEMBLY), 4, 6),
        "emergency_days": 7, "notice_days": 3, "open": (), "operators": (Member("operator", city.id.verify_key),),
    }  # fmt: skip
    return Charter(**{**values, **changed})


def programme_for(city: ds.City, **changed: Any) -> Programme:
    """Counts by district of TRIPS, at most 0.01 each, 0.04 in all, 0.02 in 30 days."""
    values: dict[str, Any] = {
        "city": str(city.id), "charter": 1, "name": "buses", "version": 1, "purpose": PURPOSE, "issued": NOW - 5,
        "not_before": NOW, "expires": NOW + 200 * DAY, "emergency": False,
        "tables": (Coverage("trips", TRIPS.digest, ("district", "km")),), "question": None,
        "template": TEMPLATE, "mechanisms": ("discrete Gaussian",), "trust": ("central",),
        "largest": ds.zcdp(rho="0.01"), "total": ds.zcdp(rho="0.04"), "period_days": 30,
        "period": ds.zcdp(rho="0.02"), "cohort": 0, "processing": "JP", "retention_days": 100,
    }  # fmt: skip
    return Programme(**{**values, **changed})


TEMPLATE = Template(
    keys=(ds.Key("district"),), aggregates=(Allowed("count"), Allowed("distinct"), Allowed("sum", "km")),
    where=("km",), derived=(), rows=5, bound_keys=2,
)  # fmt: skip


def signed(document: Charter | Programme, by: Iterable[str | SigningKey] = ORDINARY) -> Signed:
    kind = CHARTER if isinstance(document, Charter) else PROGRAMME
    text = document.document()
    keys = [key_of(k) if isinstance(k, str) else k for k in by]
    return approval.signed(kind, text, [approval.sign(kind, text, k) for k in keys])


def urgent_for(city: ds.City, **changed: Any) -> Programme:
    """An emergency of five days from now."""
    values: dict[str, Any] = {"name": "flood", "emergency": True, "issued": NOW, "expires": NOW + 5 * DAY}
    return replace(programme_for(city), **{**values, **changed})


def governed_city(folder: Path, clock: Callable[[], float], **changed: Any) -> ds.City:
    """A city under a charter; `changed` of the charter."""
    city = found_city(folder, clock, processing="JP-25")
    city.adopt(signed(charter_for(city, **changed)))
    return city


def release(city: ds.City, query: ds.Query = COUNTS, loss: Loss | None = None, **given: Any) -> ds.Release:
    return city.release(query, loss=loss or ds.zcdp(rho="0.01"), purpose=given.pop("purpose", PURPOSE), **given)


Errors = type[Exception] | tuple[type[Exception], ...]


def unchanged(city: ds.City, work: Callable[[], Any], error: Errors, match: str | None = None) -> None:
    """`work` is refused, and neither the budget, the governance nor the log moved."""

    def state() -> tuple[Any, ...]:
        streams = (city._store.length(n) for n in ("governance", "log", "ledger", "releases"))
        return *streams, city.remaining, city.charter

    before = state()
    with pytest.raises(error, match=match):
        work()
    assert state() == before


def unchanged_but_ticks(city: ds.City, work: Callable[[], Any], error: Errors, match: str | None = None) -> None:
    city.tick()
    unchanged(city, work, error, match)
