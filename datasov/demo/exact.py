"""Exact answers, which no release holds: recounted here in plain Polars, apart from the kernel.

As bounded: the demo plays the operator, opens the pool's shards and keeps the rows that the secret ranks keep.
Unbounded: from the rows as they were bought, before any bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from datasov.demo.questions import Question
from datasov.demo.source import AGES, INCOMES, Source, baskets, months
from datasov.model.plan import Plan
from datasov.model.shard import PAIR, RESIDENT, ROW, Shard


def bounded(question: Question, plan: Plan, shards: Sequence[Shard], departments: tuple[str, ...]) -> pl.DataFrame:
    """The question as bounded: key, then a column a statistic. Cells without rows are left out."""
    rows = pl.concat([_plain(shard, plan.index, departments) for shard in shards]) if shards else None
    if rows is None:
        return pl.DataFrame(schema={"key": pl.String, **{s.name: pl.Float64 for s in question.statistics}})
    if question.where is not None:
        rows = rows.filter(question.where).with_columns(pair=pl.col("pair").rank("dense").over("household") - 1)
        rows = rows.with_columns(row=pl.col("row").rank("dense").over("household", "pair") - 1)
    rows = rows.filter(pl.col("row") < plan.rows)
    if not plan.blind:
        rows = rows.filter(pl.col("pair") < plan.keys)
    return _recount(question, rows, clip=True)


def unbounded(question: Question, source: Source) -> pl.DataFrame:
    """The question without any bound, of the rows as they were bought: key, then a column a statistic."""
    table = question.query.schema.name
    rows = {"purchases": lambda p: p, "baskets": baskets, "months": months}[table](source.purchases)
    if question.query.profiles:
        rows = rows.join(source.profiles, on="household", how="left", validate="m:1")
    return _recount(question, rows if question.where is None else rows.filter(question.where), clip=False)


def _plain(shard: Shard, index: str, departments: tuple[str, ...]) -> pl.DataFrame:
    """A shard's rows as plain values, with the household's place in the pool and the two ranks of an index."""
    names = shard.rows.columns
    plain = shard.rows.select(
        household=pl.col(RESIDENT).cast(pl.Int64) + shard.first,
        pair=pl.col(PAIR + index).cast(pl.Int64),
        row=pl.col(ROW + index).cast(pl.Int64),
        **{n: pl.col(n).cast(pl.Int64) for n in names if n in ("spent", "items", "quantity", "month")},
        **({"at": pl.col("at").cast(pl.Datetime("us", "UTC"))} if "at" in names else {}),
        **({"department": _named("department", departments)} if "department" in names else {}),
    )
    if shard.profiles is None:
        given = pl.DataFrame(schema={"household": pl.Int64, "age_band": pl.String, "income": pl.String})
    else:
        given = shard.profiles.select(
            household=pl.int_range(pl.len(), dtype=pl.Int64) + shard.first,
            age_band=_named("household.age_band", AGES),
            income=_named("household.income", INCOMES),
        )
    return plain.join(given, on="household", how="left", validate="m:1")


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return pl.col(column).cast(pl.Int64).replace_strict(range(len(names)), names, default=None, return_dtype=pl.String)


def _recount(question: Question, rows: pl.DataFrame, *, clip: bool) -> pl.DataFrame:
    totals = []
    for s in question.statistics:
        value = pl.col(s.column).clip(0, s.clip) if clip and s.column else pl.col(s.column or "household")
        total = {"residents": value.n_unique(), "count": value.len(), "sum": value.sum(), "mean": value.mean()}[s.kind]
        totals.append((total / s.unit).alias(s.name))
    return rows.group_by(question.recount.alias("key")).agg(totals)
