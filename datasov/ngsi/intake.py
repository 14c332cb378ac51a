"""Intake at home: entities of a household's own devices into that resident's vault. No city has a part in it.

What was taken is noted in the vault, under the same domain's key: of each value a hash that names its source, its time,
and of a meter's total the reading. So what comes twice is put once, and both go with their domain when it is erased.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from datasov.errors import DatasovError, InvalidDataError, InvalidQueryError
from datasov.model import frames
from datasov.model.columns import Boolean, Category, Decimal, Integer, Timestamp, exact
from datasov.model.derived import microseconds
from datasov.model.schema import Schema
from datasov.ngsi.mapping import Mapping
from datasov.ngsi.reading import Fault, Reading, Value, read
from datasov.ngsi.units import convert

_HALF = 1 << 36
_FIRST, _END = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
AHEAD = dt.timedelta(days=1)
_TIMES = ("dateObserved", "TimeInstant")


class Vault(Protocol):
    """What the intake asks of a resident."""

    def put_all(self, tables: Iterable[tuple[Schema, frames.Rows]]) -> int: ...
    def scan(self, schema: Schema) -> pl.DataFrame: ...


@dataclass(slots=True)
class Taken:
    """What became of a body: rows put; entities that had come before; meters that begin, with a reading and no row yet;
    and what was refused, for the holder alone."""

    put: int = 0
    duplicates: int = 0
    begun: int = 0
    refused: list[Fault] = field(default_factory=list)


def noted(domain: str) -> Schema:
    """The table in which the vault notes what was taken into a domain. No consent needs to name it.

    `source_high` and `source_low`: 72 bits of SHA-256 of the entity's id, its type, the table and the column.
    """
    return Schema(
        "ngsi_taken_" + domain.replace("-", "_"), domain=domain,
        columns={
            "source_high": Integer(0, _HALF - 1, unit="hash"), "source_low": Integer(0, _HALF - 1, unit="hash"),
            "at": Timestamp("1970-01-01", "2200-01-01", zone="UTC"),
            "reading": Decimal("0", "999999999", scale=6, unit="reading", nullable=True),
        },
    )  # fmt: skip


def take(vault: Vault, body: bytes, mappings: Sequence[Mapping], *, now: float | None = None) -> Taken:
    """Put what a body of entities, or a notification, tells into a vault: durably, and each value once.

    Values are taken one by one: what does not fit is refused and told, and the rest is put. A total goes in by its
    differences, in order of time: the first reading of a meter, and one after a pause, only begins.

    Args:
        mappings: at most one for each type of entity. All must be of one domain.
        now: Unix seconds. Where it is given, a value of more than a day after it is refused: the total of a meter whose
            clock jumped ahead would keep out all that come after it.

    Raises:
        InvalidDataError: the body is no JSON or holds no entities, or the mappings do not go together.
    """
    types = {m.type: m for m in mappings}
    domains = {m.schema.domain for m in mappings}
    if len(types) != len(mappings) or len(domains) != 1:
        raise InvalidDataError("give one mapping for each type of entity, all into tables of one domain")
    readings, faults = read(body)
    taken, notes = Taken(refused=faults), _Notes(vault, noted(domains.pop()))
    rows: dict[str, tuple[Schema, list[dict[str, Any]]]] = {}
    for mapping, reading in _timed(readings, types, taken, now):
        row = _row(mapping, reading, notes, taken)
        if row is not None:
            rows.setdefault(mapping.schema.name, (mapping.schema, []))[1].append(row)
    if notes.new:
        vault.put_all([*rows.values(), (notes.schema, notes.new)])
    taken.put = sum(len(made) for _, made in rows.values())
    return taken


class _Notes:
    """What was taken before, and what is taken now."""

    def __init__(self, vault: Vault, schema: Schema) -> None:
        self.schema, self.new = schema, list[dict[str, Any]]()
        self._last: dict[tuple[int, int], tuple[dt.datetime, decimal.Decimal | None]] = {}
        self._seen: set[tuple[int, int, dt.datetime]] = set()
        for high, low, at, reading in vault.scan(schema).rows():
            self._keep((high, low), at.astimezone(dt.UTC), reading)

    def _keep(self, source: tuple[int, int], at: dt.datetime, reading: decimal.Decimal | None) -> None:
        self._seen.add((*source, at))
        if source not in self._last or self._last[source][0] < at:
            self._last[source] = at, reading

    def seen(self, source: tuple[int, int], at: dt.datetime) -> bool:
        return (*source, at) in self._seen

    def last(self, source: tuple[int, int]) -> tuple[dt.datetime, decimal.Decimal | None] | None:
        return self._last.get(source)

    def add(self, source: tuple[int, int], at: dt.datetime, reading: decimal.Decimal | None = None) -> None:
        self._keep(source, at, reading)
        self.new.append({"source_high": source[0], "source_low": source[1], "at": at, "reading": reading})


def _source(reading: Reading, mapping: Mapping, column: str) -> tuple[int, int]:
    name = "\0".join((reading.identifier, reading.type, mapping.schema.name, column))
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:9])
    return divmod(number, _HALF)


def _timed(
    readings: Iterable[Reading], types: dict[str, Mapping], taken: Taken, now: float | None
) -> Iterator[tuple[Mapping, Reading]]:  # fmt: skip
    """The readings that a mapping is for, in order of time."""
    found = []
    for reading in readings:
        mapping = types.get(reading.type)
        if mapping is None:
            taken.refused.append(Fault(reading.identifier, "", "no mapping is for entities of this type: give one"))
            continue
        other = [n for n, v in mapping.only.items() if n not in reading.values or reading.values[n].value != v]
        if other:
            taken.refused.append(
                Fault(reading.identifier, other[0], f"not {mapping.only[other[0]]}: another mapping's")
            )
            continue
        try:
            when = _when(mapping, reading)
            if now is not None and when > dt.datetime.fromtimestamp(now, dt.UTC) + AHEAD:
                raise InvalidQueryError("a time that is still to come: check the device's clock")
            found.append((when, mapping, reading))
        except InvalidQueryError as why:
            taken.refused.append(Fault(reading.identifier, mapping.at, str(why)))
    for _, mapping, reading in sorted(found, key=lambda item: item[0]):
        yield mapping, reading


def _when(mapping: Mapping, reading: Reading) -> dt.datetime:
    """When the values were observed, in UTC; InvalidQueryError where nothing tells, or not in which zone."""
    named = [reading.values[f.attribute].observed for f in mapping.fields.values() if f.attribute in reading.values]
    told = {t for t in named if t is not None}
    if len(told) > 1:
        raise InvalidQueryError("its values are of several times: send one entity for each")
    texts = [*told, *(reading.values[n].value for n in _TIMES if n in reading.values)]
    if not texts or not isinstance(texts[0], str):
        raise InvalidQueryError("no time of observation: give observedAt, or dateObserved")
    try:
        when = dt.datetime.fromisoformat(texts[0])
        if when.tzinfo is None and mapping.zone:
            local = Timestamp("1970-01-01", "1970-01-02", zone=mapping.zone)
            when = local.decode(local.encode(when))
        if when.tzinfo is None:
            raise InvalidQueryError("a time without an offset: say in which zone it is, with the mapping's `zone`")
        found = when.astimezone(dt.UTC)
        if not _FIRST <= found < _END:
            raise InvalidQueryError("a time before 1970 or after 2199: check the device's clock")
        return found
    except (ValueError, OverflowError) as fault:
        if isinstance(fault, InvalidQueryError):
            raise
        raise InvalidQueryError("not a time: ISO 8601, like 2027-01-31T08:00:00+09:00") from None


def _row(mapping: Mapping, reading: Reading, notes: _Notes, taken: Taken) -> dict[str, Any] | None:
    """The row of a reading, or None; what it does to the notes is done."""
    at = _when(mapping, reading)
    own = _source(reading, mapping, "")
    if notes.seen(own, at):
        taken.duplicates += 1
        return None
    row, begun = {**mapping.fixed, mapping.at: at}, False
    totals: list[tuple[tuple[int, int], decimal.Decimal]] = []
    column = ""
    try:
        for column, given in mapping.fields.items():
            value = reading.values.get(given.attribute)
            if value is None or value.value is None:
                row[column] = None
                continue
            row[column] = _told(mapping, column, value)
            if given.difference:
                source, total = _source(reading, mapping, column), exact(row[column])
                totals.append((source, _total(total)))
                before = notes.last(source)
                row[column] = _grown(mapping, column, before, at, totals[-1][1])
                begun |= before is None
    except _BeginAnewError as why:
        taken.refused.append(Fault(reading.identifier, mapping.fields[column].attribute, str(why)))
        begun, row = False, {}
    except DatasovError as why:
        taken.refused.append(Fault(reading.identifier, mapping.fields[column].attribute, str(why)))
        return None
    for source, total in totals:
        notes.add(source, at, total)
    fits = bool(row) and not begun and _fits(mapping, reading, row, taken)
    if fits or totals:
        notes.add(own, at)
    taken.begun += begun
    return row if fits else None


def _fits(mapping: Mapping, reading: Reading, row: dict[str, Any], taken: Taken) -> bool:
    try:
        frames.encode(mapping.schema, [row])
    except InvalidDataError as why:
        source = mapping.fields.get(why.column or "")
        taken.refused.append(Fault(reading.identifier, source.attribute if source else why.column or "", why.reason))
        return False
    return True


def _told(mapping: Mapping, column: str, value: Value) -> Any:
    """A value as its column takes it, in its unit."""
    type_, given = mapping.schema.column(column), mapping.fields[column]
    if isinstance(type_, Category):
        return given.values.get(value.value, value.value) if isinstance(value.value, str) else value.value
    if isinstance(type_, Boolean | Timestamp):
        return value.value
    number = exact(value.value)
    if type_.unit:
        unit = value.unit or given.unit
        if not unit:
            raise InvalidQueryError(f"a value without a unit: give unitCode, or say that it is in {type_.unit}")
        number = convert(number, unit, type_.unit)
    if isinstance(type_, Decimal) and not given.difference:
        return _rounded(number, type_.scale)
    return number


def _rounded(number: decimal.Decimal, scale: int) -> decimal.Decimal:
    with decimal.localcontext(prec=60):
        return number.quantize(decimal.Decimal(1).scaleb(-scale), rounding=decimal.ROUND_HALF_EVEN)


def _total(number: decimal.Decimal) -> decimal.Decimal:
    if not 0 <= number <= 999_999_999:
        raise InvalidQueryError("a meter's total lies from 0 to 999,999,999: check its unit")
    return _rounded(number, 6)


class _BeginAnewError(DatasovError):
    """A total from which no difference follows; the next one counts from here."""


def _grown(
    mapping: Mapping, column: str, before: tuple[dt.datetime, decimal.Decimal | None] | None, at: dt.datetime,
    total: decimal.Decimal,
) -> decimal.Decimal | None:  # fmt: skip
    """What a meter's total grew by; None where there is no reading before."""
    if before is None or before[1] is None:
        return None
    when, earlier = before[0], exact(before[1])
    if at <= when:
        raise InvalidQueryError("a total older than the newest of this meter: the difference after it has it already")
    if (at - when) // dt.timedelta(microseconds=1) > microseconds(mapping.longest):
        raise _BeginAnewError(f"more than {mapping.longest} since the total before: it counts from here on")
    if total < earlier:
        raise _BeginAnewError("a total below the one before, as of another meter: it counts from here on")
    type_ = mapping.schema.column(column)
    return _rounded(total - earlier, type_.scale if isinstance(type_, Decimal) else 0)
