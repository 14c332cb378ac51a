"""Exact answers, which a simulation knows and no city does: counted in plain Polars, apart from the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from datasov.errors import InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model.aggregate import Aggregate
from datasov.model.columns import Category
from datasov.model.estimates import unit_of
from datasov.model.predicate import Predicate
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.model.schema import Key
from datasov.sim.simulation import RESIDENT

_AT = " at"
"""A column that no table has: the order of the cells."""

_COMPARE: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "lt": lambda c, v: c < v, "le": lambda c, v: c <= v, "gt": lambda c, v: c > v, "ge": lambda c, v: c >= v,
}  # fmt: skip


def compare(release: Release, rows: pl.DataFrame, confidence: float = 0.95) -> pl.DataFrame:
    """A release's frame, with what is exact beside each statistic, as `NAME_exact`.

    Exact is the answer without any bound of rows and keys, clipped as the question says: :func:`cut` tells whether the
    bounds cut anything off. What the intervals are to cover is that, where they do not.

    Args:
        rows: of those who consented, with the column of residents, and with all columns that the question reads:
            derived ones too, and those of a joined table under `table.column`.

    Raises:
        InvalidQueryError: a key or a statistic that is not counted here: values and hours, and count, distinct, sum
            and mean of rows, are.
    """
    query, told = release.query, release.frame(confidence)
    names = [k.name for k in query.key_list]
    found = _kept(query, rows).group_by(names).agg(_total(query, a).alias(a.name + "_exact") for a in query.aggregates)
    told = told.with_row_index(_AT).with_columns(pl.col(names).cast(pl.String).name.prefix("_"))
    found = found.select(pl.col(names).cast(pl.String).name.prefix("_"), pl.exclude(names))
    joined = told.join(found, on=["_" + n for n in names], how="left", validate="1:1", nulls_equal=True)
    none = [pl.col(a.name + "_exact").fill_null(0) for a in query.aggregates if a.kind != "mean"]
    return joined.sort(_AT).with_columns(none).drop(_AT, *("_" + n for n in names))


def cut(query: Query, rows: pl.DataFrame) -> int:
    """Residents of whom the question's bounds leave rows or keys out: 0 where what is exact is what is asked."""
    plan, names = compile(query), [k.name for k in query.key_list]
    pairs = _kept(query, rows).group_by(RESIDENT, *names).len()
    own = pairs.group_by(RESIDENT).agg(most=pl.col("len").max(), keys=pl.len(), all=pl.col("len").sum())
    if plan.blind:
        return own.filter(pl.col("all") > plan.rows).height
    above = pl.col("keys") > plan.keys
    if any(a.kind != "distinct" for a in query.aggregates):
        above |= pl.col("most") > plan.rows
    return own.filter(above).height


def covered(compared: pl.DataFrame) -> tuple[int, int]:
    """Of the intervals of :func:`compare`'s frame those that cover what is exact, and how many there are."""
    hits = total = 0
    for name in [n.removesuffix("_exact") for n in compared.columns if n.endswith("_exact")]:
        exact = pl.col(name + "_exact")
        half = 1e-6 if compared[name + "_exact"].dtype.is_float() else 0
        inside = (pl.col(name + "_low") - half <= exact) & (exact <= pl.col(name + "_high") + half)
        told = compared.select(inside.alias("inside")).drop_nulls()
        hits, total = hits + int(told["inside"].sum()), total + told.height
    return hits, total


def _kept(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that the question's `where` keeps, with its keys."""
    if query.predicate is not None:
        rows = rows.filter(_holds(query.predicate, query).fill_null(False))
    return rows.with_columns(_key(key).alias(key.name) for key in query.key_list)


def _key(key: Key) -> pl.Expr:
    if key.kind == "value":
        return pl.col(key.column)
    if key.kind == "hour":
        return pl.col(key.column).dt.hour()
    raise InvalidQueryError(f"what is exact by {key.name} is not counted here: take a value or an hour as a key")


def _holds(predicate: Predicate, query: Query) -> pl.Expr:
    """A predicate as Polars has it; where a comparison meets null it is false, as in a question."""
    parts = [_holds(p, query) for p in predicate.parts]
    if predicate.op in ("and", "or"):
        return pl.all_horizontal(parts) if predicate.op == "and" else pl.any_horizontal(parts)
    if predicate.op == "not":
        return ~parts[0]
    column, type_ = pl.col(predicate.column), query.column(predicate.column)
    if predicate.op == "null":
        return column.is_null()
    values = [v if isinstance(type_, Category) else type_.decode(type_.encode(v)) for v in predicate.values]
    found = column.is_in(values) if predicate.op == "in" else _COMPARE[predicate.op](column, values[0])
    return found.fill_null(False)


def _total(query: Query, aggregate: Aggregate) -> pl.Expr:
    if aggregate.per or aggregate.kind not in ("count", "distinct", "sum", "mean"):
        raise InvalidQueryError(
            f"what is exact of {aggregate.name} is not counted here: ask for count, distinct, sum or mean"
        )
    if aggregate.kind == "count":
        return pl.len().cast(pl.Int64)
    if aggregate.kind == "distinct":
        return pl.col(RESIDENT).n_unique().cast(pl.Int64)
    unit = unit_of(query, aggregate)
    code = (pl.col(aggregate.column).cast(pl.Float64) * unit).round().cast(pl.Int64).clip(aggregate.low, aggregate.high)
    total = code.sum() if aggregate.kind == "sum" else code.mean()
    return total if unit == 1 else total / unit
