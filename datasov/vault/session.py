"""The state of one open vault, and the order of its durable steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from datasov.crypto import kdf
from datasov.errors import StoreError
from datasov.model.schema import Schema
from datasov.vault import compact, files, keys, log, manifest, merge, rows, segment
from datasov.vault import format as fmt
from datasov.vault import tables as known
from datasov.vault.keys import Secrets
from datasov.vault.manifest import LogEntry, Manifest, SegmentEntry, TableEntry

FOLD_RECORDS, FOLD_BYTES, FOLD_LOGS = 1024, 32 << 20, 32
"""A put into a vault whose logs hold this much folds them into segments first."""

_LATEST = 1 << 62
"""No clock shows as many microseconds since 1970; numbers from there on could not be counted up for long."""

Tables = Mapping[str, TableEntry]
Combine = Callable[[Mapping[str, bytes], Mapping[str, bytes]], dict[str, bytes]]
Filled = Sequence[tuple[Schema, pl.DataFrame]]


def load(directory: Path, secrets: Secrets) -> Manifest:
    """The newest manifest, no log beside it that it does not know.

    A log enters a manifest before its first record is written, and leaves it with its name among the doomed: one that
    holds records and is not named shows that the manifest is stale or that the log was put back.
    """
    while True:
        found = manifest.load(directory, secrets)
        named = {entry.id for entry in found.logs} | found.doomed
        present = files.ids(directory / files.LOGS)
        if all(name in named or size <= log.START for name, size in present.items()):
            return found
        if manifest.load(directory, secrets).counter == found.counter:
            raise fmt.damaged()


class Session:
    """A manifest and what happened since. Not for several threads: the vault sees to that.

    Attributes:
        unsealed: rows were acknowledged whose place no manifest names yet.
        stuck: whether the medium holds the new header or the old one is not known: nothing more may be written.
    """

    __slots__ = (
        "_directory", "_doomed", "_live", "_logs", "_schemas", "_scratch", "_secrets", "_sequence",
        "_settled", "manifest", "stuck", "unsealed",
    )  # fmt: skip

    def __init__(self, directory: Path, secrets: Secrets, found: Manifest) -> None:
        self._directory, self._secrets = directory, secrets
        self._live: log.Writer | None = None
        self._scratch, self._schemas = segment.Scratch(), dict[str, Schema]()
        self._settled = self.unsealed = self.stuck = False
        self._adopt(found)

    @property
    def secrets(self) -> Secrets:
        """What the header in place holds."""
        return self._secrets

    @property
    def directory(self) -> Path:
        return self._directory

    def _adopt(self, found: Manifest) -> None:
        self.manifest = found
        self._logs, self._sequence, self._doomed = found.logs, found.sequence, found.doomed

    def move_on(self) -> bool:
        """For a reader one of whose files is gone: take the manifest that dropped it; False where there is no newer."""
        found = load(self._directory, self._secrets)
        if found.counter == self.manifest.counter:
            return False
        self._adopt(found)
        return True

    def schema(self, name: str) -> Schema:
        """The schema of a table that the manifest knows."""
        entry = self.manifest.tables[name]
        if name not in self._schemas or self._schemas[name].digest != entry.digest:
            self._schemas[name] = known.schema_of(entry)
        return self._schemas[name]

    def earlier(self, name: str) -> tuple[Schema, ...]:
        """The schemas that a table had before, oldest first."""
        return known.earlier_of(self.manifest.tables[name])

    def view(self, *, missing_ok: bool) -> rows.Snapshot:
        """What there is to read: `missing_ok` as in :class:`datasov.vault.rows.Snapshot`."""
        live = () if self._live is None else (replace(self._live.entry, closed=True),)
        logs = (*self._logs, *live)
        return rows.Snapshot(
            self._directory, self._secrets, self.manifest.tables, self.manifest.segments, logs, self._scratch,
            missing_ok=missing_ok,
        )  # fmt: skip

    def commit(
        self,
        *,
        tables: Tables | None = None,
        state: Mapping[str, bytes] | None = None,
        folded: tuple[tuple[SegmentEntry, ...], int] | None = None,
        without: Collection[str] = (),
        anchors: tuple[tuple[str, bytes], ...] | None = None,
    ) -> None:
        """One manifest with everything acknowledged so far, and the changes given.

        Args:
            folded: all segments and the next sequence number, where the logs are folded away.
            without: tables to forget.

        Raises:
            OSError: nothing is changed. After :class:`datasov.vault.files.Unsynced` the medium may hold this manifest
                all the same, until the next one takes its place.
        """
        before = self.manifest
        live = () if self._live is None else (self._live.entry,)
        new = replace(
            before,
            counter=before.counter + 1,
            previous=before.digest,
            sequence=self._sequence if folded is None else folded[1],
            tables={n: t for n, t in {**before.tables, **(tables or {})}.items() if n not in without},
            state=before.state if state is None else state,
            anchors=before.anchors if anchors is None else anchors,
            segments=before.segments if folded is None else folded[0],
            logs=(*self._logs, *live) if folded is None else (),
            doomed=self._doomed if folded is None else frozenset(entry.id for entry in self._logs),
        )
        self.manifest = manifest.commit(self._directory, self._secrets, new)
        self.unsealed = False

    def settle(self) -> None:
        """Before the first put: find where earlier writers' logs end, and remove what a crash kept from being."""
        if self._settled:
            return
        ended = []
        for entry in self._logs:
            if not entry.closed:
                reader = log.Reader(self._directory, self._secrets, entry, missing_ok=True)
                for part in reader.parts():
                    self._sequence = max(self._sequence, part.sequence + 1)
                ended.append(reader.end)
            else:
                ended.append(entry)
        files.remove(self._directory / files.LOGS, self._doomed)
        self._logs, self._doomed, self._settled = tuple(ended), frozenset(), True

    @property
    def crowded(self) -> bool:
        """Whether the logs hold so much that reading them is slow."""
        count, size, records = len(self._logs), 0, 0
        for entry in self._logs if self._live is None else (*self._logs, self._live.entry):
            size, records = size + entry.size, records + entry.records
        return count >= FOLD_LOGS or records >= FOLD_RECORDS or size >= FOLD_BYTES

    def append(self, new: Tables, filled: Filled) -> None:
        """One record. A new log, or a new table, is first made known by a manifest."""
        if self._live is None or new:
            fresh = self._live is None
            if fresh:
                self._live = log.Writer(self._directory, self._secrets, kdf.random(fmt.ID))
            try:
                self.commit(tables=new)
            except BaseException:
                self._live = None if fresh else self._live
                raise
        live, number = self._live, self._next()
        assert live is not None
        try:
            live.append(number, [(s.name, self._secrets.domain(s.domain), codes) for s, codes in filled])
        except OSError:
            self.end()
            with contextlib.suppress(OSError):
                self.commit()
            raise
        self._sequence = number + 1
        self.unsealed = True

    def _next(self) -> int:
        """A sequence number above all before it: the time in microseconds, unless the clock went back."""
        return max(self._sequence, time.time_ns() // 1000)

    def end(self) -> None:
        """Close the live log: the next put starts another."""
        if self._live is not None:
            self._logs, self._live = (*self._logs, self._live.end()), None

    def fold(
        self, new: Tables, large: Filled, *, all_small: bool, without: Collection[str] = (),
        state: Mapping[str, bytes] | None = None, progress: compact.Progress = lambda *_: None,
    ) -> None:  # fmt: skip
        """Logs into segments, and after them the rows of a large put, in one commit; then the old files go.

        The tables `without` are left behind: nothing of them is read, and their files go too.
        """
        self.end()
        view, before, number = self.view(missing_ok=True), self.manifest, self._next()
        held = tuple(s for s in view.segments if s.table not in without)
        view = replace(view, segments=held, without=frozenset(without))
        written: list[SegmentEntry] = []
        try:
            kept = compact.merge(
                view, {n: self.schema(n) for n in before.tables if n not in without}, written, all_small=all_small,
                progress=progress,
            )  # fmt: skip
            direct = [
                entry
                for schema, codes in large
                for entry in compact.write_rows(view, schema, codes, number, number, written, self._secrets.device_id)
            ]
            if not (self._logs or written or new or without or state is not None):
                return
            after = number + 1 if large else self._sequence
            self.commit(tables=new, state=state, folded=((*kept, *direct), after), without=without)
        except files.Unsynced:
            raise  # a power failure now may bring back the manifest that names what was written
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(self._directory / files.SEGMENTS, {entry.id for entry in written})
            raise
        current = {entry.id for entry in self.manifest.segments}
        self._sequence, self._logs, self._doomed = self.manifest.sequence, tuple[LogEntry, ...](), self.manifest.doomed
        with contextlib.suppress(OSError):
            files.remove(self._directory / files.SEGMENTS, {s.id for s in before.segments} - current)
            files.remove(self._directory / files.LOGS, self._doomed)
            self._doomed = frozenset()

    def rekey(self, secrets: Secrets) -> None:
        """Put a new header in place of the old one, and go on under it. It names the newest manifest as its floor.

        Raises:
            OSError: the old header stands. After :class:`datasov.vault.files.Unsynced` either may: it is stuck then.
        """
        files.sync_directory(self._directory / files.MANIFESTS)
        secrets = replace(secrets, floor=(self.manifest.counter, self.manifest.digest))
        try:
            files.create(self._directory / files.HEADER, keys.assemble(secrets))
        except files.Unsynced:
            self.stuck = True
            raise
        self._secrets = secrets

    def unite(self, other: Session, combine: Combine) -> bool:
        """Take in what only another device's vault holds, in one commit; whether there was anything.

        Raises:
            InvalidDataError, StoreError: the two do not fit together. OSError: nothing changed.
        """
        if self._logs or self._live is not None:
            self.fold({}, (), all_small=False)
        before, theirs = self.manifest, other.manifest
        entries = {
            name: merge.united(before.tables.get(name), theirs.tables.get(name))
            for name in before.tables.keys() | theirs.tables.keys()
        }
        state = combine(before.state, theirs.state)
        written: list[SegmentEntry] = []
        try:
            added = merge.missing(self.view(missing_ok=True), other.view(missing_ok=True), entries, written)
            if not added and entries == before.tables and state == before.state:
                return False
            segments = tuple(sorted((*before.segments, *added), key=lambda s: s.first))
            number = max(self._sequence, other._sequence, *(s.last + 1 for s in added))
            if number >= _LATEST:
                raise StoreError("the other device numbers its rows as no clock does: export from this one alone")
            self.commit(tables=entries, state=state, folded=(segments, number))
        except files.Unsynced:
            raise
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(self._directory / files.SEGMENTS, {entry.id for entry in written})
            raise
        self._sequence = self.manifest.sequence
        return True

    def sweep(self) -> None:
        """Remove files that crashes left behind, once the newest manifest is sure to be on the medium."""
        manifests, segments = self._directory / files.MANIFESTS, self._directory / files.SEGMENTS
        files.sync_directory(manifests)
        manifest.drop_before(self._directory, self.manifest.counter - 1)
        files.remove(self._directory / files.LOGS, self._doomed)
        self._doomed = frozenset()
        files.remove(segments, files.ids(segments).keys() - {entry.id for entry in self.manifest.segments})
        for name in (files.MANIFESTS, files.SEGMENTS, "."):
            files.remove_temporaries(self._directory / name)
