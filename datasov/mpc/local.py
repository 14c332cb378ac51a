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

import numpy as np
import polars as pl

from datasov.errors import InvalidQueryError, VerificationError
from datasov.kernel.noise import respond
from datasov.model.estimates import check_confidence
from datasov.model.noise import Noise
from datasov.model.plan import Plan
from datasov.model.privacy import NANO, Loss, check_loss
from datasov.model.release import key_columns
from datasov.model.responses import Encoding, Fit, Responses, Tally, columns
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic

__all__ = ["Encoding", "Fit", "Responses", "Tally", "check", "encoding", "fit", "frame", "randomise", "tally"]

MOST_UNARY = 1 << 16
"""Categories of the longest unary report, 8 KiB."""
MOST_CATEGORIES = 1 << 22
MOST_EPSILON = 16


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
    nothing = [(s, np.zeros(s.size(plan.cells), dtype=np.int64), Noise(0.0, "pure")) for s in plan.statistics]
    parts = zip(plan.query.aggregates, plan.parts, strict=True)
    own = Responses(found, added)
    each = (columns(plan.query, a, [nothing[i] for i in part], own, confidence) for a, part in parts)
    return pl.DataFrame([*key_columns(plan.query, np.arange(plan.cells)), *(c for three in each for c in three)])
