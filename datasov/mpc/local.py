"""Local trust: each device noises its own answer, and whoever adds the reports has to be trusted with nothing.

A resident's bounded answer to a frequency is one category (the cell that they count in) or none; to a mean it is a cell
and one end of the value's range, rounded at random so that the expectation is the value. The category travels by
optimal unary encoding (Wang, Blocki, Li and Jha 2017) or, where that would be too long, by Hadamard response (Acharya,
Sun and Zhang 2019). Between any two answers, none included, the probabilities of a report differ by at most e^epsilon:
docs/proofs/local.md.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError, VerificationError
from datasov.kernel.noise import respond
from datasov.model.estimates import check_confidence, unit_of
from datasov.model.plan import Plan
from datasov.model.privacy import NANO, Loss, check_loss
from datasov.model.release import key_columns
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic

MOST_UNARY = 1 << 16
"""Categories of the longest unary report, 8 KiB."""
MOST_CATEGORIES = 1 << 22
MOST_EPSILON = 16
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


def encoding(categories: int, loss: Loss) -> Encoding:
    """The encoding that errs least at this size: of those whose report is short enough, the least deviation.

    Unary encoding errs less than Hadamard response at any epsilon, by a variance of one for each report; it is bits
    as many as there are categories, where the other is their logarithm.

    Raises:
        InvalidQueryError: too many categories, or a loss that is not pure or beyond 16.
    """
    check_loss(loss)
    if loss.measure != "pure" or loss.nano > MOST_EPSILON * NANO:
        raise InvalidQueryError(f"local trust asks in pure epsilon, up to {MOST_EPSILON}: give ds.pure(epsilon=1)")
    if not 1 <= categories <= MOST_CATEGORIES:
        raise InvalidQueryError(f"local trust asks for at most {MOST_CATEGORIES:,} categories: use fewer keys")
    flip = min((1 + 1e-12) / (1 + math.exp(loss.nano / NANO)), 0.5)
    either = [Encoding("hadamard", categories, flip)]
    if categories <= MOST_UNARY:
        either.append(Encoding("unary", categories, flip))
    return min(either, key=lambda found: found.deviation(1))


def randomise(category: int | None, how: Encoding, loss: Loss) -> bytes:
    """A report of a category, or of none, drawn anew: `how.size` bytes.

    Nothing that is drawn depends on the category: it is applied to the draws.
    """
    if category is not None and not 0 <= category < how.categories:
        raise InvalidQueryError("no such category")
    if how.kind == "unary":
        bits = np.unpackbits(np.frombuffer(respond(bytes(how.size), how.flip, loss), np.uint8), bitorder="little")
        coin = respond(b"\0", 0.5, loss)[0] & 1
        if category is not None:
            bits[category] = coin
        return np.packbits(bits[: how.bits], bitorder="little").tobytes()
    row, drawn = 0 if category is None else category + 1, secrets.randbits(how.bits)
    flipped = respond(b"\0", how.flip, loss)[0] & 1
    if (row & drawn).bit_count() % 2 != flipped:
        drawn ^= row & -row
    return drawn.to_bytes(how.size, "little")


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


def tally(how: Encoding, reports: Sequence[bytes]) -> Tally:
    """The sum of reports.

    Raises:
        VerificationError: one is none of this encoding: check each with :func:`check` when it comes.
    """
    for report in reports:
        check(how, report)
    read = np.frombuffer(b"".join(reports), dtype=np.uint8).reshape(-1, how.size)
    if how.kind == "unary":
        supports = np.zeros(how.categories, dtype=np.int64)
        for start in range(0, len(read), 1024):
            bits = np.unpackbits(read[start : start + 1024], axis=1, count=how.bits, bitorder="little")
            supports += bits.sum(axis=0, dtype=np.int64)
        return Tally(how, supports, len(reports))
    words = np.zeros(len(read), dtype=np.int64)
    for place in range(how.size):
        words |= read[:, place].astype(np.int64) << (8 * place)
    sums = _transformed(np.bincount(words, minlength=1 << how.bits).astype(np.int64))
    return Tally(how, (len(reports) + sums[1 : how.categories + 1]) // 2, len(reports))


def check(how: Encoding, report: bytes) -> None:
    """Raise VerificationError unless the bytes are a report of this encoding."""
    if not isinstance(report, bytes) or len(report) != how.size or report[-1] >> ((how.bits - 1) % 8 + 1):
        raise VerificationError("not a report of this question: make it with the resident's vault")


def _transformed(values: Integers) -> Integers:
    """Sylvester's Hadamard matrix times the values (the fast Walsh-Hadamard transform)."""
    width = 1
    while width < len(values):
        pairs = values.reshape(-1, 2, width)
        values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        width *= 2
    return values


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


def fit(plan: Plan, loss: Loss) -> Fit:
    """What a question is under local trust.

    Raises:
        InvalidQueryError: it is no frequency, sum or mean of one item a resident, with the trust models that would do.
    """
    if plan.unknown or plan.top:
        raise _refused("it cannot look for unknown keys or the highest cells")
    counts = [i for i, s in enumerate(plan.statistics) if s.kind in ("count", "distinct")]
    totals = [i for i, s in enumerate(plan.statistics) if s.kind == "sum"]
    if len(counts) > 1 or len(totals) > 1 or len(counts) + len(totals) < len(plan.statistics):
        raise _refused("it answers one count, sum or mean at a time")
    if any(s.cuts or s.touched > 1 or s.most != _weight(s) for s in plan.statistics):
        raise _refused("a resident counts in one cell, with one item: bound(rows=1, keys=1), or per resident")
    if not totals:
        return Fit(encoding(plan.cells, loss), counts[0], None, 0, 0)
    total = plan.statistics[totals[0]]
    if counts and total.column and not total.per:
        column = plan.query.column(total.column)
        nullable = column.nullable or "." in total.column
        if nullable and plan.statistics[counts[0]].column != total.column:
            raise _refused("a count of all rows and a sum of those that have a value are two questions")
    low, high = total.low - total.centre, total.high - total.centre
    if low >= high or (not counts and not low <= 0 <= high):
        raise _refused("the range of a sum has two ends, with zero between them where no count is asked for")
    return Fit(encoding(2 * plan.cells, loss), counts[0] if counts else None, totals[0], low, high)


def _weight(statistic: Statistic) -> int:
    if statistic.kind != "sum":
        return 1
    return max(abs(statistic.low - statistic.centre), abs(statistic.high - statistic.centre), 1)


def _refused(why: str) -> InvalidQueryError:
    return InvalidQueryError(f"under local trust {why}: ask otherwise, or under two servers or central trust")


def frame(plan: Plan, found: Fit, added: Tally, confidence: float = 0.95) -> pl.DataFrame:
    """A row a key: value, low and high of each aggregate, as a release's frame has them; counts and sums are not whole.

    Each interval holds the exact bounded statistic with at least this probability over the devices' noise.
    """
    check_confidence(confidence)
    columns: list[pl.Series] = list(key_columns(plan.query, np.arange(plan.cells)))
    for aggregate in plan.query.aggregates:
        unit = unit_of(plan.query, aggregate)
        centre = plan.statistics[found.total].centre if found.total is not None else 0
        values: Sequence[npt.NDArray[Any]]
        if found.total is None:
            values = [added.estimates(), *added.intervals(confidence)]
        else:
            values = _of_ends(aggregate.kind, found, added, centre, confidence)
        names = (aggregate.name, aggregate.name + "_low", aggregate.name + "_high")
        columns += [pl.Series(n, v / (1 if aggregate.kind in ("count", "distinct") else unit))
                    for n, v in zip(names, values, strict=True)]  # fmt: skip
    return pl.DataFrame(columns)


def _of_ends(kind: str, found: Fit, added: Tally, centre: int, confidence: float) -> list[Floats]:
    """Count, sum or mean of cells from the two ends of each, and intervals that hold where those of both ends do."""
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
