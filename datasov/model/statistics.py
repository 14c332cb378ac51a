"""Statistics and their intervals: what a released vector means, and how far noise may have moved it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

StatisticKind: TypeAlias = Literal["count", "sum", "square", "distinct"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One noised vector of a plan.

    Attributes:
        kind: rows, sum of codes, sum of their squares, or residents, in each cell.
        column: the column summed; for a count, the column whose nulls are left out ("" for all rows).
        low, high: codes are clipped to [low, high] before they are added.
        centre: public code subtracted from each clipped code before it is squared or added.
        squared_sensitivity: squared L2 distance that one resident can move the vector by (docs/proofs/bounded-map.md).
    """

    kind: StatisticKind
    column: str
    low: int
    high: int
    centre: int
    squared_sensitivity: int


@functools.lru_cache(maxsize=4096)
def half_width(sigma: float, confidence: float) -> int:
    """The least whole t with P(|Z| <= t) >= confidence for Z from the discrete Gaussian with parameter sigma.

    The probability mass is proportional to exp(-z^2 / (2 sigma^2)) over the integers (Canonne, Kamath and Steinke
    2020). It is summed term by term up to sigma = 1000. Above, t = ceil(z sigma) + 1 for the normal z: the two
    distribution functions then differ by far less than the mass of that last step.
    """
    if sigma <= 0:
        return 0
    if sigma > 1000:
        return math.ceil(NormalDist().inv_cdf((1 + confidence) / 2) * sigma) + 1
    last = math.ceil(12 * sigma) + 1
    mass = [math.exp(-(z * z) / (2 * sigma * sigma)) for z in range(last + 1)]
    total = mass[0] + 2 * math.fsum(mass[1:])
    tail = 2 * math.fsum(mass[1:])
    t = 0
    while tail > (1 - confidence) * total:
        t += 1
        tail -= 2 * mass[t]
    return t


def ratio_interval(
    top: float, bottom: float, sigma_top: float, sigma_bottom: float, confidence: float, low: float, high: float
) -> tuple[float, float]:
    """An interval for t / b, known to lie in [low, high], from noisy t and b (Fieller 1954).

    All m with (top - m bottom)^2 <= q(m)^2, where q(m) = z sqrt(sigma_top^2 + m^2 sigma_bottom^2) + (1 + |m|) / 2: the
    noise of top - m bottom, with half a step of each lattice added because the noise is discrete. Where the set is
    unbounded or leaves [low, high], the end of [low, high] stands.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def inside(m: float) -> bool:
        margin = z * math.hypot(sigma_top, m * sigma_bottom) + (1 + abs(m)) / 2
        return abs(top - m * bottom) <= margin

    middle = min(max(top / bottom, low), high) if bottom > 0 else None
    if middle is None or not inside(middle):
        return low, high
    return _edge(inside, middle, low), _edge(inside, middle, high)


def _edge(inside: Callable[[float], bool], middle: float, end: float) -> float:
    """The outermost m between middle (inside) and end that bisection finds inside; rounded outwards."""
    if inside(end):
        return end
    inner, outer = middle, end
    for _ in range(60):
        half = (inner + outer) / 2
        if inside(half):
            inner = half
        else:
            outer = half
    return outer


def variance_interval(
    count: tuple[float, float], total: tuple[float, float], square: tuple[float, float], most: float
) -> tuple[float, float]:
    """The range of square / count - (total / count)^2, cut to [0, most], over a box of intervals.

    Where the three intervals hold together with some probability, so does this one (Bonferroni's box). A count below 1
    leaves all of [0, most] open.
    """
    if count[0] < 1:
        return 0.0, most
    means = [t / c for t in total for c in count]
    least_mean = 0.0 if total[0] <= 0 <= total[1] else min(abs(m) for m in means)
    most_mean = max(abs(m) for m in means)
    low = min(square[0] / c for c in count) - most_mean**2
    high = max(square[1] / c for c in count) - least_mean**2
    return min(max(low, 0.0), most), max(min(high, most), 0.0)
