"""Drawing from a seed: one stream for each thing that is drawn, so that a new column moves no other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError

Whole: TypeAlias = npt.NDArray[np.int64]

MAX_RESIDENTS = 10_000_000
"""Of one simulation: what one machine holds in memory."""


def check_size(residents: object, seed: object) -> None:
    """Raise InvalidQueryError unless both are whole numbers that a generator takes."""
    for name, value, low, high in (("residents", residents, 1, MAX_RESIDENTS), ("seed", seed, 0, 2**63 - 1)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidQueryError(f"{name} is a whole number from {low} to {high}")


def stream(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for what the names say, from the seed of the whole."""
    text = "\x00".join(["datasov sim v1", str(seed), *map(str, names)])
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")))


def choose(rng: np.random.Generator, shares: Mapping[str, float], size: int) -> pl.Series:
    """So many of the names, each as often as its share says."""
    names, weights = list(shares), np.array(list(shares.values()), dtype=float)
    return pl.Series(names, dtype=pl.String).gather(rng.choice(len(names), size, p=weights / weights.sum()))


def either(mask: npt.NDArray[np.bool_] | pl.Series, yes: object, no: object) -> pl.Series:
    """One value where a mask holds, and the other elsewhere."""
    return pl.select(pl.when(pl.Series(mask)).then(pl.lit(yes)).otherwise(pl.lit(no))).to_series()


def repeated(counts: Whole) -> tuple[Whole, Whole]:
    """For each of counts[i] rows of resident i: the resident, and which of theirs it is, from 0."""
    who = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return who, np.arange(len(who), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
