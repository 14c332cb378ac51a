"""Schemas that follow one another: what may change while the rows already put stay as they are.

A successor keeps the meaning of every code: lists of categories grow at their end, ranges grow, nulls become allowed,
columns come and go. So old rows are read under it as they lie, and nothing is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.model import mynumber
from datasov.model.columns import Category, Column, Decimal, Integer, Timestamp
from datasov.model.derived import Exists
from datasov.model.frames import code_dtype, my_numbers
from datasov.model.schema import Schema


def succeed(old: Schema, new: Schema, fill: Mapping[str, object], earlier: Iterable[Schema] = ()) -> dict[str, int]:
    """What rows put under `old` and before hold in the columns that `new` adds: codes by name, where it is not null.

    Args:
        fill: the value of an added column in those rows; where none is given it is nullable, and null there.
        earlier: the schemas before `old`, whose columns a new one must not take the name of.

    Raises:
        InvalidDataError: the column that cannot follow, and what to do.
    """
    if (old.name, old.domain, old.kind) != (new.name, new.domain, new.kind):
        raise InvalidDataError("a table keeps its name, its domain and its kind: put other rows into another table")
    before, after = dict(old.stored), dict(new.stored)
    gone = {name for schema in earlier for name, _ in schema.stored} - before.keys()
    for name in sorted(fill.keys() - (after.keys() - before.keys())):
        raise InvalidDataError("only a column that is added has a value to fill in: leave it out of fill", column=name)
    filled = {}
    for name, column in after.items():
        if name in before:
            _check_widened(name, before[name], column)
        elif name in gone:
            raise InvalidDataError("a column of this name was retired before: give the new one another", column=name)
        elif name in fill:
            filled[name] = _code(name, column, fill[name])
        elif not column.nullable:
            raise InvalidDataError(
                "rows put before have no value for the new column: declare it nullable, or give one in fill",
                column=name,
            )
    return filled


def _code(name: str, column: Column, value: object) -> int:
    try:
        code = column.encode(value)
    except InvalidQueryError as why:
        raise InvalidDataError(str(why), column=name) from None
    low, high = column.range
    if not low <= code <= high:
        raise InvalidDataError("the value to fill in lies outside the declared bounds", column=name)
    if (found := my_numbers(column, pl.Series([code]))) is not None and found.any():
        raise InvalidDataError(mynumber.REFUSAL, column=name)
    return code


def _check_widened(name: str, old: Column, new: Column) -> None:
    """Raise unless every code of the old column is one of the new, and means the same."""
    why = None
    if type(old) is not type(new):
        why = "a column keeps its type"
    elif isinstance(old, Category) and isinstance(new, Category) and new.values[: len(old.values)] != old.values:
        why = "a Category grows at its end: keep the values it had, in their order, before those that are new"
    elif isinstance(old, Decimal) and isinstance(new, Decimal) and old.scale != new.scale:
        why = "a Decimal keeps its scale"
    elif isinstance(old, Integer | Decimal) and isinstance(new, Integer | Decimal) and old.unit != new.unit:
        why = "a column keeps its unit"
    elif isinstance(old, Timestamp) and isinstance(new, Timestamp) and old.zone != new.zone:
        why = "a Timestamp keeps its zone"
    elif new.range[0] > old.range[0] or new.range[1] < old.range[1]:
        why = "bounds grow and never shrink, since rows may lie at the old ones"
    elif old.nullable and not new.nullable:
        why = "a column stays nullable, since rows may hold nulls"
    elif old.legal == "special" and new.legal != "special":
        why = "a column of the special legal class stays one"
    if why is not None:
        raise InvalidDataError(f"{why}; or retire the column, and add one of another name", column=name)


def widened(old: Column, new: Column) -> bool:
    """Whether every code of the old column is one of the new, and means the same."""
    try:
        _check_widened("", old, new)
    except InvalidDataError:
        return False
    return True


def brought_up(schema: Schema, filled: Mapping[str, int], codes: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """Rows put under the schema or any before it, as codes of its named columns.

    Args:
        filled: codes for rows that have no such column; null where there is none.
    """
    wanted = {name: code_dtype(schema.column(name)) for name in names}
    added = [pl.lit(filled.get(n), dtype=t).alias(n) for n, t in wanted.items() if n not in codes.columns]
    return codes.with_columns(added).select(pl.col(n).cast(t) for n, t in wanted.items())


def check_readable(old: Schema, new: Schema, names: Iterable[str]) -> None:
    """Raise InvalidDataError unless rows of `new` hold the named columns of `old`, an earlier version of it."""
    now = dict(new.items)
    for name in names:
        column = old.column(name)
        if isinstance(column, Exists) and now.get(name) != column:
            raise InvalidDataError("the derived column was changed since: use the newest schema", column=name)
        if name not in now or isinstance(column, Exists) != isinstance(now[name], Exists):
            raise InvalidDataError("the column was retired since: use the newest schema", column=name)


def taken_back(old: Schema, codes: pl.DataFrame) -> pl.DataFrame:
    """Codes of a successor, as those of an earlier version of it.

    Raises:
        InvalidDataError: a row that only the successor allows, by column; nothing is cut to fit.
    """
    columns = []
    for series in codes:
        column = old.column(series.name)
        low, high = column.range
        outside = ((series < low) | (series > high)).fill_null(not (column.nullable or isinstance(column, Exists)))
        row = outside.arg_max() if outside.any() else None
        if row is not None:
            raise InvalidDataError(
                "the row was put under a newer schema and does not fit this one: use the newest",
                row=row, column=series.name,
            )  # fmt: skip
        columns.append(series.cast(code_dtype(column)))
    return pl.DataFrame(columns)
