"""Query to plan: public cells, bounds and sensitivity, from public input alone.

The sensitivities are those of docs/proofs/bounded-map.md: at most R rows of a resident in each key and at most C keys,
values centred and clipped to magnitude H, so that adding or removing one resident moves the counts by at most
R sqrt(C) in L2, the sums by R H sqrt(C), and the distinct residents by sqrt(C). Without a rank index for the partition
a resident has R rows in all: R, R H and sqrt(R).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasov.errors import InvalidQueryError
from datasov.model.columns import Timestamp
from datasov.model.document import digest
from datasov.model.privacy import NANO, Loss, check_loss
from datasov.model.query import Aggregate, Query, check_names
from datasov.model.schema import TIME_KINDS, Key, Schema, bin_cuts, cell_labels, check_keys, periods
from datasov.model.statistics import Statistic

MAX_RESIDENTS = 1 << 27
"""Residents that one pool may hold; with MAX_WEIGHT it keeps every exact total below 2^62."""
MAX_WEIGHT = 1 << 35

MECHANISM = "discrete Gaussian"


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the plan: its cells are 0 .. size - 1, null the last one where `null` is set."""

    key: Key
    size: int
    null: bool
    cuts: tuple[int, ...] = ()
    zone: str = ""
    first: int = 0

    @property
    def dense(self) -> bool:
        """Whether the stored codes are the cells already."""
        return self.key.kind == "value"


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled question.

    Attributes:
        axes: the keys; a cell is their row-major product.
        statistics: the vectors to noise, of `cells` entries each.
        parts: for every aggregate of the question, the indices of its statistics.
        index: name of the rank index that bounds it; the key-blind one where `blind` is set.
        rows, keys: the bounds R and C as they apply (C is at most the keys that one resident could touch).
    """

    query: Query
    axes: tuple[Axis, ...]
    cells: int
    statistics: tuple[Statistic, ...]
    parts: tuple[tuple[int, ...], ...]
    index: str
    blind: bool
    rows: int
    keys: int

    def losses(self, loss: Loss) -> tuple[Loss, ...]:
        """The loss of each statistic: equal parts, rounded down, so that they sum to at most `loss`."""
        check_loss(loss)
        part = loss.nano // len(self.statistics)
        if part == 0:
            raise InvalidQueryError(
                "the loss is too small to be parted among the statistics: ask for fewer, or more loss"
            )
        return tuple(Loss(part) for _ in self.statistics)

    def sigmas(self, loss: Loss) -> tuple[float, ...]:
        """The scale of each statistic's noise: L2 sensitivity / sqrt(2 rho), a little above, never below."""
        return tuple(
            math.nextafter(math.sqrt(s.squared_sensitivity), math.inf) / math.sqrt(2 * part.nano / NANO) * (1 + 1e-12)
            for s, part in zip(self.statistics, self.losses(loss), strict=True)
        )


def index_name(keys: tuple[Key, ...]) -> str:
    """The name of the rank index for the partition that `keys` make of a resident's rows: a hash of the expressions.

    Keys of joined columns are left out: they are constant within a resident, so they do not part the resident's rows.
    The order of the keys does not matter either.
    """
    own = sorted((k.document() for k in keys if not k.profile), key=lambda d: (d["column"], d["kind"], d["cuts"]))
    return digest(own).hex()[:16]


BLIND = index_name(())
"""The key-blind index: a resident's rows are one part, so that no key, or joined keys alone, are bounded exactly."""


def indexes(schema: Schema) -> dict[str, tuple[Key, ...]]:
    """The rank indexes that a pool keeps for a schema, by name; the first is the order in which rows lie."""
    declared = {index_name(ks): tuple(k for k in ks if not k.profile) for ks in schema.key_sets}
    return {**declared, BLIND: ()} if BLIND not in declared else declared


def compile(query: Query) -> Plan:
    """The plan of a question.

    Raises:
        InvalidQueryError: no aggregate, a bound missing, too many cells, or sums that could overflow.
    """
    if not isinstance(query, Query):
        raise InvalidQueryError("a question is made with ds.query(schema)")
    if not query.aggregates:
        raise InvalidQueryError(
            "the question asks for nothing: add .count(), .sum(), .mean(), .variance() or .distinct()"
        )
    axes = tuple(_axis(key, query) for key in query.key_list)
    cells = math.prod(a.size for a in axes)
    check_keys(query.key_list, [range(a.size) for a in axes])
    check_names(query)
    own = math.prod(a.size for a in axes if not a.key.profile)
    index = index_name(query.key_list)
    blind = index not in indexes(query.schema)
    rows, keys = _bounds(query, own, blind)
    aggregates = query.aggregates
    wanted = [_statistics(a, query, rows, rows if blind else keys, blind) for a in aggregates]
    statistics = tuple(dict.fromkeys(s for group in wanted for s in group))
    return Plan(
        query=query,
        axes=axes,
        cells=cells,
        statistics=statistics,
        parts=tuple(tuple(statistics.index(s) for s in group) for group in wanted),
        index=BLIND if blind else index,
        blind=blind,
        rows=rows,
        keys=keys,
    )


def _bounds(query: Query, own: int, blind: bool) -> tuple[int, int]:
    rows, keys = query.rows, query.keys_bound
    single = query.schema.kind == "attributes"
    if rows is None and not single and any(a.kind != "distinct" for a in query.aggregates):
        raise InvalidQueryError("say how many rows of a resident count in each key: add .bound(rows=...)")
    if keys is None and own > 1 and not single:
        raise InvalidQueryError("say in how many keys a resident counts: add .bound(keys=...)")
    keys = min(1 if single or keys is None else keys, own)
    if rows is None:
        rows = keys if blind else 1
    return 1 if single else rows, keys


def _axis(key: Key, query: Query) -> Axis:
    column = query.column(key.column)
    labels = cell_labels(key, column)
    cuts = bin_cuts(key, column) if key.kind == "bin" else ()
    zone, first = "", 0
    if isinstance(column, Timestamp) and key.kind in TIME_KINDS:
        zone = column.zone
        if key.kind != "hour":
            day = periods(column, key.kind)[0]
            first = day.year * 12 + day.month if key.kind == "month" else day.toordinal()
    return Axis(key, len(labels), labels[-1] is None, cuts, zone, first)


def _statistics(aggregate: Aggregate, query: Query, rows: int, keys: int, blind: bool) -> list[Statistic]:
    """The vectors that an aggregate needs. Under the blind index all of a resident's rows may share one cell."""
    square = rows * rows * (1 if blind else keys)
    if aggregate.kind == "distinct":
        return [Statistic("distinct", "", 0, 0, 0, keys)]
    if aggregate.kind == "count":
        return [Statistic("count", "", 0, 0, 0, square)]
    low, high = aggregate.low, aggregate.high
    centre = 0 if aggregate.kind == "sum" else (low + high) // 2
    weight = max(abs(low - centre), abs(high - centre), 1)
    squared = aggregate.kind in ("variance", "std")
    if rows * keys * (weight * weight if squared else weight) > MAX_WEIGHT:
        raise InvalidQueryError(
            f"sums of {aggregate.column!r} could overflow: lower bound(rows, keys) or clip it with low= and high="
        )
    total = Statistic("sum", aggregate.column, low, high, centre, square * weight * weight)
    if aggregate.kind == "sum":
        return [total]
    column = query.column(aggregate.column)
    masked = aggregate.column if column.nullable or "." in aggregate.column else ""
    parts = [Statistic("count", masked, 0, 0, 0, square), total]
    if squared:
        parts.append(Statistic("square", aggregate.column, low, high, centre, square * weight**4))
    return parts
