"""Schemas and key expressions: the public shape of a table, and the public cells that questions group by."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Timestamp
from datasov.model.derived import Exists, check_derived, column_from_document
from datasov.model.document import check_name, digest
from datasov.model.mynumber import check_literal

DOMAINS = (
    "mobility", "logistics", "payments", "administration", "health",
    "education", "energy", "environment", "crime-prevention", "disaster",
)  # fmt: skip
"""The ten areas of city life (移動, 物流, 支払い, 行政, 医療・介護, 教育, エネルギー・水, 環境・ごみ, 防犯, 防災)."""

TIME_KINDS = ("hour", "day", "week", "month")
KeyKind: TypeAlias = Literal["value", "bin", "hour", "day", "week", "month", "unknown"]

MAX_CELLS = 1 << 24
"""Cells of a question, or of a key set that a schema declares."""
MAX_UNKNOWN = 1 << 32
"""Values that an unknown key may have, and half the bits of a cell that holds one."""
MAX_KEY_SETS = 16
"""Key sets of a schema: each is an index over all rows."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key expression: a column's value, its bin, or the local hour, day, week or month of a timestamp.

    Of kind "unknown" it is the value of an Integer whose range is too wide to list: the answer finds those that stand.

    `column` is a name of the table, or `table.name` for a column of a joined attribute table. `cuts` are the inner
    edges of a bin in logical units: cuts (5, 10) part [low, high] into [low, 5), [5, 10), [10, high].
    """

    column: str
    kind: KeyKind = "value"
    cuts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the key's column in a release."""
        return self.column if self.kind in ("value", "unknown") else f"{self.column}_{self.kind}"

    @property
    def profile(self) -> bool:
        """Whether the key is a column of a joined attribute table, and so constant within a resident."""
        return "." in self.column

    def document(self) -> dict[str, Any]:
        return {"column": self.column, "kind": self.kind, "cuts": list(self.cuts)}

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Key:
        return Key(doc["column"], doc["kind"], tuple(doc["cuts"]))


def bin(column: str, cuts: Iterable[object]) -> Key:
    """A key: which bin of `column` a row falls in, the bins parted at `cuts` (ascending, within the bounds)."""
    return Key(column, "bin", tuple(str(c) for c in cuts))


def hour(column: str) -> Key:
    """A key: the local hour of day of a Timestamp, 0 to 23, in the column's zone."""
    return Key(column, "hour")


def day(column: str) -> Key:
    """A key: the local calendar day of a Timestamp, in the column's zone, every day between its bounds."""
    return Key(column, "day")


def week(column: str) -> Key:
    """A key: the local week of a Timestamp, named by its Monday (ISO 8601), every week between its bounds."""
    return Key(column, "week")


def month(column: str) -> Key:
    """A key: the local calendar month of a Timestamp, named by its first day, every month between its bounds."""
    return Key(column, "month")


def unknown(column: str) -> Key:
    """A key: the value of an Integer column whose values nobody lists. Only those that enough residents have show.

    Such a question needs a loss with a delta, counts residents with `.distinct()`, and every key pays for its chance to
    show: thresholding, see :meth:`City.release`.
    """
    return Key(column, "unknown")


def as_key(key: str | Key) -> Key:
    if isinstance(key, Key):
        return key
    if isinstance(key, str):
        return Key(key)
    raise InvalidQueryError(f"a {type(key).__name__} is no key: give a column's name, ds.bin, ds.hour or ds.day")


def cell_labels(key: Key, column: Column) -> Sequence[object]:
    """The public values of a key, in order, null last where the column is nullable or joined.

    A joined column always has the null cell: a resident without a profile row is counted there.
    """
    labels: tuple[object, ...]
    if key.kind == "unknown":
        return _unlisted(key, column)
    if key.kind == "value":
        if isinstance(column, Category):
            labels = column.values
        elif isinstance(column, Boolean):
            labels = (False, True)
        else:
            raise InvalidQueryError(
                f"column {key.column!r} has too many values for a key: use ds.bin, or ds.hour, day, week or month"
            )
    elif key.kind == "bin":
        edges = [column.range[0], *bin_cuts(key, column)]
        decoded = [column.decode(e) for e in edges]
        ends = [f"{b})" for b in decoded[1:]] + [f"{column.decode(column.range[1])}]"]
        labels = tuple(f"[{a}, {b}" for a, b in zip(decoded, ends, strict=True))
    else:
        if key.kind not in TIME_KINDS:
            raise InvalidQueryError(
                f"a key of kind {key.kind!r} is not known: use a column's name, ds.bin, hour, day, week or month"
            )
        if not isinstance(column, Timestamp):
            raise InvalidQueryError(f"column {key.column!r} is no Timestamp: {key.kind} needs one")
        labels = tuple(range(24)) if key.kind == "hour" else periods(column, key.kind)
    return (*labels, None) if column.nullable or key.profile else labels


def _unlisted(key: Key, column: Column) -> range:
    low, high = column.range
    if isinstance(column, Category | Boolean | Timestamp) or key.profile or column.nullable:
        raise InvalidQueryError(
            f"unknown keys are of an Integer of the event table, without nulls: {key.column!r} is none"
        )
    if column.decode(low) != low or high - low >= MAX_UNKNOWN:
        raise InvalidQueryError(f"unknown keys are of an Integer with at most 2^32 values: narrow {key.column!r}")
    return range(low, high + 1)


def check_keys(keys: Sequence[Key], labels: Sequence[Sequence[object]]) -> None:
    """Raise InvalidQueryError where two keys would have one name, or their cells are too many."""
    if len({k.name for k in keys}) != len(keys):
        raise InvalidQueryError("two keys have the same name: leave one out")
    if sum(k.kind == "unknown" for k in keys) > 1:
        raise InvalidQueryError("a question has at most one unknown key: combine them into one column")
    cells = math.prod(len(group) for k, group in zip(keys, labels, strict=True) if k.kind != "unknown")
    if cells > MAX_CELLS or math.prod(len(group) for group in labels) > 1 << 52:
        raise InvalidQueryError(f"the keys make {cells} cells, above {MAX_CELLS}: use fewer keys or wider bins")


def periods(column: Timestamp, kind: KeyKind) -> tuple[dt.date, ...]:
    """The first days of the local days, weeks or months that a Timestamp's bounds touch, ascending."""
    return (_known if (column.high - column.low).days <= _KNOWN_DAYS else _listed)(column, kind)


def _listed(column: Timestamp, kind: KeyKind) -> tuple[dt.date, ...]:
    zone = ZoneInfo(column.zone)
    first, last = column.low.astimezone(zone).date(), column.high.astimezone(zone).date()
    days = (first + dt.timedelta(days=i) for i in range((last - first).days + 1))
    if kind == "week":
        days = (d - dt.timedelta(days=d.weekday()) for d in days)
    elif kind == "month":
        days = (d.replace(day=1) for d in days)
    return tuple(dict.fromkeys(days))


_KNOWN_DAYS = 1 << 14
"""Lists of so many days are remembered: a schema is read anew wherever it comes from, and ten years take 10 ms."""
_known = functools.lru_cache(maxsize=16)(_listed)


def bin_cuts(key: Key, column: Column) -> tuple[int, ...]:
    """The inner edges of a bin as codes, ascending."""
    if isinstance(column, Category | Boolean):
        raise InvalidQueryError(f"column {key.column!r} has listed values: use it as a key without ds.bin")
    cuts = tuple(column.encode(c) for c in key.cuts)
    if not isinstance(column, Timestamp):
        for cut, written in zip(cuts, key.cuts, strict=True):
            check_literal(written)
            check_literal(column.decode(cut))
    low, high = column.range
    if not cuts or any(b <= a for a, b in zip((low, *cuts), cuts, strict=False)) or cuts[-1] > high:
        raise InvalidQueryError(f"cuts of {key.column!r} must ascend strictly within its bounds, above the low bound")
    return cuts


@dataclass(frozen=True, slots=True)
class Schema:
    """A table's public shape.

    Args:
        name: an identifier, unique in a city.
        domain: one of :data:`DOMAINS`; a vault keeps one key per domain.
        columns: name to column type, derived ones (:class:`datasov.Exists`) too.
        kind: "events" (any number of rows a resident) or "attributes" (at most one row a resident).
        keys: key sets that questions are expected to group by; the pool keeps a rank index for each.

    Raises:
        InvalidQueryError: what is wrong, and what to write instead.
    """

    name: str
    domain: str
    items: tuple[tuple[str, Column], ...]
    kind: Literal["events", "attributes"]
    key_sets: tuple[tuple[Key, ...], ...]
    digest: bytes

    def __init__(
        self,
        name: str,
        *,
        domain: str,
        columns: Mapping[str, Column],
        kind: Literal["events", "attributes"] = "events",
        keys: Iterable[Iterable[str | Key]] = (),
    ) -> None:
        check_name(name, "table")
        if domain not in DOMAINS:
            raise InvalidQueryError(f"domain {domain!r} is not one of {', '.join(DOMAINS)}")
        if kind not in ("events", "attributes"):
            raise InvalidQueryError("kind is 'events' or 'attributes'")
        if not columns:
            raise InvalidQueryError("a schema needs at least one column")
        for column, type_ in columns.items():
            check_name(column, "column")
            if not isinstance(type_, Category | Boolean | Timestamp) and not hasattr(type_, "range"):
                raise InvalidQueryError(f"column {column!r}: give ds.Category, Integer, Decimal, Timestamp or Boolean")
            if type_.legal == "forbidden":
                raise InvalidQueryError(f"column {column!r} is of a forbidden legal class: leave it out")
        check_derived(name, columns)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "items", tuple(columns.items()))
        object.__setattr__(self, "kind", kind)
        sets = tuple(tuple(as_key(k) for k in ([key_set] if isinstance(key_set, str) else key_set)) for key_set in keys)
        if len(sets) > MAX_KEY_SETS:
            raise InvalidQueryError(f"a schema declares at most {MAX_KEY_SETS} key sets: leave out the rarest")
        for key_set in sets:
            for key in key_set:
                if key.profile:
                    raise InvalidQueryError(
                        f"key {key.column!r}: leave joined columns out of `keys`, an index serves them anyway"
                    )
            check_keys(key_set, [cell_labels(key, self.column(key.column)) for key in key_set])
        object.__setattr__(self, "key_sets", sets)
        object.__setattr__(self, "digest", digest(self.document()))

    @property
    def columns(self) -> Mapping[str, Column]:
        return MappingProxyType(dict(self.items))

    @property
    def stored(self) -> tuple[tuple[str, Column], ...]:
        """Names and types of the columns that are put; the others a vault derives."""
        return tuple((n, c) for n, c in self.items if not isinstance(c, Exists))

    def column(self, name: str) -> Column:
        """The type of a column; InvalidQueryError, naming those that exist, where there is none."""
        for known, type_ in self.items:
            if known == name:
                return type_
        names = ", ".join(known for known, _ in self.items)
        raise InvalidQueryError(f"table {self.name!r} has no column {name!r}: it has {names}")

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name, "domain": self.domain, "kind": self.kind,
            "columns": [[n, c.document()] for n, c in self.items],
            "keys": [[k.document() for k in ks] for ks in self.key_sets],
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Schema:
        return Schema(
            doc["name"], domain=doc["domain"], kind=doc["kind"],
            columns={n: column_from_document(c) for n, c in doc["columns"]},
            keys=[[Key.from_document(k) for k in ks] for ks in doc["keys"]],
        )  # fmt: skip
