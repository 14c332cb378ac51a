"""A-city: residents over 70, their appointments, volunteer rides and a local point currency, for three months."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov import catalogue
from datasov.model.columns import Category
from datasov.model.derived import Exists
from datasov.model.predicate import col
from datasov.model.schema import Schema
from datasov.sim.draw import Whole, check_size, choose, either, repeated, stream
from datasov.sim.simulation import RESIDENT, Simulation

WARDS = ("station", "market", "riverside", "harbour", "terraces", "hillside")
"""From the hospital outwards."""
MISSED = (0.07, 0.09, 0.11, 0.14, 0.20, 0.26)
"""By ward: how often an appointment in person is missed by somebody who has had no volunteer ride lately."""
RIDES_HELP, REMOTE_HELPS = 0.45, 0.4
"""By what the chance of a miss is multiplied: after a volunteer ride within 30 days; for remote care."""
MOST_VISITS = 6
FIRST_DAY, DAYS = np.datetime64("2027-04-01T00:00", "us"), 91
DEPARTMENTS = {"internal": 0.5, "orthopaedics": 0.2, "ophthalmology": 0.2, "other": 0.1}

ASSUMPTIONS = (
    "Three of four residents over 70 without a car gave up their licence; shares by age band fall as in any old town.",
    "Missed appointments: 7 to 26 in 100 by ward, the more the farther from the hospital.",
    "Two of five use volunteer rides, about two a month; those who live farther out use them more.",
    "A volunteer ride within 30 days multiplies the chance of a miss by 0.45, remote care by 0.4: set by hand.",
    "All numbers are this project's own, chosen to be plausible; none is a statistic of a place.",
)


@functools.cache
def visits() -> Schema:
    """The catalogue's visits with the ward, and what the vault derives from rides and points of the 30 days before."""
    rides, points = catalogue.schema("rides"), catalogue.schema("local_points")
    spent = (col("movement") == "spent") & (col("reason") == "ride")
    return catalogue.extend(
        catalogue.schema("visits"),
        columns={
            "ward": Category(WARDS),
            "rider": Exists(rides, at="at", other="at", before="30d", where=col("service") == "volunteer"),
            "by_points": Exists(points, at="at", other="at", before="30d", where=spent),
        },
        keys=[("ward",)],
    )


def ageing(residents: int, seed: int) -> Simulation:
    """A-city: `visits`, `rides`, `local_points`, `driving`, `resident_register`.

    `truth["visits"]` has each visit with the derived columns and `driving.licence`, `resident_register.age_band`.

    Raises:
        InvalidQueryError: not a number of residents, or no seed.
    """
    check_size(residents, seed)
    rng = functools.partial(stream, seed, "ageing")
    ward = rng("ward").choice(len(WARDS), residents, p=[0.24, 0.22, 0.18, 0.14, 0.12, 0.10])
    uses = rng("uses").random(residents) < np.array([0.28, 0.32, 0.38, 0.44, 0.54, 0.60])[ward]
    rides, points = _rides(rng("rides"), np.where(uses, rng("rides.count").poisson(8.0, residents), 0))
    people = _people(rng, residents)
    booked, shown = _visits(rng, ward, rides, points, people)
    return Simulation(
        "ageing", seed, residents,
        (
            (visits(), booked), (catalogue.schema("rides"), rides), (catalogue.schema("local_points"), points),
            (catalogue.schema("driving"), people.select(RESIDENT, "licence", "returned_year", "cars", "stop")),
            (catalogue.schema("resident_register"), people.drop("licence", "returned_year", "cars", "stop")),
        ),
        ASSUMPTIONS, {"visits": shown},
    )  # fmt: skip


def _people(rng: functools.partial[np.random.Generator], n: int) -> pl.DataFrame:
    licence = choose(rng("licence"), {"returned": 0.75, "never": 0.17, "held": 0.05, "lapsed": 0.03}, n)
    year = pl.Series(rng("year").integers(2024, 2027, n)).cast(pl.String)
    return pl.DataFrame({
        RESIDENT: np.arange(n, dtype=np.int64), "licence": licence,
        "returned_year": pl.select(pl.when(licence == "returned").then(year)).to_series(),
        "cars": choose(rng("cars"), {"0": 0.55, "1": 0.37, "2": 0.08}, n), "stop": rng("stop").integers(2, 31, n),
        "age_band": choose(rng("age"), {"70-74": 0.15, "75-79": 0.37, "80-84": 0.28, "85+": 0.2}, n),
        "sex": choose(rng("sex"), {"1": 0.41, "2": 0.59}, n),
        "household": choose(rng("household"), {"1": 0.34, "2": 0.46, "3": 0.14, "4": 0.06}, n),
        "place_in": choose(rng("place"), {"head": 0.6, "spouse": 0.28, "parent": 0.12}, n),
        "arrival": ["10+"] * n, "origin": ["same"] * n, "card": rng("card").random(n) < 0.75,
    })  # fmt: skip


def _at(rng: np.random.Generator, n: int, before: int = 0) -> npt.NDArray[np.datetime64]:
    """Times within opening hours, on the half hour, from so many days before the first one."""
    minutes = rng.integers(-before, DAYS, n) * 1440 + 540 + rng.integers(0, 15, n) * 30
    return FIRST_DAY + minutes.astype("timedelta64[m]")


def _rides(rng: np.random.Generator, counts: Whole) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Volunteer rides of those who use them and the points that they cost."""
    who, _ = repeated(counts)
    n = len(who)
    service, paid = choose(rng, {"volunteer": 0.85, "taxi": 0.1, "on-demand-bus": 0.05}, n), rng.random(n) < 0.55
    by_points = pl.Series(paid) & (service == "volunteer")
    rides = pl.DataFrame({
        RESIDENT: who, "at": _at(rng, n, before=30), "service": service, "wait": rng.integers(0, 41, n),
        "aboard": rng.integers(1, 4, n),
        "paid_with": either(by_points, "points", "cash"),
        "fare": either(by_points, 0, 300),
    }).sort(RESIDENT, "at", maintain_order=True)  # fmt: skip
    spent = rides.filter(paid_with="points").select(
        RESIDENT, "at", movement=pl.lit("spent"), reason=pl.lit("ride"), points=pl.lit(300, dtype=pl.Int64)
    )
    return rides, spent


def _visits(
    rng: functools.partial[np.random.Generator], ward: Whole, rides: pl.DataFrame, points: pl.DataFrame,
    people: pl.DataFrame,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """The visits as they are put, and with what the vaults derive and join."""
    who, _ = repeated(np.clip(1 + rng("visits.count").poisson(2.6, len(ward)), 1, MOST_VISITS))
    n = len(who)
    at = _at(rng("visits.at"), n)
    rider = within(who, at, rides.filter(service="volunteer"), days=30)
    form = choose(rng("form"), {"in-person": 0.84, "remote": 0.13, "home": 0.03}, n)
    chance = np.array(MISSED)[ward[who]] * np.where(rider, RIDES_HELP, 1.0)
    chance = chance * np.where(form == "remote", REMOTE_HELPS, 1.0)
    drawn = rng("kept").random(n)
    other = choose(rng("other"), {"kept": 0.9, "moved": 0.06, "walk-in": 0.04}, n)
    kept = pl.select(pl.when(pl.Series(drawn < chance)).then(pl.lit("missed")).otherwise(other)).to_series()
    rows = pl.DataFrame({
        RESIDENT: who, "at": at,
        "department": choose(rng("department"), DEPARTMENTS, n),
        "form": form, "kept": kept, "wait": rng("wait").integers(0, 91, n), "travel": rng("travel").integers(5, 76, n),
        "own_share": rng("share").integers(2, 40, n) * 100, "ward": pl.Series(WARDS).gather(ward[who]),
    })  # fmt: skip
    rows = rows.with_columns(pl.when(pl.col("kept") != "missed").then("wait").alias("wait"))
    joined = people.select(
        RESIDENT, pl.col("licence").alias("driving.licence"), pl.col("age_band").alias("resident_register.age_band")
    )
    shown = rows.with_columns(
        rider=pl.Series(rider), by_points=pl.Series(within(who, at, points, days=30))
    ).join(joined, on=RESIDENT, how="left", validate="m:1", maintain_order="left")  # fmt: skip
    return rows, shown


def within(who: Whole, at: npt.NDArray[np.datetime64], events: pl.DataFrame, *, days: int) -> npt.NDArray[np.bool_]:
    """Whether a resident has an event in the days before a time, both ends included: `ds.Exists`, vectorised."""
    wide = 1 << 42
    there = np.sort(events[RESIDENT].to_numpy() * wide + _seconds(events["at"].to_numpy()))
    here = who * wide + _seconds(at)
    last = np.searchsorted(there, here, side="right") - 1
    latest = there[np.maximum(last, 0)] if len(there) else np.zeros_like(here)
    # Seconds are far below `wide`, so that an event of the resident before is always too early.
    found: npt.NDArray[np.bool_] = (last >= 0) & (latest >= here - days * 86_400)
    return found


def _seconds(times: npt.NDArray[np.datetime64]) -> Whole:
    return times.astype("datetime64[s]").astype(np.int64)
