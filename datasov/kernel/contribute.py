"""Rows to bounded integer vectors, in Polars: one filter and one group_by over a shard.

Every step treats a resident's rows by that resident's own rows and their stored ranks alone, so that a resident's part
of the result does not depend on anybody else's rows (docs/proofs/bounded-map.md, lemma 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InternalError
from datasov.kernel.plan import MAX_WEIGHT
from datasov.model.aggregate import Aggregate
from datasov.model.charges import SHARES
from datasov.model.expression import expression
from datasov.model.partition import cell_expression, unit_expression
from datasov.model.plan import Plan
from datasov.model.privacy import NANO, Loss
from datasov.model.shard import PAIR, RESIDENT, ROW, Integers, Part, Shard, Vector, runs
from datasov.model.statistics import Statistic

MAX_PART = (1 << 52) // MAX_WEIGHT
"""Residents in one shard, at most."""


class Exact:
    """Exact totals: one vector a statistic. The repr is redacted, and only the kernel reads the slots.

    `_cells`: of unknown keys, the cells that stand (ascending), to which all vectors are aligned; else None.
    """

    __slots__ = ("_cells", "_values")

    def __init__(self, values: Sequence[Integers], cells: Integers | None = None) -> None:
        self._values, self._cells = tuple(values), cells

    def __repr__(self) -> str:
        return "Exact(redacted)"


def contribute(plan: Plan, shard: Shard, eligible: npt.NDArray[np.bool_], left: Integers | None = None) -> Part:
    """The bounded vectors of a shard's residents for whom `eligible` (length `shard.residents`) is true.

    `left`: under a `where` and the blind index, how many rows of each resident may count, instead of `plan.rows`.
    """
    if not eligible.any():
        none = np.zeros(0, dtype=np.int64)
        return Part(shard.first, shard.residents, (Vector(none, none, none),) * len(plan.statistics))
    pair, row, predicate = PAIR + plan.index, ROW + plan.index, plan.query.predicate
    read = plan.query.columns(where=False)
    rows = shard.rows if predicate is None else shard.joined(shard.rows, plan.query.columns())
    mask = rows.select(_bound(plan) if predicate is None else expression(predicate, plan.query)).to_series()
    mask = mask if eligible.all() else mask & pl.Series(eligible[rows[RESIDENT].to_numpy()])
    after = rows.select(n for n in rows.columns if n in read or n in (RESIDENT, pair, row))
    if predicate is not None:
        kept, starts = _bounded_anew(plan, shard, after.filter(mask), left)
    else:
        kept = shard.joined(after.drop(pair).filter(mask), read)
        starts = np.flatnonzero(kept[row].to_numpy() == 0) if plan.index == shard.order else None
    kept = kept.with_columns(cell_expression(plan.axes).alias("_cell"))
    if plan.blind or starts is None:
        kept = kept.sort(RESIDENT, "_cell")
        starts = runs(kept[RESIDENT].to_numpy(), kept["_cell"].to_numpy())
    resident, cell = kept[RESIDENT].to_numpy()[starts], kept["_cell"].to_numpy()[starts]
    vectors = tuple(_vector(statistic, plan, kept, starts, resident, cell) for statistic in plan.statistics)
    return Part(shard.first, shard.residents, vectors)


def _vector(
    statistic: Statistic, plan: Plan, kept: pl.DataFrame, starts: Integers, resident: Integers, cell: Integers
) -> Vector:
    """One statistic of pairs (resident, cell), whose rows are neighbours and begin at `starts`."""
    if statistic.whole:
        first = runs(resident)
        value = np.diff(first, append=len(resident))
        if statistic.kind == "rows" and len(first):
            value = np.maximum.reduceat(np.diff(starts, append=kept.height), first)
        return _binned(statistic, resident[first], np.zeros_like(first), np.arange(len(first)), value)
    if statistic.kind == "distinct":
        return Vector(resident, cell, np.ones(len(starts), dtype=np.int64))
    if statistic.kind == "count" and not (statistic.column or statistic.per):
        return Vector(resident, cell, np.diff(starts, append=kept.height))
    if not (statistic.per or statistic.cuts):
        column = kept[statistic.column]
        if statistic.kind == "count":
            return Vector(resident, cell, _added(column.is_not_null().cast(pl.Int64).to_numpy(), starts))
        nulls = column.is_null().to_numpy() if column.null_count() else None
        items = column.cast(pl.Int64).fill_null(0).to_numpy().clip(statistic.low, statistic.high) - statistic.centre
        items = items * items if statistic.kind == "square" else items
        return Vector(resident, cell, _added(items if nulls is None else np.where(nulls, 0, items), starts))
    pair, value = _items(statistic, plan, kept, starts)
    if statistic.cuts:
        return _binned(statistic, resident, cell, pair, value)
    value = np.clip(value, statistic.low, statistic.high) - statistic.centre
    value = {"count": np.ones_like(value), "square": value * value}.get(statistic.kind, value)
    return Vector(resident, cell, _added(value, runs(pair)))


def _items(statistic: Statistic, plan: Plan, kept: pl.DataFrame, starts: Integers) -> tuple[Integers, Integers]:
    """Each item's pair (ascending) and value: rows whose column is not null, or totals within the person."""
    pair = np.repeat(np.arange(len(starts)), np.diff(starts, append=kept.height))
    column = kept[statistic.column].cast(pl.Int64) if statistic.column else None
    if not statistic.per:
        present = column.is_not_null().to_numpy() if column is not None else np.ones(len(pair), dtype=np.bool_)
        return pair[present], column.drop_nulls().to_numpy() if column is not None else present.astype(np.int64)
    value = column.fill_null(0).to_numpy() if column is not None else np.ones(len(pair), dtype=np.int64)
    key = Aggregate("count", per=statistic.per).unit_key
    if key is None:
        return np.arange(len(starts)), _added(value, starts)
    unit = kept.select(unit_expression(key, plan.query.column(key.column)).alias("u"))["u"].to_numpy()
    order = np.lexsort((unit, pair))
    begins = runs(pair[order], unit[order])
    return pair[order][begins], _added(value[order], begins)


def _binned(statistic: Statistic, resident: Integers, cell: Integers, pair: Integers, value: Integers) -> Vector:
    """Items of each pair by the bin of their value."""
    width = statistic.width
    bins = np.searchsorted(np.array(statistic.cuts, dtype=np.int64), value, side="right")
    entry, count = np.unique(pair * width + bins, return_counts=True)
    return Vector(resident[entry // width], cell[entry // width].astype(np.int64) * width + entry % width, count)


def _added(values: Integers, starts: Integers) -> Integers:
    added: Integers = np.add.reduceat(values, starts) if len(starts) else np.zeros(0, dtype=np.int64)
    return added


def shares(plan: Plan, part: Part, loss: Loss) -> Integers:
    """What each resident's own vector costs, in 1/SHARES of the loss, rounded up; shape (residents,).

    A vector t under discrete Gaussian noise of scale sigma costs rho = |t|_2^2 / (2 sigma^2) (Canonne, Kamath and
    Steinke 2020, theorem 14), under discrete Laplace noise of scale b epsilon = |t|_1 / b, and statistics add up. By
    the sensitivity it is at most `loss`. Of a noisy max every pick costs epsilon = max |t| / scale, or epsilon^2 / 8
    zCDP. Each key that somebody has may show with an equal part of delta.
    """
    own, together = np.zeros(part.residents), dict[int, tuple[Integers, npt.NDArray[np.float64]]]()
    for vector, scale in zip(part.vectors, plan.scales(loss), strict=True):
        units = np.abs(vector.value) / scale
        if plan.top:
            np.maximum.at(own, vector.resident, units)
            own = plan.top * (own if loss.measure == "pure" else own**2 / 8)
            continue
        weights = units if loss.measure == "pure" else units**2 / 2
        same = together.get(id(vector.resident))
        together[id(vector.resident)] = vector.resident, weights if same is None else same[1] + weights
    for resident, weights in together.values():
        own += np.bincount(resident, weights, part.residents)
    portion = own * (NANO / loss.nano)
    if plan.unknown:
        held = np.bincount(part.vectors[plan.found].resident, minlength=part.residents)
        portion = np.maximum(portion, held / plan.statistics[plan.found].touched)
    owed: Integers = np.minimum(np.ceil(portion * (SHARES * (1 + 1e-9))), SHARES).astype(np.int64)
    return owed


def total(plan: Plan, part: Part, pays: npt.NDArray[np.bool_]) -> Exact:
    """The sum of the vectors of the residents for whom `pays` (length `part.residents`) is true.

    `bincount` adds in float64, which is exact here: every partial sum is a whole number of at most
    MAX_PART * MAX_WEIGHT = 2^52.
    """
    if part.residents > MAX_PART:
        raise InternalError("a shard holds too many residents for exact addition")
    vectors = part.vectors
    if not pays.all():
        chosen = (pays[v.resident] for v in vectors)
        vectors = tuple(Vector(v.resident, v.entry[c], v.value[c]) for v, c in zip(vectors, chosen, strict=True))
    if plan.unknown:
        return _sparse([(v.entry, v.value) for v in vectors])
    sized = zip(plan.statistics, vectors, strict=True)
    return Exact([np.bincount(v.entry, v.value, s.size(plan.cells)).astype(np.int64) for s, v in sized])


def _sparse(pieces: Sequence[tuple[Integers, Integers]]) -> Exact:
    """Vectors of cells that are not listed, aligned to those that stand in any of them."""
    cells: Integers = np.unique(np.concatenate([entry for entry, _ in pieces]).astype(np.int64))
    values = [np.zeros(len(cells), dtype=np.int64) for _ in pieces]
    for out, (entry, value) in zip(values, pieces, strict=True):
        np.add.at(out, np.searchsorted(cells, entry), value)
    return Exact(values, cells)


def add(totals: Iterable[Exact], plan: Plan) -> Exact:
    """The sum of the totals; zeros where there are none."""
    if plan.unknown:
        none = np.zeros(0, dtype=np.int64)
        held = [(none if t._cells is None else t._cells, t._values) for t in totals]
        cells = np.concatenate([none, *(c for c, _ in held)])
        values = (np.concatenate([none, *(v[i] for _, v in held)]) for i in range(len(plan.statistics)))
        return _sparse([(cells, v) for v in values])
    added = [np.zeros(s.size(plan.cells), dtype=np.int64) for s in plan.statistics]
    for each in totals:
        for out, value in zip(added, each._values, strict=True):
            out += value
    return Exact(added)


def _bound(plan: Plan) -> pl.Expr:
    """At most R rows in each key and at most C keys, by rank: under the blind index, R rows in all."""
    row = pl.col(ROW + plan.index) < plan.rows
    return row if plan.blind else row & (pl.col(PAIR + plan.index) < plan.keys)


def _bounded_anew(
    plan: Plan, shard: Shard, passing: pl.DataFrame, left: Integers | None
) -> tuple[pl.DataFrame, Integers | None]:
    """Bound the rows that a `where` let pass: their pairs and rows are ranked again, in their stored order.

    Returns the rows that stay, and the place of the first row of each pair among them.
    """
    pair, row = PAIR + plan.index, ROW + plan.index
    if plan.index != shard.order:
        passing = passing.sort(RESIDENT, pair, row)
    resident = passing[RESIDENT].to_numpy()
    starts = runs(resident, passing[pair].to_numpy())
    lengths = np.diff(starts, append=passing.height)
    if not plan.blind:
        firsts = runs(resident[starts])
        ranks = np.arange(len(starts)) - np.repeat(firsts, np.diff(firsts, append=len(starts)))
        starts, lengths = starts[ranks < plan.keys], lengths[ranks < plan.keys]
    lengths = np.minimum(lengths, plan.rows if left is None else left[resident[starts]])
    first = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) + np.repeat(starts - first, lengths)
    return passing.drop(pair, row)[places], first
