"""The rows of a table, gathered from the segments and logs of one state of the vault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasov.model.evolution import brought_up
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.vault import codec, log, segment
from datasov.vault.keys import Secrets
from datasov.vault.manifest import LogEntry, SegmentEntry, TableEntry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which files make up the vault, and what is needed to read them.

    Attributes:
        missing_ok: a log of which no record is known yet may be missing. A reader first makes sure that it was not
            folded away by a newer manifest.
        without: tables whose rows are not to be folded.
    """

    directory: Path
    secrets: Secrets
    tables: Mapping[str, TableEntry]
    segments: tuple[SegmentEntry, ...]
    logs: tuple[LogEntry, ...]
    scratch: segment.Scratch
    missing_ok: bool
    without: frozenset[str] = frozenset()


def _parts(view: Snapshot) -> Iterator[tuple[log.Reader, log.Part]]:
    for entry in view.logs:
        reader = log.Reader(view.directory, view.secrets, entry, missing_ok=view.missing_ok)
        for part in reader.parts():
            yield reader, part


def scan(view: Snapshot, schema: Schema, columns: Sequence[str] | None) -> pl.DataFrame:
    """The rows of a table in the order of their puts; of an attribute table the newest one.

    Raises:
        DecryptionError: a file that holds them is not what it was, or a log is.
        FileNotFoundError: such a file is gone.
    """
    return joined(view, schema, [piece.codes for piece in pieces(view, schema, columns)], columns)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one table that one device put, one after the other, with the sequence numbers first to last."""

    device: bytes
    first: int
    last: int
    codes: pl.DataFrame


def pieces(view: Snapshot, schema: Schema, columns: Sequence[str] | None) -> list[Piece]:
    """What holds the rows of a table, in their order: each device's by its puts, devices by the first of these.

    Of an attribute table only the newest, by sequence number and then by device.
    """
    held = [s for s in view.segments if s.table == schema.name]
    own = view.secrets.device_id
    parts = [(reader, part) for reader, part in _parts(view) if part.table == schema.name]
    if schema.kind == "attributes":
        held = sorted(held, key=lambda s: (s.last, s.device_id))[-1:]
        parts = [p for p in parts[-1:] if not held or (p[1].sequence, own) > (held[0].last, held[0].device_id)]
        held = [] if parts else held
    domain_id = view.secrets.domain(schema.domain).id
    found = [
        Piece(s.device_id, s.first, s.last, segment.read(view.directory, view.secrets, s, columns, view.scratch))
        for s in held
    ]
    if parts:
        payloads = [reader.payload(part, domain_id) for reader, part in parts]
        tail = joined(view, schema, [frame for _, frame in codec.read_streams(payloads, columns)], columns)
        found.append(Piece(own, parts[0][1].sequence, parts[-1][1].sequence, tail))
    began: dict[bytes, int] = {}
    for piece in found:
        began[piece.device] = min(piece.first, began.get(piece.device, piece.first))
    return sorted(found, key=lambda piece: (began[piece.device], piece.device, piece.first))


def joined(
    view: Snapshot, schema: Schema, frames: Sequence[pl.DataFrame], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """One frame of many, with the schema's types where there is none. Each may be of any version of the schema."""
    table = view.tables.get(schema.name)
    if table is not None and table.earlier:
        names = [name for name, _ in schema.stored] if columns is None else columns
        frames = [brought_up(schema, table.filled, frame, names) for frame in frames]
    if len(frames) == 1:
        return frames[0]
    if frames:
        return pl.concat(frames)
    names = [name for name, _ in schema.stored] if columns is None else columns
    return pl.DataFrame(schema={name: code_dtype(schema.column(name)) for name in names})


@dataclass(frozen=True, slots=True)
class Folded:
    """The rows of one table in the logs, and the range of sequence numbers that put them."""

    codes: pl.DataFrame
    first: int
    last: int


def from_logs(view: Snapshot, schemas: Iterable[Schema]) -> dict[str, Folded]:
    """What the logs hold of each table."""
    found: dict[str, list[tuple[log.Part, bytes]]] = {}
    known = {schema.name: schema for schema in schemas}
    for reader, part in _parts(view):
        if part.table in view.without:
            continue
        schema = known[part.table]
        kept = found.setdefault(part.table, [])
        if schema.kind == "attributes":
            kept.clear()
        kept.append((part, reader.payload(part, view.secrets.domain(schema.domain).id)))
    return {name: _folded(view, known[name], items) for name, items in found.items()}


def _folded(view: Snapshot, schema: Schema, items: Sequence[tuple[log.Part, bytes]]) -> Folded:
    frames = [frame for _, frame in codec.read_streams([data for _, data in items], None)]
    return Folded(joined(view, schema, frames).rechunk(), items[0][0].sequence, items[-1][0].sequence)
