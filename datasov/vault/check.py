"""Every byte of a vault read and verified, file by file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datasov.errors import DecryptionError, InvalidDataError, InvalidQueryError
from datasov.model.frames import check_codes
from datasov.model.schema import Schema
from datasov.vault import codec, files, log, rows, segment, tables
from datasov.vault.compact import Progress
from datasov.vault.manifest import LogEntry, SegmentEntry
from datasov.vault.rows import Snapshot


@dataclass(frozen=True, slots=True)
class Checked:
    """One file of a vault.

    Attributes:
        name: its path in the vault. size: its bytes that belong to it.
        rows: those that were read from it.
        fault: what is wrong, or None where every byte is as it was written.
    """

    name: str
    size: int
    rows: int
    fault: str | None = None


def check(view: Snapshot, progress: Progress) -> Iterator[Checked]:
    """Every segment and log that makes up a state of a vault, superseded rows too.

    Args:
        progress: called with the number of files that were read, and that of all.
    """
    total = len(view.segments) + len(view.logs)
    schemas = {name: tables.schema_of(entry) for name, entry in view.tables.items()}
    for at, entry in enumerate(view.segments):
        progress(at, total)
        fault, count = _counted(_segment(view, schemas, entry))
        if fault is None and count != entry.rows:
            fault = "it does not hold the rows that the manifest counts"
        yield Checked(f"{files.SEGMENTS}/{entry.id.hex()}", entry.size, count, fault)
    for at, held in enumerate(view.logs, len(view.segments)):
        progress(at, total)
        ends = [held]
        fault, count = _counted(_log(view, schemas, held, ends))
        yield Checked(f"{files.LOGS}/{held.id.hex()}", ends[-1].size, count, fault)
    progress(total, total)


def _segment(view: Snapshot, schemas: Mapping[str, Schema], entry: SegmentEntry) -> Iterator[int]:
    """The number of its rows, once they fit their schema."""
    codes = segment.read(view.directory, view.secrets, entry, None, view.scratch)
    yield check_codes(schemas[entry.table], rows.joined(view, schemas[entry.table], [codes])).height


def _log(view: Snapshot, schemas: Mapping[str, Schema], held: LogEntry, ends: list[LogEntry]) -> Iterator[int]:
    """The number of rows of each of its parts, once they fit their schema; where it ends is added to `ends`."""
    reader = log.Reader(view.directory, view.secrets, held, missing_ok=view.missing_ok)
    for part in reader.parts():
        schema = schemas[part.table]
        codes = codec.read(codec.IPC, reader.payload(part, view.secrets.domain(schema.domain).id), None)
        yield check_codes(schema, rows.joined(view, schema, [codes])).height
    ends.append(reader.end)


def _counted(found: Iterator[int]) -> tuple[str | None, int]:
    """What is wrong with a file, and the rows that were read from it."""
    count = 0
    try:
        for height in found:
            count += height
    except FileNotFoundError:
        return "it is gone", count
    except DecryptionError:
        return "a byte differs from what was written", count
    except (InvalidDataError, InvalidQueryError, KeyError):
        return "its rows do not fit their schema", count
    return None, count
