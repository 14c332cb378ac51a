"""Aggregates of SELECT, with the clipping that LEAST and GREATEST write."""

from __future__ import annotations

from sqlglot import exp

from datasov.model.query import Query
from datasov.sql.literals import is_literal, number
from datasov.sql.names import RESIDENT, Scope
from datasov.sql.refusal import only, refuse

_MOMENTS: dict[type[exp.Expression], str] = {
    exp.Sum: "sum", exp.Avg: "mean", exp.VariancePop: "variance", exp.StddevPop: "std",
}  # fmt: skip
_QUANTILE = "one person's own value: ask for a quantile, with PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY x)"
_INSTEAD: dict[type[exp.Expression], str] = {
    exp.Variance: "write VAR_POP(x), the population's variance",
    exp.Stddev: "write STDDEV_POP(x), the population's standard deviation",
    exp.StddevSamp: "write STDDEV_POP(x), the population's standard deviation",
    exp.Min: f"the least value is {_QUANTILE}",
    exp.Max: f"the greatest value is {_QUANTILE}",
    exp.Quantile: "write PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY x)",
    exp.ApproxDistinct: f"write COUNT(DISTINCT {RESIDENT})",
    exp.CountIf: "write COUNT(*), and the condition into WHERE",
}


def is_aggregate(node: exp.Expression) -> bool:
    """Whether an expression of SELECT is an aggregate, of the subset or not."""
    return isinstance(node, exp.AggFunc | exp.WithinGroup)


def added(node: exp.Expression, question: Query, tables: Scope) -> Query:
    """The question with an aggregate more.

    Raises:
        InvalidQueryError: an aggregate without an exact counterpart.
    """
    if isinstance(node, exp.Count):
        return _count(node, question, tables)
    if isinstance(node, exp.Median):
        only(node, "this")
        return _quantile(node.this, "0.5", question, tables)
    if isinstance(node, exp.WithinGroup):
        return _percentile(node, question, tables)
    kind = _MOMENTS.get(type(node))
    if kind is None:
        message = "no such aggregate is in the subset: write COUNT, SUM, AVG, VAR_POP, STDDEV_POP or MEDIAN"
        raise refuse(node, _INSTEAD.get(type(node), message))
    only(node, "this")
    if isinstance(node.this, exp.Distinct):
        raise refuse(node, f"only residents are counted once: write COUNT(DISTINCT {RESIDENT}), or leave DISTINCT out")
    column, low, high = _clipped(node.this)
    method = {"sum": question.sum, "mean": question.mean, "variance": question.variance, "std": question.std}[kind]
    return method(tables.column(column)[0], low=low, high=high)


def _percentile(node: exp.WithinGroup, question: Query, tables: Scope) -> Query:
    """PERCENTILE_CONT(q) WITHIN GROUP (ORDER BY x), or PERCENTILE_DISC: both are known to a bin, so they are one."""
    order = node.args["expression"]
    share, ordered = node.this, order.expressions if isinstance(order, exp.Order) else []
    if (
        not isinstance(share, exp.PercentileCont | exp.PercentileDisc)
        or len(ordered) != 1
        or ordered[0].args.get("desc")
    ):
        raise refuse(node, "write PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY x), ascending")
    only(share, "this")
    only(ordered[0], "this", "desc", "nulls_first")
    return _quantile(ordered[0].this, number(share.this), question, tables)


def _quantile(node: exp.Expression, share: int | str, question: Query, tables: Scope) -> Query:
    column, low, high = _clipped(node)
    return question.quantile(tables.column(column)[0], share, low=low, high=high)


def _count(node: exp.Count, question: Query, tables: Scope) -> Query:
    only(node, "this", "big_int", message="COUNT takes one thing: COUNT(*) or COUNT(DISTINCT resident)")
    what = node.this
    if isinstance(what, exp.Star) or (isinstance(what, exp.Literal) and not what.is_string):
        return question.count()
    if isinstance(what, exp.Distinct):
        only(what, "expressions")
        if len(what.expressions) == 1 and tables.resident(what.expressions[0]):
            return question.distinct()
        raise refuse(node, f"distinct values of a column cannot be counted: write COUNT(DISTINCT {RESIDENT})")
    if what is None:
        raise refuse(node, "write COUNT(*)")
    name, type_ = tables.column(what)
    if type_.nullable or "." in name:
        raise refuse(node, f"this column may be null: write COUNT(*), and WHERE {what.sql()} IS NOT NULL")
    return question.count()


def _clipped(node: exp.Expression) -> tuple[exp.Expression, int | str | None, int | str | None]:
    """The column inside LEAST(GREATEST(x, low), high), either inside the other or alone, and the bounds."""
    low: int | str | None = None
    high: int | str | None = None
    while isinstance(node, exp.Greatest | exp.Least | exp.Paren):
        if isinstance(node, exp.Paren):
            node = node.this
            continue
        only(node, "this", "expressions", "ignore_nulls")
        sides = [node.this, *node.expressions]
        bounds = [side for side in sides if is_literal(side)]
        taken = low if isinstance(node, exp.Greatest) else high
        if len(sides) != 2 or len(bounds) != 1 or taken is not None:
            raise refuse(node, "clip with LEAST(GREATEST(x, 0), 50): a column, the low bound, the high bound")
        if isinstance(node, exp.Greatest):
            low = number(bounds[0])
        else:
            high = number(bounds[0])
        (node,) = (side for side in sides if side is not bounds[0])
    return node, low, high
