"""Predicates as Polars expressions. Any predicate of one row and its resident's profile leaves the bounds sound."""

from __future__ import annotations

import polars as pl

from datasov.model.columns import Boolean, Category
from datasov.model.predicate import Predicate, Typed


def expression(predicate: Predicate, table: Typed) -> pl.Expr:
    """A predicate as a two-valued Polars expression over codes."""
    parts = [expression(p, table) for p in predicate.parts]
    if predicate.op == "not":
        return ~parts[0]
    if predicate.op == "and":
        return pl.all_horizontal(*parts)
    if predicate.op == "or":
        return pl.any_horizontal(*parts)
    column = pl.col(predicate.column)
    if predicate.op == "null":
        return column.is_null()
    type_ = table.column(predicate.column)
    low, high = type_.range
    codes = [min(max(type_.encode(v), low - 1), high + 1) for v in predicate.values]
    if not isinstance(type_, Category | Boolean):
        column = column.cast(pl.Int64)
    if predicate.op == "in":
        return pl.any_horizontal(*(column == c for c in codes)).fill_null(False)
    compare = {"lt": column < codes[0], "le": column <= codes[0], "gt": column > codes[0], "ge": column >= codes[0]}
    return compare[predicate.op].fill_null(False)
