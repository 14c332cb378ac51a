"""Derived columns: what a vault computes for each row from the resident's own rows of another table.

A city receives the column alone. The rows that it was computed from stay in the vault, so a question can join two
domains inside the person, and no identifier is shared between the domains' pools.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from datasov.errors import InvalidQueryError
from datasov.model.columns import MAX_CODE, Boolean, Column, Legal, Timestamp
from datasov.model.columns import column_from_document as plain_column
from datasov.model.document import check_name
from datasov.model.predicate import Predicate, check_predicate

Duration: TypeAlias = str | dt.timedelta
"""A text like "90d", "2h" or "30min" (w, d, h, min, s, ms, us), or a timedelta. A day is 24 hours."""

MAX_READ = 1024
"""Columns of another table that one derived column may read."""

_MICROSECOND = dt.timedelta(microseconds=1)
_UNITS = {
    "w": 7 * 86_400_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "min": 60_000_000, "s": 1_000_000, "ms": 1_000,
    "us": 1,
}  # fmt: skip
_FIELDS = {"type", "table", "schema", "columns", "at", "other", "before", "after", "where", "legal"}


@runtime_checkable
class Table(Protocol):
    """What a derived column needs to know of the table that it reads: a :class:`datasov.Schema`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["events", "attributes"]: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def columns(self) -> Mapping[str, Column]: ...
    def column(self, name: str) -> Column:
        """The type of a column; InvalidQueryError where there is none."""


@dataclass(frozen=True, slots=True, init=False, kw_only=True)
class Exists(Boolean):
    """Whether the resident holds a row of another event table: a truth value that the vault computes, never null.

    With times it is true for a row iff the vault holds at least one row r of `schema` with
    ``at - before <= r.other <= at + after``, both ends included and to the microsecond, for which `where` holds. It is
    false where `at` is null; an r whose `other` is null never counts. Without times it is true iff the vault holds any
    row of `schema` for which `where` holds.

    Args:
        schema: the other event table. Of it, the column keeps the name, the digest and the columns read: `other` and
            those in `where`, or all of them where neither is given.
        at: a Timestamp of the own table. other: a Timestamp of the other one. Both, or neither.
        before, after: how long before and after `at`; at least one of them with times.
        where: a predicate over columns of the other table that are put, not derived.
        legal: the class of the column; "special" wherever a column that it reads is.

    Raises:
        InvalidQueryError: what is wrong, and what to write instead.
    """

    table: str
    digest: bytes
    reads: tuple[str, ...]
    at: str | None
    other: str | None
    before: int
    after: int
    where: Predicate | None

    def __init__(
        self,
        schema: Table,
        *,
        at: str | None = None,
        other: str | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        where: Predicate | None = None,
        legal: Legal = "ordinary",
    ) -> None:
        if not isinstance(schema, Table):
            raise InvalidQueryError("ds.Exists takes the ds.Schema of the other table first")
        if schema.kind != "events":
            raise InvalidQueryError(f"table {schema.name!r} holds attributes: join it, or name an event table")
        if where is not None:
            if not isinstance(where, Predicate):
                raise InvalidQueryError("where takes a predicate like ds.col('line') == 'U1'")
            check_predicate(where, schema)
        if other is not None and not isinstance(schema.column(other), Timestamp):
            raise InvalidQueryError(f"column {other!r} of table {schema.name!r} is no Timestamp: `other` needs one")
        named = where.columns() if where is not None else frozenset[str]()
        named |= {other} if other is not None else set()
        derived = sorted(n for n in named if isinstance(schema.column(n), Exists))
        if derived:
            raise InvalidQueryError(f"column {derived[0]!r} is derived itself: name columns that are put")
        stored = {n for n, c in schema.columns.items() if not isinstance(c, Exists)}
        reads = named or stored
        special = any(schema.column(n).legal == "special" for n in reads)
        self._set(
            legal="special" if special and legal == "ordinary" else legal, table=schema.name, digest=schema.digest,
            reads=tuple(sorted(reads)), at=at, other=other, where=where,
            before=None if before is None else microseconds(before),
            after=None if after is None else microseconds(after),
        )  # fmt: skip

    def _set(
        self, *, legal: Legal, table: str, digest: bytes, reads: tuple[str, ...], at: str | None, other: str | None,
        before: int | None, after: int | None, where: Predicate | None,
    ) -> None:  # fmt: skip
        """Set the fields, checked as far as they can be without the other table."""
        Boolean(legal=legal)
        if (at is None) != (other is None):
            raise InvalidQueryError("give both `at`, a column of this table, and `other`, one of the other, or neither")
        if (before is None and after is None) == (at is not None):
            raise InvalidQueryError("a window of time needs `at`, `other`, and `before` or `after` or both of them")
        if not reads or len(reads) > MAX_READ:
            raise InvalidQueryError(f"a derived column reads at most {MAX_READ} columns of the other table")
        for name, value in (
            ("nullable", False), ("legal", legal), ("table", table), ("digest", digest), ("reads", reads), ("at", at),
            ("other", other), ("before", before or 0), ("after", after or 0), ("where", where),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def over(self, schema: Table) -> Exists:
        """This column, declared anew over the other table itself.

        Raises:
            InvalidQueryError: it is not the table that the column names, or the column is not what it says of it.
        """
        timed = self.at is not None
        again = Exists(
            schema, at=self.at, other=self.other, where=self.where, legal=self.legal,
            before=self.before * _MICROSECOND if timed else None, after=self.after * _MICROSECOND if timed else None,
        )  # fmt: skip
        if again != self:
            raise InvalidQueryError(
                f"the derived column was declared over another table {self.table!r} than this one: "
                "use the schema that it was declared with"
            )
        return self

    def document(self) -> dict[str, Any]:
        return {
            "type": "exists", "table": self.table, "schema": self.digest.hex(), "columns": list(self.reads),
            "at": self.at, "other": self.other, "before": self.before, "after": self.after,
            "where": self.where.document() if self.where is not None else None, "legal": self.legal,
        }  # fmt: skip


def microseconds(value: object) -> int:
    """Whole microseconds of a duration; InvalidQueryError where it is none, negative, or longer than 285 years."""
    if isinstance(value, dt.timedelta):
        length = value // _MICROSECOND
    else:
        match = re.fullmatch(r"([0-9]{1,18})(w|d|h|min|s|ms|us)", value) if isinstance(value, str) else None
        if match is None:
            raise InvalidQueryError("a duration is a text like '90d', '2h', '30min' or '45s', or a timedelta")
        length = int(match[1]) * _UNITS[match[2]]
    if not 0 <= length <= MAX_CODE:
        raise InvalidQueryError("a duration is not negative, and at most 2^53 microseconds: choose a shorter one")
    return length


def column_from_document(doc: Mapping[str, Any]) -> Column:
    """The column that `document()` described, derived ones too; InvalidQueryError where there is no such type.

    A derived column comes back without the other table: :meth:`Exists.over` checks it against that.
    """
    if doc["type"] != "exists":
        return plain_column(doc)
    if set(doc) != _FIELDS or doc["legal"] not in ("ordinary", "special"):
        raise InvalidQueryError("a derived column's document is incomplete: a newer version of datasov wrote it")
    names = [doc["table"], *doc["columns"], *(n for n in (doc["at"], doc["other"]) if n is not None)]
    for name in names:
        check_name(name, "column")
    where = None if doc["where"] is None else Predicate.from_document(doc["where"])
    named = set() if where is None else set(where.columns())
    named |= set() if doc["other"] is None else {doc["other"]}
    if not isinstance(doc["schema"], str) or not re.fullmatch(r"[0-9a-f]{64}", doc["schema"]):
        raise InvalidQueryError("a derived column names the other table by 32 bytes in lower-case hexadecimal digits")
    if doc["columns"] != sorted(set(doc["columns"])) or (named and named != set(doc["columns"])):
        raise InvalidQueryError("a derived column's document lists other columns than those it reads, in order")
    lengths = doc["before"], doc["after"]
    if any(type(n) is not int or not 0 <= n <= (0 if doc["at"] is None else MAX_CODE) for n in lengths):
        raise InvalidQueryError("a derived column's durations are whole microseconds from 0 to 2^53, and need times")
    timed = doc["at"] is not None
    column = Exists.__new__(Exists)
    column._set(
        legal=doc["legal"], table=doc["table"], digest=bytes.fromhex(doc["schema"]), reads=tuple(doc["columns"]),
        at=doc["at"], other=doc["other"], before=lengths[0] if timed else None, after=lengths[1] if timed else None,
        where=where,
    )  # fmt: skip
    return column


Sources: TypeAlias = dict[str, tuple[bytes, frozenset[str]]]
"""Table name to schema digest and the columns read."""


def sources(columns: Iterable[Column]) -> Sources:
    """The tables that the derived ones among these columns are computed from, and what is read of each.

    Raises:
        InvalidQueryError: one table under two schemas.
    """
    found: Sources = {}
    for column in columns:
        if not isinstance(column, Exists):
            continue
        digest, read = found.get(column.table, (column.digest, frozenset[str]()))
        if digest != column.digest:
            raise InvalidQueryError(f"derived columns read table {column.table!r} under two schemas: use one")
        found[column.table] = digest, read | set(column.reads)
    return found


def check_derived(table: str, columns: Mapping[str, Column]) -> None:
    """Raise InvalidQueryError unless the derived columns of a table can be computed from its rows and other tables."""
    derived = {n: c for n, c in columns.items() if isinstance(c, Exists)}
    if len(derived) == len(columns):
        raise InvalidQueryError("a schema needs at least one column that is put, beside those that are derived")
    for name, column in derived.items():
        if column.table == table:
            raise InvalidQueryError(f"column {name!r} reads its own table, whose rows would count themselves: drop it")
        if column.at is not None and not isinstance(columns.get(column.at), Timestamp):
            raise InvalidQueryError(f"column {name!r}: `at` names no Timestamp of table {table!r}")
    sources(derived.values())
