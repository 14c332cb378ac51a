"""WHERE: SQL's three-valued logic as predicates with two values.

A condition of SQL is true, false or unknown, and WHERE keeps the rows for which it is true. A predicate of a question
holds or does not. So each condition has two predicates, "is true" and "is false", neither of which holds where it is
unknown; NOT exchanges them, and they are joined as De Morgan has it. Every leaf is false for null.
"""

from __future__ import annotations

from sqlglot import exp

from datasov.model.columns import Boolean, Category, Column
from datasov.model.predicate import Op, Predicate, col
from datasov.sql.literals import is_literal, literal
from datasov.sql.names import Scope
from datasov.sql.refusal import only, refuse

_ORDER: dict[type[exp.Expression], Op] = {exp.LT: "lt", exp.LTE: "le", exp.GT: "gt", exp.GTE: "ge"}
_FLIPPED: dict[Op, Op] = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_NEGATED: dict[Op, Op] = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
_MESSAGE = "WHERE compares a column with constants: =, <>, <, <=, >, >=, BETWEEN, IN, IS NULL, joined with AND, OR, NOT"


def condition(node: exp.Expression, scope: Scope, holds: bool = True) -> Predicate:
    """The predicate that holds where a condition is true, or, with `holds` False, where it is false."""
    if isinstance(node, exp.Paren):
        return condition(node.this, scope, holds)
    if isinstance(node, exp.Not):
        return condition(node.this, scope, not holds)
    if isinstance(node, exp.And | exp.Or):
        op: Op = "and" if isinstance(node, exp.And) == holds else "or"
        parts = [condition(part, scope, holds) for part in _operands(node)]
        return Predicate(op, parts=tuple(p for part in parts for p in (part.parts if part.op == op else (part,))))
    if isinstance(node, exp.Is):
        return _is(node, scope, holds)
    if isinstance(node, exp.NullSafeEQ | exp.NullSafeNEQ):
        return _distinct(node, scope, holds)
    return _leaf(node, scope, holds)


def _operands(node: exp.And | exp.Or) -> list[exp.Expression]:
    """The operands of a chain of one connective, left to right: without recursion, since a chain may be long."""
    found: list[exp.Expression] = []
    waiting: list[exp.Expression] = [node]
    while waiting:
        top = waiting.pop()
        if type(top) is type(node):
            waiting += [top.args["expression"], top.this]
        else:
            found.append(top)
    return found


def _leaf(node: exp.Expression, scope: Scope, holds: bool) -> Predicate:
    if isinstance(node, exp.Column):
        name, type_ = scope.column(node)
        if not isinstance(type_, Boolean):
            raise refuse(node, f"this column is no truth value. {_MESSAGE}")
        return col(name).is_in([holds])
    if isinstance(node, exp.Between):
        only(node, "this", "low", "high", message="BETWEEN SYMMETRIC is not in the subset: put the lower bound first")
        name, type_ = scope.column(node.this)
        _ordered(node, type_)
        low, high = (literal(node.args[end], type_) for end in ("low", "high"))
        c = col(name)
        return (c >= low) & (c <= high) if holds else (c < low) | (c > high)
    if isinstance(node, exp.In):
        only(node, "this", "expressions", message="list the values: column IN (1, 2)")
        name, type_ = scope.column(node.this)
        if not node.expressions:
            raise refuse(node, "list at least one value")
        return _among(scope, name, [literal(v, type_) for v in node.expressions], holds)
    if isinstance(node, exp.EQ | exp.NEQ):
        name, value, _ = _sides(node, scope)
        return _among(scope, name, [value], holds == isinstance(node, exp.EQ))
    order = _ORDER.get(type(node))
    if order is None:
        raise refuse(node, _MESSAGE)
    name, value, flipped = _sides(node, scope)
    order = _FLIPPED[order] if flipped else order
    _ordered(node, scope.query.column(name))
    return Predicate(order if holds else _NEGATED[order], name, (value,))


def _is(node: exp.Is, scope: Scope, holds: bool) -> Predicate:
    """IS NULL, IS TRUE and IS FALSE are never unknown: where one is not true, it is false."""
    right = node.args["expression"]
    if isinstance(right, exp.Boolean):
        true = condition(node.this, scope, bool(right.this))
    elif isinstance(right, exp.Null):
        true = col(scope.column(node.this)[0]).is_null()
    else:
        raise refuse(node, "write IS NULL, IS TRUE, IS FALSE or IS DISTINCT FROM, with NOT or without")
    return true if holds else ~true


def _distinct(node: exp.Expression, scope: Scope, holds: bool) -> Predicate:
    """IS [NOT] DISTINCT FROM: an equality that is never unknown."""
    name, type_ = scope.column(node.this)
    right = node.args["expression"]
    same = col(name).is_null() if isinstance(right, exp.Null) else col(name).is_in([literal(right, type_)])
    return same if holds == isinstance(node, exp.NullSafeEQ) else ~same


def _among(scope: Scope, name: str, values: list[str | int | bool], holds: bool) -> Predicate:
    """One of the values; or none of them, and not null. A joined column may always be null."""
    among = col(name).is_in(values)
    if holds:
        return among
    nullable = "." in name or scope.query.column(name).nullable
    return ~among & ~col(name).is_null() if nullable else ~among


def _sides(node: exp.Expression, scope: Scope) -> tuple[str, str | int | bool, bool]:
    """The column and the constant of a comparison, and whether the constant stands first."""
    only(node, "this", "expression")
    left, right = node.this, node.args["expression"]
    flipped = is_literal(left)
    if flipped == is_literal(right):
        raise refuse(node, _MESSAGE)
    name, type_ = scope.column(right if flipped else left)
    return name, literal(left if flipped else right, type_), flipped


def _ordered(node: exp.Expression, type_: Column) -> None:
    if isinstance(type_, Category | Boolean):
        raise refuse(node, "this column has no order: write =, <> or IN")
