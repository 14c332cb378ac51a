"""Two devices' vaults of one resident become one: a row is known by the device that put it, and its place there.

A device only ever adds rows at the end of its own. So of each device's rows in a table one vault holds the beginning of
what the other holds, whatever was compacted on either side, and what is missing is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from datasov.errors import InvalidDataError, StoreError
from datasov.model.evolution import brought_up, succeed, widened
from datasov.model.frames import check_codes
from datasov.model.schema import Schema
from datasov.vault import compact, rows, tables
from datasov.vault.manifest import SegmentEntry, TableEntry
from datasov.vault.rows import Snapshot


def united(mine: TableEntry | None, theirs: TableEntry | None) -> TableEntry:
    """A table under the schema that follows the other vault's.

    Raises:
        InvalidDataError: neither schema follows the other, or the two filled a column that both added differently.
    """
    if mine is None or theirs is None or mine == theirs:
        found = mine or theirs
        assert found is not None
        return found
    for name in tables.added(mine) & tables.added(theirs):
        if mine.filled.get(name) != theirs.filled.get(name):
            raise InvalidDataError(
                "each device filled another value into the rows put before: export one, and import it", column=name
            )
    both = ((mine, theirs), (theirs, mine))
    for newer, older in (*(pair for pair in both if pair[1].digest in dict(pair[0].earlier)), *both):
        if _follows(newer, older):
            known = {digest for digest, _ in newer.earlier} | {newer.digest}
            more = [item for item in (*older.earlier, (older.digest, older.document)) if item[0] not in known]
            stored = dict(tables.schema_of(newer).stored)
            filled = {name: code for name, code in {**older.filled, **newer.filled}.items() if name in stored}
            return replace(newer, earlier=(*newer.earlier, *more), filled=filled)
    name = tables.schema_of(mine).name
    raise InvalidDataError(
        f"table {name!r} has another schema on each device: on one, evolve it to one that follows both, then merge"
    )


def _follows(newer: TableEntry, older: TableEntry) -> bool:
    """Whether rows put under one table's schemas, of every version, are read right under the other's present one.

    Its present schema follows the other's and those before, retires no column that its own device did not retire, and
    brings back no name that the other device retired: there it may have meant something else.
    """
    before, after = tables.schema_of(older), tables.schema_of(newer)
    held, now = dict(before.stored), dict(after.stored)
    for name in held.keys() - now.keys():
        same = (dict(s.stored).get(name) for s in tables.earlier_of(newer))
        if not any(c and (widened(c, held[name]) or widened(held[name], c)) for c in same):
            return False
    fill = {n: now[n].decode(code) for n, code in newer.filled.items() if n in now.keys() - held.keys()}
    try:
        succeed(before, after, fill, tables.earlier_of(older))
    except InvalidDataError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Side:
    """One vault as it is read: its snapshot, and the schema that it knows a table under."""

    view: Snapshot
    schema: Schema | None

    def pieces(self) -> dict[bytes, list[rows.Piece]]:
        if self.schema is None:
            return {}
        found: dict[bytes, list[rows.Piece]] = {}
        for piece in rows.pieces(self.view, self.schema, None):
            found.setdefault(piece.device, []).append(piece)
        return found


def missing(
    mine: Snapshot, theirs: Snapshot, entries: Mapping[str, TableEntry], written: list[SegmentEntry]
) -> list[SegmentEntry]:
    """New segments with the rows that only the other vault holds; durable, and added to `written`.

    Args:
        mine: a state without logs. entries: the tables as they will be.

    Raises:
        StoreError: the vaults hold different rows at one place of one device, or the other one knows a table of a
            domain that was not erased as often on both. An erasure changes the domain's id.
        OSError, DecryptionError: nothing of the vault has changed, and `written` names what to remove.
    """
    added = []
    for name, entry in entries.items():
        schema = tables.schema_of(entry)
        ours, other = (
            _Side(view, tables.schema_of(view.tables[name]) if name in view.tables else None) for view in (mine, theirs)
        )
        if other.schema and len({view.secrets.domain(schema.domain).id for view in (mine, theirs)}) > 1:
            raise StoreError(
                f"domain {schema.domain!r} was erased on one device since they parted: erase it on the other too, so"
                " that nothing comes back, then merge"
            )
        try:
            added += _missing(mine, schema, entry, ours, other, written)
        except pl.exceptions.PolarsError:
            raise _misfit(schema) from None
    return added


def _missing(
    mine: Snapshot, schema: Schema, entry: TableEntry, ours: _Side, other: _Side, written: list[SegmentEntry]
) -> list[SegmentEntry]:
    """Those of one table."""
    held, found = ours.pieces(), other.pieces()
    if schema.kind == "attributes":
        return _newest(mine, schema, entry, held, found, written)
    shared = [n for n, _ in schema.stored if all(s.schema and n in dict(s.schema.stored) for s in (ours, other))]
    return [
        made
        for device, pieces in found.items()
        for made in _rest(mine, schema, entry, shared, device, held.get(device, []), pieces, written)
    ]


def _rest(
    mine: Snapshot, schema: Schema, entry: TableEntry, shared: list[str], device: bytes, held: list[rows.Piece],
    pieces: list[rows.Piece], written: list[SegmentEntry],
) -> list[SegmentEntry]:  # fmt: skip
    """What the other vault holds of one device's rows beyond those that this one does."""
    names = [name for name, _ in schema.stored]
    whole = pl.concat([brought_up(schema, entry.filled, p.codes, names) for p in pieces])
    if held and shared:
        ours = pl.concat([brought_up(schema, entry.filled, p.codes, shared) for p in held])
        both = min(ours.height, whole.height)
        if not ours.head(both).equals(whole.select(shared).head(both)):
            raise StoreError(
                f"the vaults hold different rows of one device in table {schema.name!r}: one of them was copied or put "
                "back while the other went on; export one and import it into a vault of its own"
            )
    start = sum(p.codes.height for p in held)
    if start >= whole.height:
        return []
    reached, first = 0, pieces[-1].last
    for piece in pieces:
        reached += piece.codes.height
        if reached > start:
            first = piece.first
            break
    first = max([first, *(p.last for p in held)])
    return _written(mine, schema, whole.slice(start), first, pieces[-1].last, written, device)


def _newest(
    mine: Snapshot, schema: Schema, entry: TableEntry, held: Mapping[bytes, list[rows.Piece]],
    found: Mapping[bytes, list[rows.Piece]], written: list[SegmentEntry],
) -> list[SegmentEntry]:  # fmt: skip
    """The row of an attribute table, where the other vault's was put later; of two put at one time, by device id."""
    ours = max(((p.last, device) for device, pieces in held.items() for p in pieces), default=(-1, b""))
    ((device, pieces),) = found.items() or [(b"", [])]
    if not pieces or (pieces[-1].last, device) <= ours:
        return []
    names = [name for name, _ in schema.stored]
    codes = brought_up(schema, entry.filled, pieces[-1].codes, names)
    return _written(mine, schema, codes, pieces[-1].last, pieces[-1].last, written, device)


def _written(
    mine: Snapshot, schema: Schema, codes: pl.DataFrame, first: int, last: int, written: list[SegmentEntry],
    device: bytes,
) -> list[SegmentEntry]:  # fmt: skip
    """The rows as segments, if they are what a put would take: the other device may be in other hands."""
    try:
        check_codes(schema, codes)
    except InvalidDataError:
        raise _misfit(schema) from None
    return compact.write_rows(mine, schema, codes, first, last, written, device)


def _misfit(schema: Schema) -> StoreError:
    return StoreError(
        f"the other vault holds rows in table {schema.name!r} that do not fit its schema: export from this one alone"
    )
