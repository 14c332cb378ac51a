"""Gates and cameras that count without a person's id: each resident of the simulation is one device on one day."""

from __future__ import annotations

import functools

import numpy as np
import polars as pl

from datasov.model.columns import Category, Integer
from datasov.model.schema import Schema
from datasov.sim.draw import check_size, repeated, stream
from datasov.sim.simulation import RESIDENT, Simulation

PLACES = ("station", "shopping-street", "park")
HOURS = tuple(f"{h:02}" for h in range(24))
DAYS, MOST = 10, 300
"""Days that a device counts, and what a question counts of one hour of one device at most."""

_SHAPES = {
    "station": [2, 1, 1, 1, 3, 20, 60, 150, 200, 120, 70, 65, 80, 75, 65, 75, 95, 150, 190, 140, 90, 60, 35, 12],
    "shopping-street": [1, 1, 1, 1, 1, 3, 8, 18, 30, 50, 85, 110, 125, 120, 115, 120, 125, 120, 95, 60, 35, 18, 8, 3],
    "park": [1, 1, 1, 1, 4, 18, 30, 28, 25, 30, 38, 40, 32, 35, 45, 55, 52, 38, 22, 12, 8, 5, 3, 2],
}

ASSUMPTIONS = (
    "A third of the devices stands at stations, shopping streets and parks each; each counts ten days, every hour.",
    "Counts by hour are Poisson around a curve of the place, which a device's own factor and the weekend move.",
    "Each device writes a row for every hour, also of 0: so no count changes which rows a bound keeps.",
    "All numbers are this project's own, chosen to be plausible; none is a statistic of a place.",
)


@functools.cache
def passages() -> Schema:
    """People counted at a gate in an hour; a row for each of the day's hours. No picture, no person, no identifier."""
    return Schema(
        "passages", domain="mobility",
        columns={"place": Category(PLACES), "hour": Category(HOURS), "people": Integer(0, 5_000, unit="person")},
        keys=[("place", "hour"), ("place",)],
    )  # fmt: skip


def gates(residents: int, seed: int) -> Simulation:
    """Device-days: `passages`. `truth["devices"]` says which device and which day each one is.

    Args:
        residents: device-days; number i is device i // 10 on its day i % 10.

    Raises:
        InvalidQueryError: not a number of them, or no seed.
    """
    check_size(residents, seed)
    rng = functools.partial(stream, seed, "gates")
    number = np.arange(residents, dtype=np.int64)
    device, day = number // DAYS, number % DAYS
    factor = rng("factor").lognormal(0.0, 0.35, int(device[-1]) + 1)
    who, at = repeated(np.full(residents, 24))
    place = device[who] % len(PLACES)
    curve = np.array([_SHAPES[p] for p in PLACES], dtype=float)[place, at]
    weekend = np.isin(day[who], (5, 6))
    curve = curve * factor[device[who]] * np.where(weekend, np.array([0.6, 1.3, 1.5])[place], 1.0)
    people = np.minimum(rng("people").poisson(curve), 5_000)
    rows = pl.DataFrame({
        RESIDENT: who, "place": pl.Series(PLACES).gather(place), "hour": pl.Series(HOURS).gather(at), "people": people,
    })  # fmt: skip
    return Simulation(
        "gates", seed, residents, ((passages(), rows),), ASSUMPTIONS,
        {"devices": pl.DataFrame({RESIDENT: number, "device": device, "day": day})}, unit="device-days",
    )  # fmt: skip
