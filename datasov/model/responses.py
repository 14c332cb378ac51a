"""What devices' noised answers say: how each travels, their sum, and the estimates that it gives (local trust).

Who makes and adds them is in `datasov.mpc.local`; why it costs what it says, in docs/proofs/local.md.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.model.aggregate import Aggregate
from datasov.model.estimates import Piece, check_confidence, unit_of
from datasov.model.query import Query
from datasov.model.shard import Integers
from datasov.model.statistics import ratio_box

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one of so many categories, or none, travels in a noised report.

    Attributes:
        flip: the chance with which a bit is flipped, a little above 1 / (1 + e^epsilon).
    """

    kind: Literal["unary", "hadamard"]
    categories: int
    flip: float

    @property
    def own(self) -> float:
        """The chance that a report supports the category that it was made of."""
        return 0.5 if self.kind == "unary" else 1 - self.flip

    @property
    def other(self) -> float:
        """The chance that it supports any other one; each one, where it was made of none."""
        return self.flip if self.kind == "unary" else 0.5

    @property
    def replace_one(self) -> float:
        """The loss between reports of two different categories: epsilon."""
        return math.log((1 - self.flip) / self.flip)

    @property
    def add_remove(self) -> float:
        """The loss between a report of a category and a null report: ln((1 + e^epsilon) / 2)."""
        return -math.log(2 * self.flip)

    @property
    def bits(self) -> int:
        """Bits of a report."""
        return self.categories if self.kind == "unary" else self.categories.bit_length()

    @property
    def size(self) -> int:
        """Bytes of a report."""
        return -(-self.bits // 8)

    def deviation(self, reports: int, share: float = 0.0) -> float:
        """The standard deviation of the estimated count of a category that this share of the reports is made of."""
        variances = [p * (1 - p) for p in (self.own, self.other)]
        spread = reports * (share * variances[0] + (1 - share) * variances[1])
        return math.sqrt(spread) / (self.own - self.other)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Reports added up.

    Attributes:
        supports: how many reports support each category; int64.
        reports: how many there are, null reports among them: public.
    """

    how: Encoding
    supports: Integers
    reports: int

    def estimates(self) -> Floats:
        """How many residents are of each category: unbiased, also below zero."""
        return (self.supports.astype(np.float64) - self.reports * self.how.other) / (self.how.own - self.how.other)

    def intervals(self, confidence: float) -> tuple[Floats, Floats]:
        """Low and high of each: each holds the true number with at least this probability, for any number of reports.

        Reports support a category independently, with differing chances; in its tails their sum is no likelier than
        the binomial of the same mean (Hoeffding 1956), whose tails are at most the normal's at the root of twice the
        divergence (Zubkov and Serov 2013). The ends are where that reaches the confidence.
        """
        check_confidence(confidence)
        z, n = NormalDist().inv_cdf((1 + confidence) / 2), self.reports
        if n == 0:
            return np.zeros(len(self.supports)), np.zeros(len(self.supports))
        high = _mean_above(self.supports.astype(np.float64) + 1, n, z)
        low = n - _mean_above(n - self.supports.astype(np.float64) + 1, n, z)
        ends = [(m - n * self.how.other) / (self.how.own - self.how.other) for m in (low, high)]
        return np.clip(ends[0], 0, n), np.clip(ends[1], 0, n)


def _mean_above(seen: Floats, n: int, z: float) -> Floats:
    """The greatest mean m of n trials that the tail up to `seen` does not exclude: 2 n KL(seen / n, m / n) = z^2."""
    share = np.minimum(seen / n, 1.0)
    low, high = share.copy(), np.ones_like(share)
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            one = np.where(share > 0, share * np.log(share / middle), 0.0)
            two = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - middle)), 0.0)
        outside = 2 * n * (one + two) > z * z
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return high * n


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan under local trust.

    Attributes:
        count, total: indices of the plan's statistics of items and of their sum; None: not asked for.
        low, high: the range of an item's value about its centre; both 0 without a sum.
    """

    how: Encoding
    count: int | None
    total: int | None
    low: int
    high: int

    def category(self, vectors: Sequence[Integers]) -> int | None:
        """The category of a resident's dense vectors, one a statistic, with the value rounded to one of its ends."""
        where = np.flatnonzero(vectors[self.total if self.count is None else self.count])  # type: ignore[index]
        if not len(where):
            return None
        cell = int(where[0])
        if self.total is None:
            return cell
        above = int(vectors[self.total][cell]) - self.low
        return 2 * cell + (secrets.randbelow(self.high - self.low) < above)


def of_ends(kind: str, found: Fit, added: Tally, centre: int, confidence: float) -> list[Floats]:
    """Count, sum or mean of cells, and intervals: of a sum or mean they hold where those of both its ends do."""
    if found.total is None:
        return [added.estimates(), *added.intervals(confidence)]
    value = added.estimates().reshape(-1, 2)
    low, high = (end.reshape(-1, 2) for end in added.intervals(1 - (1 - confidence) / 2))
    if kind in ("count", "distinct"):
        return [each.sum(axis=1) for each in (value, low, high)]
    least, most = found.low, found.high
    if kind == "sum":
        ends = np.array([least, most])
        small, large = np.where(ends < 0, high, low), np.where(ends < 0, low, high)
        return [each @ ends.astype(np.float64) for each in (value, small, large)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(value.sum(axis=1) >= 1, value[:, 1] / value.sum(axis=1), 0.5)
        ratios = [high_of / (high_of + other) for high_of, other in ((low[:, 1], high[:, 0]), (high[:, 1], low[:, 0]))]
    lower, upper = np.nan_to_num(ratios[0], nan=0.0), np.nan_to_num(ratios[1], nan=1.0)
    return [centre + least + np.clip(s, 0, 1) * (most - least) for s in (share, lower, upper)]


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """The local part of an answer: what the question is on a device, and the sum of the reports."""

    fit: Fit
    tally: Tally

    def document(self) -> dict[str, Any]:
        """All but the supports."""
        fit, how = self.fit, self.fit.how
        return {
            "encoding": [how.kind, how.categories, how.flip.hex()], "count": fit.count, "total": fit.total,
            "low": fit.low, "high": fit.high, "reports": self.tally.reports,
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any], supports: bytes) -> Responses:
        """The responses of :meth:`document` and the supports' little-endian words."""
        kind, categories, flip = doc["encoding"]
        how = Encoding(kind, categories, float.fromhex(flip))
        fit = Fit(how, doc["count"], doc["total"], doc["low"], doc["high"])
        return Responses(fit, Tally(how, np.frombuffer(supports, dtype="<i8"), doc["reports"]))


def columns(
    query: Query, aggregate: Aggregate, pieces: Sequence[Piece], found: Responses, confidence: float
) -> list[pl.Series]:
    """Value, low and high of an aggregate in each cell, in its column's unit: of devices' reports and noised vectors.

    Where there is noise beside the reports (a scale above zero), the two are independent and of different residents:
    values are added, and each of their intervals gets an equal part of what the confidence leaves (the union bound).
    """
    exact = any(noise.scale > 0 for *_, noise in pieces)
    unit = 1 if aggregate.kind in ("count", "distinct") else unit_of(query, aggregate)
    if aggregate.kind == "mean" and exact:
        ends = _mean(aggregate, pieces, found, confidence)
    elif aggregate.kind == "mean":
        ends = of_ends("mean", found.fit, found.tally, pieces[1][0].centre, confidence)
    else:
        ((_, value, noise),) = pieces
        each = 1 - (1 - confidence) / 2 if exact else confidence
        width = noise.half_width(each)
        own = of_ends(aggregate.kind, found.fit, found.tally, 0, each)
        ends = [value + own[0], value - width + own[1], value + width + own[2]]
    names = (aggregate.name, aggregate.name + "_low", aggregate.name + "_high")
    return [pl.Series(n, v / unit) for n, v in zip(names, ends, strict=True)]


def _mean(aggregate: Aggregate, pieces: Sequence[Piece], found: Responses, confidence: float) -> list[Floats]:
    """A mean over reports and noised vectors: four intervals of each cell hold together, and so does their box."""
    (_, count, count_noise), (statistic, total, total_noise) = pieces
    each = 1 - (1 - confidence) / 4
    widths = count_noise.half_width(each), total_noise.half_width(each)
    ends = np.array([found.fit.low, found.fit.high], dtype=np.float64)
    value = found.tally.estimates().reshape(-1, 2)
    low, high = (end.reshape(-1, 2) for end in found.tally.intervals(each))
    least, most = np.where(ends < 0, high, low) @ ends, np.where(ends < 0, low, high) @ ends
    centre, range_ = statistic.centre, (aggregate.low - statistic.centre, aggregate.high - statistic.centre)
    boxes = [
        ratio_box((t - widths[1] + a, t + widths[1] + b), (c - widths[0] + k, c + widths[0] + m), *range_)
        for t, c, a, b, k, m in zip(
            total.tolist(), count.tolist(), least.tolist(), most.tolist(), low.sum(axis=1).tolist(),
            high.sum(axis=1).tolist(), strict=True,
        )
    ]  # fmt: skip
    means = np.clip((total + value @ ends) / np.maximum(count + value.sum(axis=1), 1), *range_)
    return [means + centre, *(np.array(side, dtype=np.float64) + centre for side in zip(*boxes, strict=True))]
