"""Rows to bounded integer vectors, in Polars: one filter and one group_by over a shard.

Every step treats a resident's rows by that resident's own rows and their stored ranks alone, so that a resident's part
of the result does not depend on anybody else's rows (docs/proofs/bounded-map.md, lemma 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InternalError
from datasov.kernel.plan import MAX_WEIGHT, Axis, Plan
from datasov.model.expression import expression
from datasov.model.privacy import NANO, Loss
from datasov.model.statistics import Statistic

RESIDENT, PAIR, ROW = "_resident", "_pair:", "_row:"
"""Column names of a shard beside the data: the resident's place in the shard, and two ranks for each index."""

Integers = npt.NDArray[np.int64]
MAX_PART = (1 << 52) // MAX_WEIGHT
"""Residents in one shard, at most."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The pooled rows of the residents `first` .. `first + residents - 1` of one account list.

    Attributes:
        rows: codes; RESIDENT (place in the shard, ascending); PAIR + index and ROW + index ranks. `order` is the index
            by whose ranks the rows lie within a resident.
        profiles: joined columns `table.column`, one row a resident of the shard, or None.
    """

    first: int
    residents: int
    rows: pl.DataFrame
    profiles: pl.DataFrame | None
    order: str


class Exact:
    """Exact totals, shape (statistics, cells). The repr is redacted, and only the kernel reads `_values`."""

    __slots__ = ("_values",)

    def __init__(self, values: Integers) -> None:
        self._values = values

    def __repr__(self) -> str:
        return "Exact(redacted)"

    __str__ = __repr__


class Part:
    """A shard's residents' bounded vectors, by pair of (resident, cell). Private: the repr is redacted.

    `resident` (place in the shard), `cell`, and each of `values` (one a statistic, int64) have one length; no pair
    stands twice.
    """

    __slots__ = ("cell", "first", "resident", "residents", "values")

    def __init__(self, shard: Shard, resident: Integers, cell: Integers, values: Sequence[Integers]) -> None:
        self.first, self.residents = shard.first, shard.residents
        self.resident, self.cell, self.values = resident, cell, values

    def __repr__(self) -> str:
        return "Part(redacted)"


def contribute(plan: Plan, shard: Shard, eligible: npt.NDArray[np.bool_]) -> Part:
    """The bounded vectors of a shard's residents for whom `eligible` (length `shard.residents`) is true."""
    if not eligible.any():
        none = np.zeros(0, dtype=np.int64)
        return Part(shard, none, none, [none for _ in plan.statistics])
    needed = plan.query.columns() | {RESIDENT, PAIR + plan.index, ROW + plan.index}
    rows = shard.rows.select(n for n in shard.rows.columns if n in needed)
    if not eligible.all():
        rows = rows.filter(pl.Series(eligible[rows[RESIDENT].to_numpy()]))
    if plan.query.predicate is None:
        kept, starts = _with_profiles(plan, shard, rows.filter(_bound(plan))), None
        if plan.index == shard.order:
            starts = np.flatnonzero(kept[ROW + plan.index].to_numpy() == 0)
    else:
        passing = _with_profiles(plan, shard, rows).filter(expression(plan.query.predicate, plan.query))
        kept, starts = _bounded_anew(plan, shard, passing)
    kept = kept.with_columns(_cell(plan).alias("_cell"))
    if plan.blind or starts is None:
        kept = kept.sort(RESIDENT, "_cell")
        starts = _runs(kept[RESIDENT].to_numpy(), kept["_cell"].to_numpy())
    values = [_values(statistic, kept, starts) for statistic in plan.statistics]
    return Part(shard, kept[RESIDENT].to_numpy()[starts], kept["_cell"].to_numpy()[starts], values)


def _runs(*columns: Integers) -> Integers:
    """Where each run of equal rows begins."""
    new = np.zeros(len(columns[0]), dtype=np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    starts: Integers = np.flatnonzero(new)
    return starts


def _values(statistic: Statistic, kept: pl.DataFrame, starts: Integers) -> Integers:
    """A statistic of each pair, whose rows are neighbours and begin at `starts`."""
    if statistic.kind == "distinct":
        return np.ones(len(starts), dtype=np.int64)
    if statistic.kind == "count" and not statistic.column:
        return np.diff(starts, append=kept.height)
    column = kept[statistic.column]
    if statistic.kind == "count":
        items = column.is_not_null().cast(pl.Int64)
    else:
        items = (column.cast(pl.Int64).clip(statistic.low, statistic.high) - statistic.centre).fill_null(0)
        items = items * items if statistic.kind == "square" else items
    added: Integers = np.add.reduceat(items.to_numpy(), starts) if len(starts) else np.zeros(0, dtype=np.int64)
    return added


def costs(plan: Plan, part: Part, loss: Loss) -> Integers:
    """What each resident's own vector costs, in nano-rho, rounded up; shape (residents,).

    A vector t under discrete Gaussian noise of scale sigma costs |t|^2 / (2 sigma^2) (Canonne, Kamath and Steinke 2020,
    theorem 14), and statistics add up. By the sensitivity it is at most `loss`.
    """
    weights = np.zeros(len(part.cell), dtype=np.float64)
    for values, sigma in zip(part.values, plan.sigmas(loss), strict=True):
        weights += np.square(values / sigma)
    own = np.ceil(np.bincount(part.resident, weights, part.residents) * (NANO / 2 * (1 + 1e-9)))
    nano: Integers = np.minimum(own, loss.nano).astype(np.int64)
    return nano


def total(plan: Plan, part: Part, pays: npt.NDArray[np.bool_]) -> Exact:
    """The sum of the vectors of the residents for whom `pays` (length `part.residents`) is true.

    `bincount` adds in float64, which is exact here: every partial sum is a whole number of at most
    MAX_PART * MAX_WEIGHT = 2^52.
    """
    if part.residents > MAX_PART:
        raise InternalError("a shard holds too many residents for exact addition")
    chosen = None if pays.all() else pays[part.resident]
    cell = part.cell if chosen is None else part.cell[chosen]
    added = np.empty((len(plan.statistics), plan.cells), dtype=np.int64)
    for i, values in enumerate(part.values):
        added[i] = np.bincount(cell, values if chosen is None else values[chosen], plan.cells)
    return Exact(added)


def add(totals: Iterable[Exact], plan: Plan) -> Exact:
    """The sum of the totals; zeros where there are none."""
    added = np.zeros((len(plan.statistics), plan.cells), dtype=np.int64)
    for each in totals:
        added += each._values
    return Exact(added)


def _with_profiles(plan: Plan, shard: Shard, rows: pl.DataFrame) -> pl.DataFrame:
    """Add the joined columns that the plan reads: each resident has one profile row, so no row is repeated."""
    names = sorted(n for n in plan.query.columns() if "." in n)
    if not names:
        return rows
    profiles = shard.profiles
    if profiles is not None and profiles.height != shard.residents:
        raise InternalError("the pool does not hold one profile row a resident")
    here, nobody = rows[RESIDENT], pl.lit(None, dtype=pl.Int64)
    held = set() if profiles is None else set(profiles.columns)
    return rows.with_columns(
        (profiles[n].gather(here) if profiles is not None and n in held else nobody).alias(n) for n in names
    )


def _bound(plan: Plan) -> pl.Expr:
    """At most R rows in each key and at most C keys, by rank: under the blind index, R rows in all."""
    row = pl.col(ROW + plan.index) < plan.rows
    return row if plan.blind else row & (pl.col(PAIR + plan.index) < plan.keys)


def _bounded_anew(plan: Plan, shard: Shard, passing: pl.DataFrame) -> tuple[pl.DataFrame, Integers]:
    """Bound the rows that a `where` let pass: their pairs and rows are ranked again, in their stored order.

    Returns the rows that stay, and the place of the first row of each pair among them.
    """
    pair, row = PAIR + plan.index, ROW + plan.index
    if plan.index != shard.order:
        passing = passing.sort(RESIDENT, pair, row)
    resident = passing[RESIDENT].to_numpy()
    starts = _runs(resident, passing[pair].to_numpy())
    lengths = np.diff(starts, append=passing.height)
    firsts = _runs(resident[starts])
    stays = np.arange(len(starts)) - np.repeat(firsts, np.diff(firsts, append=len(starts))) < plan.keys
    if plan.blind:
        stays[:] = True
    mask = np.repeat(stays, lengths)
    if len(lengths) and int(lengths.max()) > plan.rows:
        mask &= np.arange(passing.height) - np.repeat(starts, lengths) < plan.rows
    kept = np.minimum(lengths[stays], plan.rows)
    return passing.filter(pl.Series(mask)), np.cumsum(kept) - kept


def _cell(plan: Plan) -> pl.Expr:
    cell: pl.Expr = pl.lit(0, dtype=pl.UInt32)
    for axis in plan.axes:
        cell = cell * axis.size + axis_cell(axis).cast(pl.UInt32)
    return cell


def axis_cell(axis: Axis) -> pl.Expr:
    """The cell of one key, 0 .. size - 1, from the codes of its column."""
    column = pl.col(axis.key.column)
    if axis.dense:
        cell = column
    elif axis.key.kind == "bin":
        cell = pl.sum_horizontal(*((column >= cut).cast(pl.UInt32) for cut in axis.cuts))
        cell = pl.when(column.is_null()).then(None).otherwise(cell)
    else:
        local = column.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(axis.zone)
        if axis.key.kind == "hour":
            cell = local.dt.hour()
        else:
            day = local.dt.date().cast(pl.Int32) + _UNIX_EPOCH_ORDINAL - axis.first
            if axis.key.kind == "week":
                day = day // 7
            elif axis.key.kind == "month":
                day = local.dt.year() * 12 + local.dt.month() - axis.first
            # Python's and Polars' time-zone rules may differ far in the future: such a row stays within the cells.
            cell = day.clip(0, axis.size - 1 - axis.null)
    cell = cell.cast(pl.UInt32)
    return cell.fill_null(axis.size - 1) if axis.null else cell


_UNIX_EPOCH_ORDINAL = 719_163
