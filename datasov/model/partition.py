"""Partitions: which cell of a list of keys a row falls in, and the names of the rank indexes that serve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from datasov.model.columns import Column, Timestamp
from datasov.model.document import digest
from datasov.model.schema import TIME_KINDS, Key, Schema, bin_cuts, cell_labels, periods


@dataclass(frozen=True, slots=True)
class Axis:
    """One key as cells 0 .. size - 1, null the last one where `null` is set.

    Attributes:
        first: of an unknown key its lowest code; of a period the ordinal of its first day, or its first month.
    """

    key: Key
    size: int
    null: bool
    labels: Sequence[object]
    cuts: tuple[int, ...] = ()
    zone: str = ""
    first: int = 0


def axis_of(key: Key, column: Column) -> Axis:
    """The axis of a key of this column.

    Raises:
        InvalidQueryError: the column cannot be such a key.
    """
    labels = cell_labels(key, column)
    cuts = bin_cuts(key, column) if key.kind == "bin" else ()
    zone, first = "", 0
    if key.kind == "unknown":
        first = column.range[0]
    elif isinstance(column, Timestamp) and key.kind in TIME_KINDS:
        zone = column.zone
        if key.kind != "hour":
            day = periods(column, key.kind)[0]
            first = day.year * 12 + day.month if key.kind == "month" else day.toordinal()
    return Axis(key, len(labels), key.kind != "unknown" and labels[-1] is None, labels, cuts, zone, first)


def axes_of(keys: Sequence[Key], column: Callable[[str], Column]) -> tuple[Axis, ...]:
    """The axes of keys, given the types of columns by name."""
    return tuple(axis_of(key, column(key.column)) for key in keys)


def cell_expression(axes: Sequence[Axis]) -> pl.Expr:
    """The row-major cell of the axes' product, as Int64 where it is wide and UInt32 otherwise."""
    wide = pl.Int64 if any(a.key.kind == "unknown" for a in axes) else pl.UInt32
    cell: pl.Expr = pl.lit(0, dtype=wide)
    for axis in axes:
        cell = cell * axis.size + _axis_cell(axis).cast(wide)
    return cell


def unit_expression(key: Key, column: Column) -> pl.Expr:
    """What tells a resident's units apart: any column's codes, or a key's cells; null is a unit too."""
    if key.kind == "value":
        return pl.col(key.column).cast(pl.Int64).fill_null(column.range[0] - 1)
    return _axis_cell(axis_of(key, column)).cast(pl.Int64)


def _axis_cell(axis: Axis) -> pl.Expr:
    column = pl.col(axis.key.column)
    if axis.key.kind == "unknown":
        return column.cast(pl.Int64) - axis.first
    if axis.key.kind == "value":
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


def index_name(keys: Sequence[Key]) -> str:
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
