"""Literals, carried exactly: whole numbers as int, decimals and times as the text that was written."""

from __future__ import annotations

import re

from sqlglot import exp

from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Timestamp, exact
from datasov.sql.refusal import only, refuse

MAX_DIGITS = 38
"""Digits of a number."""
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(_DATE.pattern + r"([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_TIMES = ("TIMESTAMP", "TIMESTAMPTZ", "DATETIME")


def is_literal(node: exp.Expression) -> bool:
    """Whether a node is a constant, of whatever type."""
    inner = node.this if isinstance(node, exp.Neg | exp.Cast | exp.Paren) else node
    if isinstance(inner, exp.Neg | exp.Cast | exp.Paren):
        return is_literal(inner)
    return isinstance(inner, exp.Literal | exp.Boolean | exp.Null)


def literal(node: exp.Expression, type_: Column) -> str | int | bool:
    """The value of a constant that is compared with a column of this type.

    Raises:
        InvalidQueryError: not a constant, or not of the column's type.
    """
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Null):
        raise refuse(node, "a comparison with NULL never holds: write IS NULL or IS NOT NULL")
    if isinstance(type_, Timestamp):
        value: str | int | bool = _time(node)
    elif isinstance(type_, Category):
        if not (isinstance(node, exp.Literal) and node.is_string):
            raise refuse(node, "the column holds texts: write one in 'single quotes'")
        value = node.name
        if value not in type_.values:
            raise refuse(node, f"the column never holds it: write one of {_some(type_.values)}")
    elif isinstance(type_, Boolean):
        if not isinstance(node, exp.Boolean):
            raise refuse(node, "the column holds truth values: write TRUE or FALSE")
        value = bool(node.this)
    else:
        value = number(node)
    try:
        type_.encode(value)
    except InvalidQueryError as fault:
        raise refuse(node, f"{fault}: the column holds no such value") from None
    return value


def number(node: exp.Expression) -> int | str:
    """A number: an int where it is whole, else its shortest decimal text."""
    sign, inner = "", node
    while isinstance(inner, exp.Paren | exp.Neg):
        if isinstance(inner, exp.Neg):
            sign = "" if sign else "-"
        inner = inner.this
    if not isinstance(inner, exp.Literal) or inner.is_string or not _NUMBER.fullmatch(inner.name):
        raise refuse(node, "write a plain number here, without quotes and without arithmetic, like 12 or -0.5")
    try:
        digits = format(exact(inner.name), "f")
    except InvalidQueryError as fault:
        raise refuse(node, str(fault)) from None
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    if len(digits) > MAX_DIGITS:
        raise refuse(node, f"a number has at most {MAX_DIGITS} digits: give one within the declared bounds")
    return sign + digits if "." in digits else int(sign + digits)


def _time(node: exp.Expression) -> str:
    pattern, inner = _TIME, node
    if isinstance(node, exp.Cast):
        only(node, "this", "to")
        kind = node.to.this.name
        if node.to.expressions or kind not in (*_TIMES, "DATE"):
            raise refuse(node, "write a time like TIMESTAMP '2027-01-31 08:00' or DATE '2027-01-31'")
        pattern, inner = (_DATE if kind == "DATE" else _TIME), node.this
    if not isinstance(inner, exp.Literal) or not inner.is_string or not pattern.fullmatch(inner.name):
        raise refuse(node, "write a time like '2027-01-31 08:00' or DATE '2027-01-31', with an offset or without")
    return inner.name


def _some(values: tuple[str, ...]) -> str:
    listed = ", ".join(repr(v) for v in values[:8])
    return listed if len(values) <= 8 else f"{listed} and {len(values) - 8} more"
