"""What noised vectors say of an aggregate: its value and interval in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model import quantiles
from datasov.model.aggregate import Aggregate
from datasov.model.columns import Decimal
from datasov.model.noise import Noise
from datasov.model.query import Query
from datasov.model.statistics import Statistic, ratio_box, ratio_interval, variance_interval

Piece = tuple[Statistic, npt.NDArray[np.int64], Noise]
Columns = list[npt.NDArray[Any]]


def check_confidence(confidence: float) -> None:
    """InvalidQueryError unless it is a confidence."""
    if not 0 < confidence <= 1 - 1e-9:
        raise InvalidQueryError("a confidence lies above 0 and at most at 1 - 1e-9: a usual choice is 0.95")


def unit_of(query: Query, aggregate: Aggregate) -> int:
    """Codes in one logical unit of an aggregate's column."""
    column = query.column(aggregate.column) if aggregate.column else None
    return 10**column.scale if isinstance(column, Decimal) else 1


def columns(query: Query, aggregate: Aggregate, pieces: Sequence[Piece], confidence: float) -> list[pl.Series]:
    """Value, low and high of an aggregate in each cell, in its column's unit."""
    unit = unit_of(query, aggregate)
    match aggregate.kind:
        case "mean":
            found = _mean(aggregate, pieces, confidence)
        case "variance" | "std":
            found = _variance(aggregate, pieces, confidence)
            unit = unit * unit if aggregate.kind == "variance" else unit
        case "quantile" | "rows" | "keys":
            found = _quantile(aggregate, pieces, confidence)
        case _:
            ((_, value, noise),) = pieces
            width = noise.half_width(confidence)
            found = [value, value - width, value + width]
    whole = unit == 1 and aggregate.kind in ("count", "sum", "distinct", "coverage")
    names = (aggregate.name, aggregate.name + "_low", aggregate.name + "_high")
    return [pl.Series(n, v if whole else v / unit) for n, v in zip(names, found, strict=True)]


def _mean(aggregate: Aggregate, pieces: Sequence[Piece], confidence: float) -> Columns:
    (_, count, count_noise), (statistic, total, total_noise) = pieces
    counts, totals, centre = count.astype(np.float64), total.astype(np.float64), statistic.centre
    low, high = aggregate.low - centre, aggregate.high - centre
    value = np.clip(totals / np.maximum(counts, 1), low, high)
    pairs = zip(totals.tolist(), counts.tolist(), strict=True)
    if total_noise.measure == "zcdp":
        ends = [
            ratio_interval(t, c, total_noise.deviation, count_noise.deviation, confidence, low, high) for t, c in pairs
        ]
    else:
        t_width, c_width = (n.half_width(1 - (1 - confidence) / 2) for n in (total_noise, count_noise))
        ends = [ratio_box((t - t_width, t + t_width), (c - c_width, c + c_width), low, high) for t, c in pairs]
    return [value + centre, *(np.array(side, dtype=np.float64) + centre for side in zip(*ends, strict=True))]


def _variance(aggregate: Aggregate, pieces: Sequence[Piece], confidence: float) -> Columns:
    """Of codes: the variance or its root, and the range of it over a box in which all three intervals hold."""
    vectors = [v.astype(np.float64) for _, v, _ in pieces]
    widths = [noise.half_width(1 - (1 - confidence) / 3) for *_, noise in pieces]
    most = ((aggregate.high - aggregate.low + 1) / 2) ** 2
    counts, totals, squares = (vectors[0].clip(1), vectors[1], vectors[2])
    value = np.clip(squares / counts - (totals / counts) ** 2, 0, most)
    boxes = [[(v - w, v + w) for v in vector.tolist()] for vector, w in zip(vectors, widths, strict=True)]
    ends = [variance_interval(c, t, q, most) for c, t, q in zip(*boxes, strict=True)]
    found: Columns = [value, *(np.array(side, dtype=np.float64) for side in zip(*ends, strict=True))]
    return [np.sqrt(c) for c in found] if aggregate.kind == "std" else found


def _quantile(aggregate: Aggregate, pieces: Sequence[Piece], confidence: float) -> Columns:
    cuts, vectors, noises = ([s.cuts for s, _, _ in pieces], [v for _, v, _ in pieces], [n for *_, n in pieces])
    bounds = aggregate.low, aggregate.high
    return list(quantiles.estimate(cuts, vectors, noises, float(aggregate.q), bounds, confidence))


def adjustable(aggregate: Aggregate) -> bool:
    """Whether the exact statistic cannot be negative."""
    return aggregate.kind in ("count", "distinct") or (aggregate.kind == "sum" and aggregate.low >= 0)


def adjusted(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Whole numbers of at least 0 with the same total (0 where that is negative), the nearest in L2 but for rounding.

    The projection onto a simplex (Duchi, Shalev-Shwartz, Singer and Chandra 2008), rounded by largest remainders.
    """
    total = max(int(values.sum()), 0)
    if total == 0:
        return np.zeros_like(values)
    descending = np.sort(values.astype(np.float64))[::-1]
    shift = (np.cumsum(descending) - total) / np.arange(1, len(values) + 1)
    shift = shift[np.flatnonzero(descending > shift)[-1]]
    exact = np.maximum(values - shift, 0)
    found: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = total - int(found.sum())
    order = np.argsort(found - exact, kind="stable")
    found[order[: max(missing, 0)]] += 1
    return found
