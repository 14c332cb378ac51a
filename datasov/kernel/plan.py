"""Query to plan: public cells, bounds and sensitivity, from public input alone.

The sensitivities are those of docs/proofs/bounded-map.md: at most R rows of a resident in each key and at most C keys,
values centred and clipped to magnitude H, so that adding or removing one resident moves a cell by at most R H and C
cells in all. Without a rank index for the partition a resident has R rows in all.
"""

from __future__ import annotations

import math

from datasov.errors import InvalidQueryError
from datasov.model.aggregate import Aggregate
from datasov.model.columns import MAX_CODE
from datasov.model.partition import BLIND, axes_of, index_name, indexes
from datasov.model.plan import Plan
from datasov.model.quantiles import levels
from datasov.model.query import Query, bounds_of, check_question
from datasov.model.schema import check_keys
from datasov.model.statistics import Statistic

MAX_RESIDENTS = 1 << 27
"""Residents that one pool may hold; with MAX_WEIGHT it keeps every exact total below 2^62."""
MAX_WEIGHT = 1 << 35
MAX_ENTRIES = 1 << 25
"""Entries of all vectors of a question."""


def compile(query: Query) -> Plan:
    """The plan of a question.

    Raises:
        InvalidQueryError: no aggregate, a bound missing, too many cells, or sums that could overflow.
    """
    if not isinstance(query, Query):
        raise InvalidQueryError("a question is made with ds.query(schema)")
    axes = axes_of(query.key_list, query.column)
    cells = math.prod(a.size for a in axes)
    check_keys(query.key_list, [a.labels for a in axes])
    check_question(query, cells)
    own = math.prod(a.size for a in axes if not a.key.profile)
    index = index_name(query.key_list)
    blind = index not in indexes(query.schema)
    rows, keys = bounds_of(query, own, blind)
    wanted = [_statistics(a, query, rows, keys, blind) for a in query.aggregates]
    statistics = tuple(dict.fromkeys(s for group in wanted for s in group))
    unknown = any(a.key.kind == "unknown" for a in axes)
    if not unknown and sum(s.size(cells) for s in statistics) > MAX_ENTRIES:
        raise InvalidQueryError("the keys and bins together make too many cells: use fewer keys, or fewer bins")
    parts = tuple(tuple(statistics.index(s) for s in group) for group in wanted)
    index, top = BLIND if blind else index, query.highest or 0
    return Plan(query, axes, cells, statistics, parts, index, blind, rows, keys, unknown, top)


def _statistics(aggregate: Aggregate, query: Query, rows: int, keys: int, blind: bool) -> list[Statistic]:
    """The vectors that an aggregate needs.

    `most` is what a resident adds to one cell, `touched` in how many cells at most. Under the blind index all of a
    resident's rows may share one cell, or each stand in a cell of its own; for items of at most 1 that is worse.
    """
    low, high, per, cuts = aggregate.low, aggregate.high, aggregate.per, aggregate.cuts
    if aggregate.whole:
        width = levels(cuts) if cuts else [()]
        return [Statistic(aggregate.kind, "", low, high, 0, 1, 1, (), level) for level in width]  # type: ignore[arg-type]
    each = aggregate.kind == "distinct" or per == ("resident",)
    items, touched = (1, rows if blind else keys) if each else (rows, 1 if blind else keys)
    if aggregate.kind == "distinct":
        return [Statistic("distinct", "", 0, 0, 0, 1, touched)]
    if aggregate.kind == "count":
        return [Statistic("count", "", 0, 0, 0, items, touched, per)]
    column = query.column(aggregate.column) if aggregate.column else None
    reach = max(map(abs, column.range)) if column is not None else 1
    if per and rows * reach > MAX_CODE * 2**9:
        raise InvalidQueryError(f"totals of {aggregate.column!r} could overflow: lower bound(rows)")
    if aggregate.kind == "quantile":
        return [Statistic("count", aggregate.column, low, high, 0, items, touched, per, c) for c in levels(cuts)]
    centre = 0 if aggregate.kind == "sum" else (low + high) // 2
    weight = max(abs(low - centre), abs(high - centre), 1)
    squared = aggregate.kind in ("variance", "std")
    if items * touched * (weight * weight if squared else weight) > MAX_WEIGHT:
        raise InvalidQueryError(
            f"sums of {aggregate.column!r} could overflow: lower bound(rows, keys) or clip it with low= and high="
        )
    total = Statistic("sum", aggregate.column, low, high, centre, items * weight, touched, per)
    if aggregate.kind == "sum":
        return [total]
    nullable = column is not None and not per and (column.nullable or "." in aggregate.column)
    parts = [Statistic("count", aggregate.column if nullable else "", 0, 0, 0, items, touched, per), total]
    if squared:
        square = Statistic("square", aggregate.column, low, high, centre, items * weight * weight, touched, per)
        parts.append(square)
    return parts
