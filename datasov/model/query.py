"""Questions: a bounded linear map from each resident's rows to a vector over public cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.document import canonical, digest
from datasov.model.predicate import Predicate
from datasov.model.schema import Key, Schema, as_key, cell_labels, check_keys

AggregateKind: TypeAlias = Literal["count", "sum", "mean", "variance", "std", "distinct"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One statistic; `low` and `high` clip the column before it is added, as codes."""

    kind: AggregateKind
    column: str = ""
    low: int = 0
    high: int = 0

    @property
    def name(self) -> str:
        """The name of the statistic's column in a release."""
        return {"count": "count", "distinct": "residents"}.get(self.kind, f"{self.column}_{self.kind}")

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "column": self.column, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Query:
    """A question, built step by step; each step returns a new one. See :func:`query`."""

    schema: Schema
    profiles: tuple[Schema, ...] = ()
    key_list: tuple[Key, ...] = ()
    predicate: Predicate | None = None
    rows: int | None = None
    keys_bound: int | None = None
    aggregates: tuple[Aggregate, ...] = field(default=())

    def join(self, profile: Schema) -> Query:
        """Let the question use `profile.column`: the resident's own attributes, joined inside their vault.

        Residents answer such a question only under a consent that names both tables.
        """
        if profile.kind != "attributes":
            raise InvalidQueryError(f"table {profile.name!r} is no attribute table: join one of kind='attributes'")
        if any(p.name == profile.name for p in self.profiles) or profile.name == self.schema.name:
            raise InvalidQueryError(f"table {profile.name!r} is in the question already")
        return replace(self, profiles=(*self.profiles, profile))

    def keys(self, *keys: str | Key) -> Query:
        """Group by public keys: column names, :func:`bin`, :func:`hour` or :func:`day`. Every cell is answered."""
        added = tuple(as_key(k) for k in keys)
        everything = (*self.key_list, *added)
        check_keys(everything, [cell_labels(key, self.column(key.column)) for key in everything])
        return replace(self, key_list=everything)

    def where(self, predicate: Predicate) -> Query:
        """Keep the rows for which the predicate holds; several `where` are joined with and."""
        if not isinstance(predicate, Predicate):
            raise InvalidQueryError("where takes a predicate like ds.col('km') > 5")
        check_predicate(predicate, self)
        return replace(self, predicate=predicate if self.predicate is None else self.predicate & predicate)

    def bound(self, *, rows: int | None = None, keys: int | None = None) -> Query:
        """At most `rows` rows of a resident in each key, in at most `keys` keys: what limits one person's influence."""
        for name, value in (("rows", rows), ("keys", keys)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
                raise InvalidQueryError(f"{name} is a whole number from 1 to 65,535")
        return replace(
            self,
            rows=self.rows if rows is None else rows,
            keys_bound=self.keys_bound if keys is None else keys,
        )

    def count(self) -> Query:
        """Rows in each cell."""
        return self._with(Aggregate("count"))

    def distinct(self) -> Query:
        """Residents with at least one row in each cell."""
        return self._with(Aggregate("distinct"))

    def sum(self, column: str, *, low: object = None, high: object = None) -> Query:
        """Sum of a column, each value clipped to [low, high] (the declared bounds where not given); null adds 0."""
        return self._with(self._clipped("sum", column, low, high))

    def mean(self, column: str, *, low: object = None, high: object = None) -> Query:
        """Mean of a column's values that are not null, each clipped to [low, high]."""
        return self._with(self._clipped("mean", column, low, high))

    def variance(self, column: str, *, low: object = None, high: object = None) -> Query:
        """Population variance of a column's values that are not null, each clipped to [low, high]."""
        return self._with(self._clipped("variance", column, low, high))

    def std(self, column: str, *, low: object = None, high: object = None) -> Query:
        """Standard deviation: the root of :meth:`variance`, at the same cost."""
        return self._with(self._clipped("std", column, low, high))

    def column(self, name: str) -> Column:
        """The type of `column` or `profile.column`; InvalidQueryError where the question has no such column."""
        table, dot, rest = name.partition(".")
        if not dot:
            return self.schema.column(name)
        for profile in self.profiles:
            if profile.name == table:
                return profile.column(rest)
        raise InvalidQueryError(f"column {name!r}: join its table first, with .join({table})")

    def columns(self) -> frozenset[str]:
        """Names of all the columns that the question reads."""
        used = {k.column for k in self.key_list} | {a.column for a in self.aggregates if a.column}
        return frozenset(used | (self.predicate.columns() if self.predicate is not None else set()))

    def document(self) -> dict[str, Any]:
        """The question as a document: its digest names it."""
        return {
            "schema": self.schema.digest.hex(), "table": self.schema.name,
            "profiles": [[p.name, p.digest.hex()] for p in self.profiles],
            "keys": [k.document() for k in self.key_list],
            "where": self.predicate.document() if self.predicate is not None else None,
            "rows": self.rows, "bound_keys": self.keys_bound,
            "aggregates": [a.document() for a in self.aggregates],
        }  # fmt: skip

    @property
    def digest(self) -> bytes:
        return digest(self.document())

    def _clipped(self, kind: AggregateKind, column: str, low: object, high: object) -> Aggregate:
        type_ = self.column(column)
        if isinstance(type_, Category | Timestamp | Boolean):
            raise InvalidQueryError(f"column {column!r} is no number: {kind} takes an Integer or a Decimal")
        first, last = type_.range
        first = first if low is None else type_.encode(low)
        last = last if high is None else type_.encode(high)
        if first > last or (low is not None and first < type_.range[0]) or (high is not None and last > type_.range[1]):
            raise InvalidQueryError(f"clip {column!r} to a range within its declared bounds")
        return Aggregate(kind, column, first, last)

    def _with(self, aggregate: Aggregate) -> Query:
        if any(a.name == aggregate.name for a in self.aggregates):
            raise InvalidQueryError(f"the question asks for {aggregate.name} twice: leave one out")
        return replace(self, aggregates=(*self.aggregates, aggregate))


MAX_QUESTION = 512 * 1024
"""Bytes in the canonical text of a question."""
MAX_PROFILES = 15


def check_names(query: Query) -> None:
    """Raise InvalidQueryError where the answer could not be shown or logged: names that stand twice, or its length."""
    names = [k.name for k in query.key_list]
    names += [a.name + side for a in query.aggregates for side in ("", "_low", "_high")]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InvalidQueryError(f"the answer would have two columns {twice!r}: leave out the key or the aggregate")
    if len(query.profiles) > MAX_PROFILES:
        raise InvalidQueryError(f"a question joins at most {MAX_PROFILES} tables: leave out those it does not read")
    if len(canonical(query.document())) > MAX_QUESTION:
        raise InvalidQueryError("the question is longer than 512 KiB: list fewer values in its where")


def check_predicate(predicate: Predicate, query: Query) -> None:
    """Raise InvalidQueryError unless every column exists and every literal fits its type."""
    for part in predicate.parts:
        check_predicate(part, query)
    if predicate.parts:
        return
    column = query.column(predicate.column)
    if isinstance(column, Category | Boolean) and predicate.op in ("lt", "le", "gt", "ge"):
        raise InvalidQueryError(f"column {predicate.column!r} has no order: use == or is_in")
    for value in predicate.values:
        column.encode(value)


def query(schema: Schema) -> Query:
    """A question about an event or attribute table.

    ``ds.query(trips).keys("district").bound(rows=20, keys=2).count().sum("km")``
    """
    if not isinstance(schema, Schema):
        raise InvalidQueryError("ds.query takes a ds.Schema")
    return Query(schema)


def query_from_document(doc: Mapping[str, Any], schemas: Mapping[bytes, Schema]) -> Query:
    """The question that `document()` described, given the schemas by digest."""
    try:
        found = Query(schemas[bytes.fromhex(doc["schema"])])
        for _, profile in doc["profiles"]:
            found = found.join(schemas[bytes.fromhex(profile)])
        found = found.keys(*(Key.from_document(k) for k in doc["keys"])).bound(rows=doc["rows"], keys=doc["bound_keys"])
        if doc["where"] is not None:
            found = found.where(Predicate.from_document(doc["where"]))
        for item in doc["aggregates"]:
            found = found._with(_aggregate(found, item))
    except (KeyError, TypeError, ValueError) as fault:
        if isinstance(fault, InvalidQueryError):
            raise
        raise InvalidQueryError("the question's document is incomplete, or names a schema that is not given") from None
    return found


def _aggregate(query: Query, doc: Mapping[str, Any]) -> Aggregate:
    aggregate = Aggregate(doc["kind"], doc["column"], doc["low"], doc["high"])
    if aggregate in (Aggregate("count"), Aggregate("distinct")):
        return aggregate
    column = query.column(aggregate.column)
    if aggregate.kind not in ("sum", "mean", "variance", "std") or not isinstance(column, Integer | Decimal):
        raise InvalidQueryError("the question's document names an aggregate that is not known")
    if not column.range[0] <= aggregate.low <= aggregate.high <= column.range[1]:
        raise InvalidQueryError(f"clip {aggregate.column!r} to a range within its declared bounds")
    return aggregate
