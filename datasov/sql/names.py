"""Names: which table and which column a word of the text means.

An unquoted name is looked up without regard to case, a quoted one exactly. Where several names differ by case alone, an
unquoted one must match exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sqlglot import exp

from datasov.errors import InvalidQueryError
from datasov.model.columns import Column
from datasov.model.query import Query, query
from datasov.model.schema import Schema
from datasov.sql.refusal import only, refuse

T = TypeVar("T")

RESIDENT = "resident"
"""Stands for the resident, who has no column: COUNT(DISTINCT resident) and USING (resident)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The tables of a text.

    Attributes:
        query: the question so far: its table and those joined.
        tables: each table's name in the text (its alias, where it has one), with the prefix of its columns' names.
    """

    query: Query
    tables: tuple[tuple[str, str, Schema], ...]

    def column(self, node: exp.Expression) -> tuple[str, Column]:
        """The name in the question, and the type, of a column of the text."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            instead = "expressions are not in the subset"
            if isinstance(node, exp.Cast | exp.Extract | exp.DateTrunc | exp.TimestampTrunc):
                instead = "for a day write at >= '2027-01-01' AND at < '2027-01-02'; for hours, group by them"
            raise refuse(node, f"write a column's name here: {instead}")
        only(node, "this", "table", message="write column or table.column: there are no catalogues")
        tables = self.tables
        if table := node.args.get("table"):
            name = _named(table, {t[0]: t for t in tables}, "FROM and LEFT JOIN name")
            tables = (name,)
        found = [(f"{prefix}{c}", schema.columns[c]) for _, prefix, schema in tables for c in _like(node.this, schema)]
        if not found:
            names = ", ".join(c for _, _, schema in tables for c in schema.columns)
            raise refuse(node, f"there is no such column: choose one of {names}")
        if len(found) > 1:
            raise refuse(node, "several tables have this column: write table.column")
        return found[0]

    def known(self, node: exp.Expression) -> bool:
        """Whether a node is a column's name that some table has."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return False
        return any(_like(node.this, schema) for _, _, schema in self.tables)

    def resident(self, node: exp.Expression) -> bool:
        """Whether a node is the word `resident`."""
        if not isinstance(node, exp.Column) or node.args.get("table") or not same(node.this, RESIDENT):
            return False
        if self.known(node):
            raise refuse(node, "a table has a column of this name: count residents with ds.query(...).distinct()")
        return True


def same(word: exp.Expression, name: str) -> bool:
    """Whether an identifier of the text means a name."""
    if not isinstance(word, exp.Identifier):
        return False
    return word.name == name or (not word.args.get("quoted") and word.name.lower() == name.lower())


def scope(select: exp.Select, schemas: Mapping[str, Schema]) -> Scope:
    """The tables that FROM and LEFT JOIN name."""
    clause = select.args.get("from_")
    if clause is None:
        raise InvalidQueryError("SQL: say what to count: SELECT ... FROM table")
    only(clause, "this")
    alias, schema = _table(clause.this, schemas)
    question = query(schema)
    tables = [(alias, "", schema)]
    for join in select.args.get("joins") or ():
        _check_join(join)
        alias, schema = _table(join.this, schemas)
        try:
            question = question.join(schema)
        except InvalidQueryError as fault:
            raise refuse(join, str(fault)) from None
        tables.append((alias, f"{schema.name}.", schema))
    if len({name.lower() for name, _, _ in tables}) < len(tables):
        raise refuse(clause, "two tables have the same name: give each its own")
    return Scope(question, tuple(tables))


def by_name(schemas: Iterable[Schema]) -> dict[str, Schema]:
    """The schemas by name; InvalidQueryError where two differ under one name."""
    listed = [schemas] if isinstance(schemas, Schema) else list(schemas) if isinstance(schemas, Iterable) else []
    if not listed or not all(isinstance(s, Schema) for s in listed):
        raise InvalidQueryError("ds.sql takes a text and a list of schemas: ds.sql(text, [trips, people])")
    found = {s.name: s for s in listed}
    twice = next((s.name for s in listed if found[s.name].digest != s.digest), None)
    if twice is not None:
        raise InvalidQueryError(f"two schemas are named {twice!r}: give the one that the text means")
    return found


def _check_join(join: exp.Join) -> None:
    only(join, "this", "side", "using", "kind", message="write LEFT JOIN table USING (resident)")
    using = join.args.get("using") or []
    if join.side != "LEFT" or join.kind not in ("", "OUTER") or not (len(using) == 1 and same(using[0], RESIDENT)):
        raise refuse(
            join, "write LEFT JOIN table USING (resident): what is joined are the resident's own attributes, or nulls"
        )


def _table(node: exp.Expression, schemas: Mapping[str, Schema]) -> tuple[str, Schema]:
    if not isinstance(node, exp.Table):
        raise refuse(node, "name a declared table: there are no subqueries")
    only(node, "this", "alias", message="name a declared table, with an alias or without")
    schema = _named(node.this, schemas, "the schemas given are")
    alias = node.args.get("alias")
    if alias is None:
        return schema.name, schema
    only(alias, "this", message="an alias renames a table, not its columns")
    return alias.name, schema


def _named(word: exp.Expression, found: Mapping[str, T], which: str) -> T:
    matches = _matching(word, found)
    if len(matches) != 1:
        raise refuse(word, f"no one table has this name: {which} {', '.join(found)}")
    return found[matches[0]]


def _like(word: exp.Expression, schema: Schema) -> list[str]:
    return _matching(word, schema.columns)


def _matching(word: exp.Expression, names: Iterable[str]) -> list[str]:
    matches = [n for n in names if same(word, n)]
    return [n for n in matches if n == word.name] or matches
