"""Every byte of a vault read and verified, file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from datasov.errors import DecryptionError, InvalidDataError, InvalidQueryError
from datasov.model.frames import check_codes
from datasov.vault import codec, files, log, rows, segment, tables
from datasov.vault.rows import Snapshot

Progress = Callable[[int, int], None]


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
        name, fault, count = f"{files.SEGMENTS}/{entry.id.hex()}", None, 0
        try:
            codes = segment.read(view.directory, view.secrets, entry, None, view.scratch)
            count = check_codes(schemas[entry.table], rows.joined(view, schemas[entry.table], [codes])).height
            if count != entry.rows:
                fault = "it does not hold the rows that the manifest counts"
        except FileNotFoundError:
            fault = "it is gone"
        except DecryptionError:
            fault = "a byte differs from what was written"
        except (InvalidDataError, InvalidQueryError, KeyError):
            fault = "its rows do not fit their schema"
        yield Checked(name, entry.size, count, fault)
    for at, held in enumerate(view.logs, len(view.segments)):
        progress(at, total)
        name, fault, count = f"{files.LOGS}/{held.id.hex()}", None, 0
        reader = None
        try:
            reader = log.Reader(view.directory, view.secrets, held, missing_ok=view.missing_ok)
            for part in reader.parts():
                schema = schemas[part.table]
                codes = codec.read(codec.IPC, reader.payload(part, view.secrets.domain(schema.domain).id), None)
                count += check_codes(schema, rows.joined(view, schema, [codes])).height
        except FileNotFoundError:
            fault = "it is gone"
        except DecryptionError:
            fault = "a byte differs from what was written"
        except (InvalidDataError, InvalidQueryError, KeyError):
            fault = "its rows do not fit their schema"
        yield Checked(name, held.size if reader is None else reader.end.size, count, fault)
    progress(total, total)
