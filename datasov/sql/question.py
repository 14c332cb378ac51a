"""SELECT to question: keys, aggregates, GROUP BY."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from sqlglot import exp

from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Timestamp
from datasov.model.query import Query, check_question
from datasov.model.schema import Key, Schema, bin_cuts, cell_labels
from datasov.sql.aggregates import added, is_aggregate
from datasov.sql.gate import parse
from datasov.sql.literals import literal, number
from datasov.sql.names import Scope, by_name, same, scope
from datasov.sql.refusal import only, refuse
from datasov.sql.where import condition

_FORMS = (
    "a key is a column, WIDTH_BUCKET(x, ARRAY[5, 10]), EXTRACT(HOUR FROM at), DATE_TRUNC('day', at), 'week' or "
    "'month', or CAST(at AS DATE); an aggregate is COUNT(*), COUNT(DISTINCT resident), SUM(x), AVG,"
    " VAR_POP, STDDEV_POP, MEDIAN or PERCENTILE_CONT(q) WITHIN GROUP (ORDER BY x)"
)


@dataclass(frozen=True, slots=True)
class Item:
    """One expression of SELECT: a key, or an aggregate (`key` is None); `name` is its column in a release."""

    node: exp.Expression
    key: Key | None
    name: str


def read(text: str, schemas: Iterable[Schema]) -> Query:
    """The question of a text, without bounds. See :func:`datasov.sql.sql`."""
    declared = by_name(schemas)
    words = {*declared, *(c for s in declared.values() for c in s.columns)}
    select = parse(text, words)
    if select.args.get("distinct"):
        raise refuse(select, "the keys of a release are distinct already: leave DISTINCT out, and add GROUP BY")
    only(
        select, "expressions", "from_", "joins", "where", "group", "order", "limit",
        message="only SELECT, FROM, LEFT JOIN, WHERE and GROUP BY are in the subset: leave the rest out",
    )  # fmt: skip
    tables = scope(select, declared)
    question = tables.query
    if where := select.args.get("where"):
        question = question.where(condition(where.this, tables))
    items: list[Item] = []
    for node in select.expressions:
        question, item = _item(node, question, tables)
        items.append(item)
    _check_groups(select, items, tables)
    if select.args.get("order") or select.args.get("limit"):
        question = _top(select, question, tables)
    if not question.aggregates:
        raise refuse(select, "no rows can be seen, only aggregates: add COUNT(*), and GROUP BY the columns")
    check_question(question, prod(len(cell_labels(k, question.column(k.column))) for k in question.key_list))
    return question


def _item(node: exp.Expression, question: Query, tables: Scope) -> tuple[Query, Item]:
    alias, inner = None, node
    if isinstance(node, exp.Alias):
        alias, inner = node.args["alias"], node.this
    try:
        if is_aggregate(inner):
            question = added(inner, question, tables)
            item = Item(inner, None, question.aggregates[-1].name)
        else:
            key = _key(inner, tables)
            question = question.keys(key)
            item = Item(inner, key, key.name)
    except InvalidQueryError as fault:
        raise fault if str(fault).startswith("SQL") else refuse(inner, str(fault)) from None
    if alias is not None and not same(alias, item.name):
        raise refuse(
            node, f"a release names this column {item.name!r}: leave the alias out, and rename in the release's frame"
        )
    return question, item


def _key(node: exp.Expression, tables: Scope) -> Key:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
        raise refuse(node, "no rows can be seen, only aggregates: name keys, and COUNT(*) or SUM(column)")
    if isinstance(node, exp.Column):
        name, type_ = tables.column(node)
        if not isinstance(type_, Category | Boolean):
            raise refuse(node, f"this column has too many values for a key: write {_coarser(type_)}")
        return Key(name)
    if isinstance(node, exp.Extract):
        only(node, "this", "expression")
        if node.this.name.upper() != "HOUR":
            raise refuse(node, "EXTRACT takes HOUR: for days, weeks and months write DATE_TRUNC('day', at)")
        return Key(tables.column(node.args["expression"])[0], "hour")
    if isinstance(node, exp.DateTrunc | exp.TimestampTrunc):
        only(node, "this", "unit", message="write DATE_TRUNC('day', at): the zone is the column's own")
        match node.args["unit"].name.upper():
            case "DAY":
                return Key(tables.column(node.this)[0], "day")
            case "WEEK":
                return Key(tables.column(node.this)[0], "week")
            case "MONTH":
                return Key(tables.column(node.this)[0], "month")
        raise refuse(node, "DATE_TRUNC takes 'day', 'week' or 'month': for hours of the day, EXTRACT(HOUR FROM at)")
    if isinstance(node, exp.Cast):
        only(node, "this", "to")
        if node.to.this.name != "DATE":
            raise refuse(node, "only CAST(at AS DATE) is a key")
        return Key(tables.column(node.this)[0], "day")
    if isinstance(node, exp.WidthBucket):
        return _bin(node, tables)
    raise refuse(node, _FORMS)


def _coarser(type_: Column) -> str:
    if isinstance(type_, Timestamp):
        return "EXTRACT(HOUR FROM at), or DATE_TRUNC('day', at), 'week' or 'month'"
    return "WIDTH_BUCKET(x, ARRAY[5, 10])"


def _bin(node: exp.WidthBucket, tables: Scope) -> Key:
    """WIDTH_BUCKET(x, ARRAY[a, b]): bucket 0 below a, 1 in [a, b), 2 from b on: the bins of a key with these cuts."""
    only(node, "this", "min_value", message="write WIDTH_BUCKET(x, ARRAY[5, 10]): the cuts between the bins")
    array = node.args.get("min_value")
    if not isinstance(array, exp.Array) or not array.expressions:
        raise refuse(node, "write WIDTH_BUCKET(x, ARRAY[5, 10]): the cuts between the bins")
    name, type_ = tables.column(node.this)
    key = Key(name, "bin", tuple(str(literal(cut, type_)) for cut in array.expressions))
    cuts = bin_cuts(key, type_)
    for own in (k for key_set in tables.query.schema.key_sets for k in key_set):
        if own.column == name and own.kind == "bin" and bin_cuts(own, type_) == cuts:
            return own  # the declared key, however its cuts are written: an index goes by its text
    return key


def _top(select: exp.Select, question: Query, tables: Scope) -> Query:
    """ORDER BY aggregate DESC LIMIT k, of a SELECT with keys alone: the highest keys in order, without the numbers."""
    order, limit = select.args.get("order"), select.args.get("limit")
    if order is None or limit is None:
        raise refuse(
            order or limit or select,
            "a release holds every public cell in a fixed order: leave it out, and sort or cut its frame",
        )
    only(order, "expressions")
    only(limit, "expression", message="LIMIT takes one number")
    (ordered, *more), places = order.expressions, number(limit.args["expression"])
    if more or not ordered.args.get("desc") or not is_aggregate(ordered.this):
        raise refuse(order, "with LIMIT, order by one aggregate from above: ORDER BY COUNT(*) DESC LIMIT 5")
    if not isinstance(places, int):
        raise refuse(limit, "LIMIT takes a whole number")
    if question.aggregates:
        raise refuse(
            order,
            "the highest keys come without their numbers: leave aggregates out of SELECT, or ORDER BY and LIMIT out",
        )
    only(ordered, "this", "desc", "nulls_first")
    try:
        return added(ordered.this, question, tables).top(places)
    except InvalidQueryError as fault:
        raise fault if str(fault).startswith("SQL") else refuse(order, str(fault)) from None


def _check_groups(select: exp.Select, items: list[Item], tables: Scope) -> None:
    """GROUP BY lists the keys of SELECT: all of them and no others, as expressions, places or names."""
    group = select.args.get("group")
    wanted = {i.key for i in items if i.key is not None}
    if group is None:
        if wanted:
            missing = next(i.node for i in items if i.key is not None)
            raise refuse(missing, "no rows can be seen: add GROUP BY with the keys, and aggregates like COUNT(*)")
        return
    only(group, "expressions", message="GROUP BY lists the keys of SELECT, without ALL, ROLLUP or CUBE")
    found = {_grouped(node, items, tables) for node in group.expressions}
    for item in items:
        if item.key is not None and item.key not in found:
            raise refuse(item.node, "a key of SELECT stands in GROUP BY too: add it there")
    if found != wanted:
        raise refuse(group, "SELECT shows every key of GROUP BY: add those that are missing to SELECT")


def _grouped(node: exp.Expression, items: list[Item], tables: Scope) -> Key:
    if isinstance(node, exp.Literal):
        place = int(node.name) if not node.is_string and node.name.isdecimal() and len(node.name) < 6 else 0
        if not 1 <= place <= len(items):
            raise refuse(node, f"write a place from 1 to {len(items)}")
        item = items[place - 1]
        if item.key is None:
            raise refuse(node, "this place of SELECT is an aggregate: group by keys")
        return item.key
    if isinstance(node, exp.Column) and not node.args.get("table") and not tables.known(node):
        for item in items:
            if item.key is not None and same(node.this, item.name):
                return item.key
    return _key(node, tables)
