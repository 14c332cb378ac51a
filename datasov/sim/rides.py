"""Shared and on-demand rides in six cities: the catalogue's table, and each city's own columns beside it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl

from datasov import catalogue
from datasov.catalogue import Label
from datasov.model.columns import Boolean, Category, Column
from datasov.model.schema import Schema
from datasov.sim.draw import check_size, choose, repeated, stream
from datasov.sim.simulation import RESIDENT, Simulation

MOST_RIDES = 8
FIRST, DAYS = np.datetime64("2027-06-01T00:00", "us"), 30

ASSUMPTIONS = (
    "Two thirds of the residents took one to eight shared or on-demand rides in June 2027.",
    "Shares of the services and of each city's own columns are this project's own; none is a statistic of a place.",
    "The columns stand for what such a city might add to the common table; no city's data model was at hand.",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A city that has columns of its own.

    Attributes:
        code: JIS X 0402 with its check digit. name: in ASCII letters, as a broker's ids need it.
        own: its columns; shares: how often each of their values comes, by column.
        services: how often each service is taken.
    """

    code: str
    name: str
    label: Label
    own: Mapping[str, Column]
    shares: Mapping[str, Mapping[str, float]]
    services: Mapping[str, float]


_SERVICES = ("volunteer", "on-demand-bus", "shared-taxi", "taxi", "car-share", "cycle-share")


def _place(code: str, name: str, label: Label, own: str, values: Mapping[str, float], *services: float) -> Place:
    type_: Column = Boolean() if set(values) == {"true", "false"} else Category(tuple(values))
    shares = MappingProxyType(dict(zip(_SERVICES, services, strict=True)))
    return Place(code, name, label, MappingProxyType({own: type_}), MappingProxyType({own: values}), shares)


PLACES = (
    _place(
        "011002", "sapporo", Label("Sapporo", "札幌市"), "road", {"dry": 0.5, "wet": 0.3, "snow": 0.2},
        0.08, 0.22, 0.1, 0.4, 0.1, 0.1,
    ),
    _place(
        "282103", "kakogawa", Label("Kakogawa", "加古川市"), "watched", {"true": 0.3, "false": 0.7},
        0.2, 0.35, 0.15, 0.2, 0.05, 0.05,
    ),
    _place(
        "372013", "takamatsu", Label("Takamatsu", "高松市"), "visitor", {"true": 0.25, "false": 0.75},
        0.08, 0.2, 0.12, 0.3, 0.1, 0.2,
    ),
    _place(
        "122173", "kashiwanoha", Label("Kashiwanoha (Kashiwa)", "柏の葉（柏市）"), "campus",
        {"station": 0.5, "university": 0.3, "park": 0.2}, 0.04, 0.2, 0.1, 0.2, 0.2, 0.26,
    ),
    _place(
        "072028", "aizu-wakamatsu", Label("Aizu-Wakamatsu", "会津若松市"), "booked",
        {"app": 0.3, "phone": 0.5, "counter": 0.2}, 0.25, 0.4, 0.15, 0.15, 0.03, 0.02,
    ),
    _place(
        "141003", "yokohama", Label("Yokohama", "横浜市"), "area",
        {"north": 0.35, "centre": 0.3, "coast": 0.2, "west": 0.15}, 0.05, 0.2, 0.15, 0.35, 0.15, 0.1,
    ),
)  # fmt: skip
"""Six cities of the public debate, each with one column of its own. Their columns and shares are made up."""


@functools.cache
def extension(name: str) -> Schema:
    """A city's own table of rides: the catalogue's columns, and its own after them."""
    place = next(p for p in PLACES if p.name == name)
    (own,) = place.own
    return catalogue.extend(catalogue.schema("rides"), columns=place.own, keys=[(own,), ("service", own)])


def on_demand(residents: int, seed: int, place: str | None = None) -> Simulation:
    """Rides of a month: the catalogue's `rides`, or a city's extension of it where `place` names one of :data:`PLACES`.

    Raises:
        InvalidQueryError: not a number of residents, or no seed.
    """
    check_size(residents, seed)
    rng = functools.partial(stream, seed, "on-demand", place)
    chosen = next((p for p in PLACES if p.name == place), None)
    takes = rng("takes").random(residents) < 2 / 3
    who, _ = repeated(np.where(takes, rng("rides").integers(1, MOST_RIDES + 1, residents), 0))
    n = len(who)
    minutes = rng("day").integers(0, DAYS, n) * 1440 + rng("minute").integers(6 * 60, 22 * 60, n)
    services = chosen.services if chosen else {"volunteer": 0.3, "on-demand-bus": 0.3, "shared-taxi": 0.2, "taxi": 0.2}
    paid = {"cash": 0.35, "card": 0.2, "code": 0.2, "points": 0.15, "pass": 0.1}
    rows = pl.DataFrame({
        RESIDENT: who, "at": FIRST + minutes.astype("timedelta64[m]"), "service": choose(rng("service"), services, n),
        "wait": rng("wait").gamma(2.0, 6.0, n).astype(np.int64).clip(0, 180), "aboard": rng("aboard").integers(1, 5, n),
        "paid_with": choose(rng("paid"), paid, n), "fare": rng("fare").integers(0, 13, n) * 100,
    })  # fmt: skip
    for name, shares in (chosen.shares if chosen else {}).items():
        drawn = choose(rng("own", name), shares, n)
        truth = chosen is not None and isinstance(chosen.own[name], Boolean)
        rows = rows.with_columns((drawn == "true" if truth else drawn).alias(name))
    schema = extension(chosen.name) if chosen else catalogue.schema("rides")
    return Simulation("on_demand", seed, residents, ((schema, rows),), ASSUMPTIONS, place=place or "")
