"""SQL to question: the subset of docs/sql.md, over the same plan as the Python API. It needs the extra `sql`."""

from __future__ import annotations

from collections.abc import Iterable

from datasov.errors import InvalidQueryError
from datasov.model.query import Query
from datasov.model.schema import Schema


def sql(text: str, schemas: Iterable[Schema], *, rows: int | None = None, keys: int | None = None) -> Query:
    """The question that an SQL text asks.

    ``ds.sql("SELECT district, COUNT(*), SUM(km) FROM trips GROUP BY district", [trips], rows=20, keys=2)`` is
    ``ds.query(trips).keys("district").bound(rows=20, keys=2).count().sum("km")``.

    Args:
        text: one SELECT, at most 65,536 characters.
        schemas: the tables that the text may name.
        rows, keys: the bounds, as in :meth:`Query.bound`: SQL has no words for them.

    Raises:
        InvalidQueryError: the text is no SQL, or has no exact counterpart; the message says where, and what to write
            instead. Or sqlglot is not installed.
    """
    try:
        from datasov.sql.question import read
    except ModuleNotFoundError as fault:
        if fault.name is None or not fault.name.startswith("sqlglot"):
            raise
        raise InvalidQueryError(
            "SQL is read with sqlglot, which is not installed: pip install 'datasov[sql]', or write it with ds.query"
        ) from None
    try:
        return read(text, schemas).bound(rows=rows, keys=keys)
    except RecursionError:
        raise InvalidQueryError("SQL: conditions are nested too deeply: use fewer parentheses") from None
