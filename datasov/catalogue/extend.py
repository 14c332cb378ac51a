"""A municipality's own columns: what an extension adds, and questions of the base asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from datasov.errors import InvalidQueryError
from datasov.model.columns import Column
from datasov.model.query import Query
from datasov.model.schema import Key, Schema


def extend(schema: Schema, *, columns: Mapping[str, Column], keys: Iterable[Iterable[str | Key]] = ()) -> Schema:
    """A table of the same name, domain and kind: the base's columns and key sets, and after them a municipality's own.

    It has a digest of its own. A question written for the base is asked of it with :func:`onto`; rows that were put
    under the base stay, where each added column is nullable or has a value in `fill` (:meth:`datasov.Resident.evolve`).

    Raises:
        InvalidQueryError: a column has the name of one of the base; or what :class:`datasov.Schema` says.
    """
    taken = sorted(columns.keys() & schema.columns.keys())
    if taken:
        raise InvalidQueryError(f"column {taken[0]!r} is one of the base, and keeps its meaning: choose another name")
    own = [[k] if isinstance(k, str) else list(k) for k in keys]
    return Schema(
        schema.name, domain=schema.domain, kind=schema.kind, columns={**schema.columns, **columns},
        keys=[*schema.key_sets, *own],
    )  # fmt: skip


def check_extends(base: Schema, schema: Schema) -> None:
    """Raise InvalidQueryError unless every column of the base is in the schema, and is the same there."""
    if (base.name, base.domain, base.kind) != (schema.name, schema.domain, schema.kind):
        raise InvalidQueryError(f"table {schema.name!r} is no extension of {base.name!r}: name, domain and kind differ")
    for name, column in base.items:
        if schema.columns.get(name) != column:
            raise InvalidQueryError(f"table {schema.name!r} changes column {name!r} of the base: extend that instead")


def onto(question: Query, *schemas: Schema) -> Query:
    """The same question, asked of extensions of its tables: same keys, same bounds, same sensitivity.

    Args:
        schemas: an extension of the question's table, of tables that it joins, or of both.

    Raises:
        InvalidQueryError: a schema extends none of the question's tables.
    """
    for schema in schemas:
        tables = {s.name: s for s in (question.schema, *question.profiles)}
        if schema.name not in tables:
            raise InvalidQueryError(f"table {schema.name!r} is not in the question: it has {', '.join(tables)}")
        check_extends(tables[schema.name], schema)
        question = replace(
            question,
            schema=schema if question.schema.name == schema.name else question.schema,
            profiles=tuple(schema if p.name == schema.name else p for p in question.profiles),
        )
    return question
