"""Rows to bounded integer vectors, in Polars: one filter and one group_by over a shard.

Every step treats a resident's rows by that resident's own rows and their stored ranks alone, so that a resident's part
of the result does not depend on anybody else's rows (docs/proofs/bounded-map.md, lemma 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InternalError
from datasov.kernel.plan import Axis, Plan
from datasov.model.columns import Boolean, Category
from datasov.model.predicate import Predicate
from datasov.model.query import Query
from datasov.model.statistics import Statistic

RESIDENT, PAIR, ROW = "_resident", "_pair:", "_row:"
"""Column names of a shard beside the data: the resident's place in the shard, and two ranks for each index."""

Integers = npt.NDArray[np.int64]


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

    def __reduce__(self) -> str:
        raise InternalError("exact totals are not written anywhere")

    def __add__(self, other: Exact) -> Exact:
        return Exact(self._values + other._values)


def add(parts: Sequence[Exact], plan: Plan) -> Exact:
    """The sum of the parts; zeros where there are none."""
    total = np.zeros((len(plan.statistics), plan.cells), dtype=np.int64)
    for part in parts:
        total += part._values
    return Exact(total)


def contribute(plan: Plan, shard: Shard, takes_part: npt.NDArray[np.bool_]) -> Exact:
    """The bounded totals of a shard's residents for whom `takes_part` (length `shard.residents`) is true."""
    values = np.zeros((len(plan.statistics), plan.cells), dtype=np.int64)
    if shard.rows.height == 0 or not takes_part.any():
        return Exact(values)
    needed = plan.query.columns() | {RESIDENT, PAIR + plan.index, ROW + plan.index}
    rows = shard.rows.select(n for n in shard.rows.columns if n in needed)
    if not takes_part.all():
        rows = rows.filter(pl.Series(takes_part[rows[RESIDENT].to_numpy()]))
    if plan.query.predicate is None:
        kept = _with_profiles(plan, shard, rows.filter(_bound(plan))).with_columns(_cell=_cell(plan))
        first = pl.col(ROW + plan.index) == 0
    else:
        passing = _with_profiles(plan, shard, rows).filter(expression(plan.query.predicate, plan.query))
        kept = _ranked_anew(plan, shard, passing.with_columns(_cell=_cell(plan))).filter(_bound(plan))
        first = pl.col(ROW + plan.index) == 0
    if plan.blind and plan.query.key_list:
        first = (pl.col(RESIDENT).cast(pl.UInt64) * plan.cells + pl.col("_cell")).is_first_distinct()
    sums = (
        kept.lazy()
        .with_columns(_first=first)
        .group_by("_cell")
        .agg(_total(s).alias(f"_{i}") for i, s in enumerate(plan.statistics))
        .collect()
    )
    cells = sums["_cell"].to_numpy()
    for i in range(len(plan.statistics)):
        values[i, cells] = sums[f"_{i}"].to_numpy()
    return Exact(values)


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


def _ranked_anew(plan: Plan, shard: Shard, passing: pl.DataFrame) -> pl.DataFrame:
    """Close the gaps that a `where` left: rank pairs and rows again among those that pass, in their stored order."""
    if passing.height == 0:
        return passing
    pair, row = PAIR + plan.index, ROW + plan.index
    if shard.order != plan.index:
        passing = passing.sort(RESIDENT, pair, row)
    resident, pairs = passing[RESIDENT].to_numpy(), passing[pair].to_numpy()
    new_resident = np.empty(passing.height, dtype=np.bool_)
    new_resident[0] = True
    np.not_equal(resident[1:], resident[:-1], out=new_resident[1:])
    new_pair = new_resident.copy()
    new_pair[1:] |= pairs[1:] != pairs[:-1]
    starts = np.flatnonzero(new_pair)
    of_resident = np.flatnonzero(new_resident[starts])
    lengths = np.diff(starts, append=passing.height)
    row_rank = np.arange(passing.height) - np.repeat(starts, lengths)
    in_resident = np.arange(len(starts)) - np.repeat(of_resident, np.diff(of_resident, append=len(starts)))
    return passing.with_columns(pl.Series(row, row_rank), pl.Series(pair, np.repeat(in_resident, lengths)))


def _total(statistic: Statistic) -> pl.Expr:
    if statistic.kind == "distinct":
        return pl.col("_first").cast(pl.Int64).sum()
    if statistic.kind == "count":
        if statistic.column:
            return pl.col(statistic.column).is_not_null().cast(pl.Int64).sum()
        return pl.len().cast(pl.Int64)
    clipped = pl.col(statistic.column).cast(pl.Int64).clip(statistic.low, statistic.high) - statistic.centre
    return clipped.sum()


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
            day = local.dt.date().cast(pl.Int32) + _UNIX_EPOCH_ORDINAL - axis.first_day
            # Python's and Polars' time-zone rules may differ far in the future: such a row stays within the cells.
            cell = day.clip(0, axis.size - 1 - axis.null)
    cell = cell.cast(pl.UInt32)
    return cell.fill_null(axis.size - 1) if axis.null else cell


_UNIX_EPOCH_ORDINAL = 719_163


def expression(predicate: Predicate, query: Query) -> pl.Expr:
    """A predicate as a two-valued Polars expression over codes."""
    parts = [expression(p, query) for p in predicate.parts]
    if predicate.op == "not":
        return ~parts[0]
    if predicate.op == "and":
        return pl.all_horizontal(*parts)
    if predicate.op == "or":
        return pl.any_horizontal(*parts)
    column = pl.col(predicate.column)
    if predicate.op == "null":
        return column.is_null()
    type_ = query.column(predicate.column)
    low, high = type_.range
    codes = [min(max(type_.encode(v), low - 1), high + 1) for v in predicate.values]
    if not isinstance(type_, Category | Boolean):
        column = column.cast(pl.Int64)
    if predicate.op == "in":
        return pl.any_horizontal(*(column == c for c in codes)).fill_null(False)
    compare = {"lt": column < codes[0], "le": column <= codes[0], "gt": column > codes[0], "ge": column >= codes[0]}
    return compare[predicate.op].fill_null(False)
