"""Statistics and their intervals: what a released vector means, and how far noise may have moved it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

StatisticKind: TypeAlias = Literal["count", "sum", "square", "distinct", "coverage", "rows", "keys"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One noised vector of a plan.

    Attributes:
        kind: items, the sum of their values, of their squares, or residents, in each cell; for the whole question,
            residents (coverage), the most rows of a resident in one key, or their keys.
        column: the column summed; for a count, the column whose nulls are left out ("" for all rows).
        low, high: values are clipped to [low, high] before they are added.
        centre: public code subtracted from each clipped value before it is squared or added.
        most, touched: one resident moves a cell by at most `most`, and the whole vector by at most most * touched in
            L1 and most * sqrt(touched) in L2 (docs/proofs/bounded-map.md).
        per: what is one item, as in an aggregate.
        cuts: inner edges of a histogram: the vector then has len(cuts) + 1 entries a cell, and counts items.
    """

    kind: StatisticKind
    column: str
    low: int
    high: int
    centre: int
    most: int
    touched: int
    per: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()

    @property
    def l1_sensitivity(self) -> int:
        return self.most * self.touched

    @property
    def squared_sensitivity(self) -> int:
        """The square of the L2 sensitivity."""
        return self.most * self.most * self.touched

    @property
    def whole(self) -> bool:
        """Whether it has one cell, for the whole question."""
        return self.kind in ("coverage", "rows", "keys")

    @property
    def width(self) -> int:
        """Entries a cell."""
        return len(self.cuts) + 1

    def size(self, cells: int) -> int:
        """Entries of the vector of a question with so many cells."""
        return self.width * (1 if self.whole else cells)

    def document(self) -> list[Any]:
        return [
            self.kind, self.column, self.low, self.high, self.centre, self.most, self.touched, list(self.per),
            list(self.cuts),
        ]  # fmt: skip

    @staticmethod
    def from_document(doc: Sequence[Any]) -> Statistic:
        kind, column, low, high, centre, most, touched, per, cuts = doc
        return Statistic(kind, column, low, high, centre, most, touched, tuple(per), tuple(cuts))


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


def ratio_box(top: tuple[float, float], bottom: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """The range of t / b, known to lie in [low, high], over a box of intervals; all of it where b may be below 1."""
    if bottom[0] < 1:
        return low, high
    ratios = [t / b for t in top for b in bottom]
    return min(max(min(ratios), low), high), max(min(max(ratios), high), low)


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
