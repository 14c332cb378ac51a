"""Logs into segments, and small segments into larger ones, so that reading stays fast after years of small puts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from datasov.model.schema import Schema
from datasov.vault import rows, segment
from datasov.vault.manifest import SegmentEntry
from datasov.vault.rows import Folded, Snapshot

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""
GROWTH = 2
"""A segment is merged with the newer rows once they are at least 1/GROWTH as many: each row moves O(log n) times."""


def merge(
    view: Snapshot, schemas: Mapping[str, Schema], written: list[SegmentEntry], *, all_small: bool,
    progress: Progress = lambda *_: None,
) -> tuple[SegmentEntry, ...]:  # fmt: skip
    """The segments as they stand once the logs are folded in; those that are new are written, and added to `written`.

    Each device's rows stay apart, in the order of its puts. At most the rows of one full segment and those of the logs
    are in memory at a time. Rows in logs are newer than any of this device in segments: a large put folds the logs
    before it.

    Args:
        progress: called with the number of tables done so far, and that of all.

    Raises:
        OSError, DecryptionError: nothing of the vault has changed, and `written` names what to remove.
    """
    folded, kept = rows.from_logs(view, schemas.values()), list(view.segments)
    names = {s.table for s in view.segments} | folded.keys()
    for at, name in enumerate(names):
        progress(at, len(names))
        schema, held = schemas[name], [s for s in kept if s.table == name]
        own = view.secrets.device_id
        devices = {own} if schema.kind == "attributes" else {own, *(s.device_id for s in held)}
        for device in devices:
            new = folded.get(name) if device == own else None
            if schema.kind == "attributes":
                chosen = _attributes(held, new)
            else:
                chosen = _events(schema, [s for s in held if s.device_id == device], new, all_small)
            if new is None and len(chosen) < 2:
                continue
            made = _write(view, schema, chosen, new, written)
            kept = [s for s in kept if s not in chosen] + made
    progress(len(names), len(names))
    return tuple(sorted(kept, key=lambda s: s.first))


def _attributes(held: list[SegmentEntry], new: Folded | None) -> list[SegmentEntry]:
    """All of them: only the newest row survives. (A lone segment is left as it is.)"""
    return held if new is not None or len(held) > 1 else []


def _events(schema: Schema, held: list[SegmentEntry], new: Folded | None, all_small: bool) -> list[SegmentEntry]:
    """The newest segments, oldest of them first, that become one segment with the new rows."""
    chosen: list[SegmentEntry] = []
    total = 0 if new is None else new.codes.height
    for entry in reversed(held):
        if total + entry.rows > segment.max_rows(schema) or not (all_small or entry.rows <= GROWTH * total):
            break
        chosen.append(entry)
        total += entry.rows
    return chosen[::-1]


def _write(
    view: Snapshot, schema: Schema, old: list[SegmentEntry], new: Folded | None, written: list[SegmentEntry]
) -> list[SegmentEntry]:
    first = old[0].first if old or new is None else new.first
    last = old[-1].last if new is None else new.last
    device = view.secrets.device_id if new is not None else old[-1].device_id
    if schema.kind == "attributes":
        newest = max(old, key=lambda s: (s.last, s.device_id), default=None)
        frames = []
        if new is None and newest is not None:
            frames = [segment.read(view.directory, view.secrets, newest, None, view.scratch)]
            first, last, device = newest.first, newest.last, newest.device_id
    else:
        frames = [segment.read(view.directory, view.secrets, s, None, view.scratch) for s in old]
    codes = rows.joined(view, schema, [*frames, *([new.codes] if new else [])])
    return write_rows(view, schema, codes, first, last, written, device)


def write_rows(
    view: Snapshot, schema: Schema, codes: pl.DataFrame, first: int, last: int, written: list[SegmentEntry],
    device: bytes,
) -> list[SegmentEntry]:  # fmt: skip
    """Segments of bounded size, durable but not yet part of the vault; each is added to `written` once it is there.

    Args:
        device: id of the one that put the rows. Rows of several devices never lie in one segment.
    """
    domain, made = view.secrets.domain(schema.domain), []
    for piece in codes.iter_slices(segment.max_rows(schema)):
        made.append(segment.write(view.directory, view.secrets, schema.name, domain, piece, first, last, device))
        written.append(made[-1])
    return made
