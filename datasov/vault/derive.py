"""Derived columns, computed from two tables of one vault. Nothing of the other table but the truth values leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from datasov.errors import InvalidDataError
from datasov.model.derived import Exists
from datasov.model.expression import expression
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema


def with_derived(
    schema: Schema,
    columns: Sequence[str],
    tables: Mapping[str, Schema],
    read: Callable[[Schema, Sequence[str]], pl.DataFrame],
) -> pl.DataFrame:
    """Codes of the named columns of a table, the derived ones computed as its rows stand now.

    Args:
        columns: at least one name.
        tables: those of the vault; one that is missing there has no rows.
        read: the named columns that were put of a table's rows, in order.

    Raises:
        InvalidDataError: the vault keeps the other table under another schema.
        InvalidQueryError: the column is not what it says of the other table.
    """
    wanted = {n: c for n in columns if isinstance(c := schema.column(n), Exists)}
    anchors = {c.at for c in wanted.values() if c.at is not None}
    put = [n for n, _ in schema.stored if n in anchors or n in columns]
    own = read(schema, put or [schema.stored[0][0]])
    others: dict[str, pl.DataFrame] = {}
    derived = []
    for name, column in wanted.items():
        other = tables.get(column.table)
        if other is None:
            derived.append(pl.Series(name, np.zeros(own.height, dtype=np.uint8)))
            continue
        if other.digest != column.digest:
            raise InvalidDataError(
                f"the vault keeps table {column.table!r} under another schema than this derived column reads: "
                "declare it over the one that the rows were put with",
                column=name,
            )
        column.over(other)
        if column.table not in others:
            needed = {n for c in wanted.values() if c.table == column.table for n in c.reads}
            others[column.table] = read(other, sorted(needed))
        derived.append(exists(column, own, other, others[column.table]).alias(name).cast(code_dtype(column)))
    return own.with_columns(derived).select(columns)


def exists(column: Exists, own: pl.DataFrame, other: Schema, rows: pl.DataFrame) -> pl.Series:
    """The codes 0 and 1 of a derived column, one for each row of `own`.

    Args:
        own: holds the codes of `column.at`. rows: codes of the columns of the table `other` that the column reads.
    """
    counted = rows if column.where is None else rows.filter(expression(column.where, other))
    if column.at is None or column.other is None:
        return pl.Series(np.full(own.height, counted.height > 0).astype(np.uint8))
    times = np.sort(counted[column.other].drop_nulls().cast(pl.Int64).to_numpy())
    anchor = own[column.at].cast(pl.Int64)
    at = anchor.fill_null(0).to_numpy()
    first = np.searchsorted(times, at - column.before, side="left")
    last = np.searchsorted(times, at + column.after, side="right")
    return pl.Series(((last > first) & anchor.is_not_null().to_numpy()).astype(np.uint8))
