"""Questions: a bounded linear map from each resident's rows to a vector over public cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datasov.errors import InvalidQueryError
from datasov.model.aggregate import CLIPPED, ROWS, Aggregate, AggregateKind, ascending, equal_cuts, share_of
from datasov.model.columns import MAX_CODE, Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.derived import sources
from datasov.model.document import canonical, digest
from datasov.model.mynumber import check_literal
from datasov.model.predicate import Predicate, check_predicate
from datasov.model.schema import Key, Schema, as_key, cell_labels, check_keys


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
    highest: int | None = None

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

    def count(self, *, per: str | Key | None = None) -> Query:
        """Rows in each cell. With `per`, items: a resident's rows that agree in a column or key, as baskets or days."""
        return self._with(Aggregate("count", per=self._per(per)))

    def distinct(self) -> Query:
        """Residents with at least one row in each cell."""
        return self._with(Aggregate("distinct"))

    def coverage(self) -> Query:
        """How many residents took part in the whole question, in any cell: who is spent or did not consent is not."""
        return self._with(Aggregate("coverage"))

    def sum(
        self, column: str | None, *, low: object = None, high: object = None, per: str | Key | None = None
    ) -> Query:
        """Sum of a column, each value clipped to [low, high] (the declared bounds where not given); null adds 0.

        Args:
            column: None adds 1 for each row.
            per: first add within the person: "resident", or a column or key whose values tell items apart (a basket, a
                day); [low, high] then bounds each item's total, and has to be given.
        """
        return self._with(self._clipped("sum", column, low, high, per))

    def mean(
        self, column: str | None, *, low: object = None, high: object = None, per: str | Key | None = None
    ) -> Query:
        """Mean of a column's values that are not null, or of items' totals, each clipped to [low, high]."""
        return self._with(self._clipped("mean", column, low, high, per))

    def variance(
        self, column: str | None, *, low: object = None, high: object = None, per: str | Key | None = None
    ) -> Query:
        """Population variance of a column's values that are not null, or of items' totals, each clipped."""
        return self._with(self._clipped("variance", column, low, high, per))

    def std(
        self, column: str | None, *, low: object = None, high: object = None, per: str | Key | None = None
    ) -> Query:
        """Standard deviation: the root of :meth:`variance`, at the same cost."""
        return self._with(self._clipped("std", column, low, high, per))

    def quantile(
        self, column: str | None, q: object, *, low: object = None, high: object = None, bins: int = 64,
        edges: Iterable[object] | None = None, per: str | Key | None = None,
    ) -> Query:  # fmt: skip
        """The value that a share q of the rows (or of items' totals) do not exceed, from a histogram of `bins`.

        Several quantiles of one column with the same bounds and bins share one histogram, and its cost.

        Args:
            q: above 0 and below 1, with at most four decimals. edges: inner edges of the bins instead of equal widths.
            per: as in :meth:`sum`.
        """
        clipped = self._clipped("quantile", column, low, high, per)
        if edges is None:
            cuts = equal_cuts(clipped.low, clipped.high, bins)
        else:
            type_ = self.column(clipped.column) if clipped.column else ROWS
            cuts = tuple(type_.encode(e) for e in edges)
        if not ascending(cuts, clipped.low, clipped.high):
            raise InvalidQueryError("edges ascend strictly, above low and up to high; at least one and at most 1,023")
        return self._with(replace(clipped, q=share_of(q), cuts=cuts))

    def median(
        self, column: str | None, *, low: object = None, high: object = None, bins: int = 64,
        per: str | Key | None = None,
    ) -> Query:  # fmt: skip
        """The quantile of one half."""
        return self.quantile(column, "0.5", low=low, high=high, bins=bins, per=per)

    def rows_per_key(self, q: object, *, high: int = 255) -> Query:
        """Quantile of the most rows that a resident has in one key, up to `high`: what to bound rows by."""
        return self._with(_spread("rows", q, high))

    def keys_per_resident(self, q: object, *, high: int = 63) -> Query:
        """Quantile of the keys in which a resident has rows, up to `high`: what to bound keys by."""
        return self._with(_spread("keys", q, high))

    def top(self, k: int) -> Query:
        """Only the k keys with the highest count, residents or sum, in order, without the numbers: noisy max.

        The noise does not grow with the number of keys, unlike that of asking for all and sorting.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= 1000:
            raise InvalidQueryError("top takes a whole number from 1 to 1,000")
        return replace(self, highest=k)

    def column(self, name: str) -> Column:
        """The type of `column` or `profile.column`; InvalidQueryError where the question has no such column."""
        table, dot, rest = name.partition(".")
        if not dot:
            return self.schema.column(name)
        for profile in self.profiles:
            if profile.name == table:
                return profile.column(rest)
        raise InvalidQueryError(f"column {name!r}: join its table first, with .join({table})")

    def columns(self, *, where: bool = True) -> frozenset[str]:
        """Names of all the columns that the question reads, or of those read after its `where`."""
        used = {k.column for k in self.key_list} | {a.column for a in self.aggregates if a.column}
        used |= {a.per[0] for a in self.aggregates if len(a.per) > 1}
        return frozenset(used | (self.predicate.columns() if where and self.predicate is not None else set()))

    def tables(self) -> tuple[tuple[str, bytes, tuple[str, ...]], ...]:
        """Name, schema digest and columns of all that a consent must cover for this question.

        Its own table first, those joined, then those that its derived columns were computed from.
        """
        used = self.columns()
        found = {t.name: (t.digest, set[str]()) for t in (self.schema, *self.profiles)}
        for column in used:
            table, _, name = column.rpartition(".")
            found[table or self.schema.name][1].add(name)
        for table, (schema, read) in sources(self.column(n) for n in used).items():
            if found.setdefault(table, (schema, set()))[0] != schema:
                raise InvalidQueryError(f"a derived column reads another table {table!r} than the question: use one")
            found[table][1].update(read)
        return tuple((table, schema, tuple(sorted(columns))) for table, (schema, columns) in found.items())

    def document(self) -> dict[str, Any]:
        """The question as a document: its digest names it."""
        return {
            "schema": self.schema.digest.hex(), "table": self.schema.name,
            "profiles": [[p.name, p.digest.hex()] for p in self.profiles],
            "keys": [k.document() for k in self.key_list],
            "where": self.predicate.document() if self.predicate is not None else None,
            "rows": self.rows, "bound_keys": self.keys_bound,
            "aggregates": [a.document() for a in self.aggregates], "top": self.highest,
        }  # fmt: skip

    @property
    def digest(self) -> bytes:
        return digest(self.document())

    def _clipped(
        self, kind: AggregateKind, column: str | None, low: object, high: object, per: str | Key | None = None
    ) -> Aggregate:
        type_ = self.column(column) if column is not None else ROWS
        if isinstance(type_, Category | Timestamp | Boolean):
            raise InvalidQueryError(f"column {column!r} is no number: {kind} takes an Integer or a Decimal")
        if per is None and column is None:
            raise InvalidQueryError("name a column, or what to count the rows of: per='resident', or a column or key")
        if per is not None and (low is None or high is None):
            raise InvalidQueryError("say between what bounds an item's total counts: give low= and high=")
        first, last = type_.range
        first = first if low is None else type_.encode(low)
        last = last if high is None else type_.encode(high)
        least, most = type_.range if per is None else (-MAX_CODE, MAX_CODE)
        if first > last or first < least or last > most:
            raise InvalidQueryError(f"clip {column!r} to a range within its declared bounds")
        return Aggregate(kind, column or "", first, last, self._per(per))

    def _per(self, per: str | Key | None) -> tuple[str, ...]:
        if per is None or per == "resident":
            return () if per is None else ("resident",)
        key = as_key(per)
        if key.profile:
            raise InvalidQueryError("a joined column is the same in all of a resident's rows: use per='resident'")
        column = self.column(key.column)
        if key.kind != "value":
            cell_labels(key, column)
        return (key.column, key.kind, *key.cuts)

    def _with(self, aggregate: Aggregate) -> Query:
        if any(a.name == aggregate.name for a in self.aggregates):
            raise InvalidQueryError(f"the question asks for {aggregate.name} twice: leave one out")
        return replace(self, aggregates=(*self.aggregates, aggregate))


def _spread(kind: Literal["rows", "keys"], q: object, high: int) -> Aggregate:
    if isinstance(high, bool) or not isinstance(high, int) or not 1 <= high <= 65_535:
        raise InvalidQueryError("high is a whole number from 1 to 65,535")
    return Aggregate(kind, "", 0, high, (), share_of(q), equal_cuts(0, high, 256))


MAX_QUESTION = 512 * 1024
"""Bytes in the canonical text of a question."""
MAX_TABLES = 16
"""Tables that a question reads: its own, those joined, and those that its derived columns were computed from."""


def check_question(query: Query, cells: int) -> None:
    """Raise InvalidQueryError where a question is incomplete, or its answer could not be shown or logged."""
    if not query.aggregates:
        raise InvalidQueryError(
            "the question asks for nothing: add .count(), .sum(), .mean(), .variance(), .median() or .distinct()"
        )
    names = [k.name for k in query.key_list] + (["rank"] if query.highest else [])
    names += [a.name + side for a in query.aggregates for side in ("", "_low", "_high")]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InvalidQueryError(f"the answer would have two columns {twice!r}: leave out the key or the aggregate")
    for aggregate in query.aggregates:
        type_ = query.column(aggregate.column) if aggregate.column else ROWS
        low, high, cuts = aggregate.low, aggregate.high, aggregate.cuts
        chosen = () if not cuts or cuts == equal_cuts(low, high, len(cuts) + 1) else cuts
        for code in (low, high, *chosen):
            check_literal(type_.decode(code))
    if len(query.tables()) > MAX_TABLES:
        raise InvalidQueryError(f"a question reads at most {MAX_TABLES} tables: leave out those it does not need")
    if len(canonical(query.document())) > MAX_QUESTION:
        raise InvalidQueryError("the question is longer than 512 KiB: list fewer values in its where")
    unknown = any(k.kind == "unknown" for k in query.key_list)
    if unknown and not any(a.kind == "distinct" for a in query.aggregates):
        raise InvalidQueryError("unknown keys show by their residents: add .distinct()")
    if unknown and (query.highest is not None or any(a.cuts or a.whole for a in query.aggregates)):
        raise InvalidQueryError("with unknown keys ask for count, sum, mean, variance, std and distinct alone")
    if query.highest is not None:
        first, *more = query.aggregates
        if more or first.kind not in ("count", "distinct", "sum") or (first.kind == "sum" and first.low < 0):
            raise InvalidQueryError("top takes one count, distinct, or sum clipped at low=0 or above")
        if query.highest >= cells:
            raise InvalidQueryError(f"the question has {cells} cells: ask for fewer at the top, or for all without top")


def bounds_of(query: Query, own: int, blind: bool) -> tuple[int, int]:
    """The bounds R and C as they apply; InvalidQueryError where one is missing.

    Args:
        own: cells of the keys that are no joined columns: what one resident could touch.
        blind: no rank index serves the keys, so that R bounds all rows of a resident.
    """
    rows, keys = query.rows, query.keys_bound
    single = query.schema.kind == "attributes"
    free = ("distinct", "coverage", "keys")
    if rows is None and not single and any(a.kind not in free for a in query.aggregates):
        raise InvalidQueryError("say how many rows of a resident count in each key: add .bound(rows=...)")
    if keys is None and own > 1 and not single:
        raise InvalidQueryError("say in how many keys a resident counts: add .bound(keys=...)")
    keys = min(1 if single or keys is None else keys, own)
    if rows is None:
        rows = keys if blind else 1
    return 1 if single else rows, keys


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
        if doc["top"] is not None:
            found = found.top(doc["top"])
    except (KeyError, TypeError, ValueError) as fault:
        if isinstance(fault, InvalidQueryError):
            raise
        raise InvalidQueryError("the question's document is incomplete, or names a schema that is not given") from None
    return found


def _aggregate(query: Query, doc: Mapping[str, Any]) -> Aggregate:
    aggregate = Aggregate.from_document(doc)
    if aggregate in (Aggregate("count"), Aggregate("distinct"), Aggregate("coverage")):
        return aggregate
    column: Column | None = query.column(aggregate.column) if aggregate.column else None
    per = query._per(aggregate.unit_key or (aggregate.per[0] if aggregate.per else None))
    known = per == aggregate.per and all(type(n) is int for n in (aggregate.low, aggregate.high, *aggregate.cuts))
    if aggregate.kind in ("rows", "keys"):
        known = known and column is None and not per
    elif aggregate.kind == "count":
        known = aggregate == Aggregate("count", per=per)
    else:
        known = (
            known
            and aggregate.kind in CLIPPED
            and (isinstance(column, Integer | Decimal) or (not column and per != ()))
        )
    if not known:
        raise InvalidQueryError("the question's document names an aggregate that is not known")
    low, high = column.range if column is not None and not per else (-MAX_CODE, MAX_CODE)
    if not low <= aggregate.low <= aggregate.high <= high and aggregate.kind != "count":
        raise InvalidQueryError(f"clip {aggregate.column!r} to a range within its declared bounds")
    if aggregate.kind in ("quantile", "rows", "keys"):
        if share_of(aggregate.q) != aggregate.q or not ascending(aggregate.cuts, aggregate.low, aggregate.high):
            raise InvalidQueryError("the question's document names a quantile that is none")
    elif aggregate.q or aggregate.cuts:
        raise InvalidQueryError("the question's document names an aggregate that is not known")
    return aggregate
