"""Two devices' vaults of one resident become one: a row is known by the device that put it, and its place there.

A device only ever adds rows at the end of its own. So of each device's rows in a table one vault holds the beginning of
what the other holds, whatever was compacted on either side, and what is missing is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from datasov.errors import InvalidDataError, StoreError
from datasov.model.evolution import brought_up, succeed
from datasov.model.schema import Schema
from datasov.vault import compact, rows, tables
from datasov.vault.manifest import SegmentEntry, TableEntry
from datasov.vault.rows import Snapshot


def united(mine: TableEntry | None, theirs: TableEntry | None) -> TableEntry:
    """A table under the schema that follows the other vault's.

    Raises:
        InvalidDataError: neither schema follows the other.
    """
    if mine is None or theirs is None or mine == theirs:
        found = mine or theirs
        assert found is not None
        return found
    for name in mine.filled.keys() & theirs.filled.keys():
        if mine.filled[name] != theirs.filled[name]:
            raise InvalidDataError(
                "each device filled another value into the rows put before: export one, and import it", column=name
            )
    for newer, older in ((mine, theirs), (theirs, mine)):
        if older.digest in {digest for digest, _ in newer.earlier}:
            return newer
    for newer, older in ((mine, theirs), (theirs, mine)):
        if _follows(newer, older):
            known = {digest for digest, _ in newer.earlier} | {newer.digest}
            more = [item for item in (*older.earlier, (older.digest, older.document)) if item[0] not in known]
            return replace(newer, earlier=(*newer.earlier, *more))
    name = tables.schema_of(mine).name
    raise InvalidDataError(
        f"table {name!r} has another schema on each device: on one, evolve it to one that follows both, then merge"
    )


def _follows(newer: TableEntry, older: TableEntry) -> bool:
    """Whether one schema could follow the other, and retires no column that its own device did not retire."""
    before, after = tables.schema_of(older), tables.schema_of(newer)
    had = {name for schema in (after, *tables.earlier_of(newer)) for name, _ in schema.stored}
    if not dict(before.stored).keys() <= had:
        return False
    added = {n: c for n, c in after.stored if n not in dict(before.stored)}
    fill = {name: added[name].decode(code) for name, code in newer.filled.items() if name in added}
    try:
        succeed(before, after, fill)
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
        held, found = ours.pieces(), other.pieces()
        if other.schema and len({view.secrets.domain(schema.domain).id for view in (mine, theirs)}) > 1:
            raise StoreError(
                f"domain {schema.domain!r} was erased on one device since they parted: erase it on the other too, so"
                " that nothing comes back, then merge"
            )
        if schema.kind == "attributes":
            added += _newest(mine, schema, entry, held, found, written)
            continue
        shared = [n for n, _ in schema.stored if all(s.schema and n in dict(s.schema.stored) for s in (ours, other))]
        for device, pieces in found.items():
            added += _rest(mine, schema, entry, shared, device, held.get(device, []), pieces, written)
    return added


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
    return compact.write_rows(mine, schema, whole.slice(start), first, pieces[-1].last, written, device)


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
    return compact.write_rows(mine, schema, codes, pieces[-1].last, pieces[-1].last, written, device)
