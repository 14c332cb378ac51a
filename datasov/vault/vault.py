"""A vault: one resident's tables, readable with one of its keys and by nobody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Unpack

import polars as pl

from datasov.crypto import kdf
from datasov.errors import InvalidDataError
from datasov.model.schema import Schema
from datasov.vault import anchor as anchors
from datasov.vault import codec, derive, erase, files, keys, manifest, opening, session, tables
from datasov.vault import format as fmt
from datasov.vault.anchor import Anchor
from datasov.vault.check import Checked, check
from datasov.vault.compact import Progress
from datasov.vault.device import Device
from datasov.vault.guard import Guard
from datasov.vault.keychain import Keys, NewSecrets
from datasov.vault.manifest import TableEntry
from datasov.vault.opening import New, Ways

LARGE_ROWS, LARGE_BYTES = 65_536, 4 << 20
"""A put above either goes straight into segments; eight bytes are counted for each code."""


class Vault:
    """One resident's vault, open. Use :meth:`create` or :meth:`open`, and close it or use it in a `with`.

    Format: docs/spec/vault.md. One Vault may be used by several threads; one at a time may write, over all processes.

    Attributes:
        id: 16 bytes, random, made at creation.
        keys: the ways of opening it, to list and to change.
    """

    def __init__(self, opened: session.Session, lock: files.WriterLock | None, held: Device | None = None) -> None:
        self._directory, self._session, self._lock = opened.directory, opened, lock
        self._guard = Guard(opened, lock)
        self._reading, self._writing = self._guard.reading, self._guard.writing
        self.id = opened.secrets.vault_id
        self.keys = Keys(opened, self._writing, held)

    @property
    def _secrets(self) -> keys.Secrets:
        return self._session.secrets

    @classmethod
    def create(cls, path: str | Path, **new: Unpack[New]) -> Vault:
        """A new vault in a new directory, open for writing, by the ways of :class:`datasov.vault.opening.New`.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or cannot be written, or the device does not keep its key.
        """
        with files.storing("the vault cannot be created"):
            return cls(*opening.create(Path(path), **new))

    @classmethod
    def open(cls, path: str | Path, *, write: bool = True, **ways: Unpack[Ways]) -> Vault:
        """The vault of a directory, for writing, or on a snapshot beside a writer with `write=False`.

        It is opened by what :class:`datasov.vault.opening.Ways` names.

        Raises:
            StoreError: there is no vault; or another writer has it; or it lies behind an anchor, or on another branch.
            DecryptionError: the key opens no slot, or a file is damaged, foreign or stale. It never says which.
        """
        with files.storing("the vault cannot be opened"):
            return cls(*opening.unlock(Path(path), write, **ways))

    @property
    def writable(self) -> bool:
        """Whether this Vault is the vault's one writer."""
        return self._lock is not None and not self._guard.closed

    def put(
        self, items: Iterable[tuple[Schema, pl.DataFrame]], *, state: Mapping[str, bytes | None] | None = None
    ) -> None:
        """Add rows to tables, as codes (:func:`datasov.model.frames.encode`): all of them, or none.

        The rows are on the medium when this returns.

        Args:
            state: small values as in :meth:`set_state`, kept in the same step, also where the power fails in it.

        Raises:
            InvalidDataError: a frame does not fit its schema, the vault knows the table under another schema, or an
                attribute table is given more than one row.
            StoreError: the medium took nothing, or this is no writer. None of the rows is kept.
        """
        listed = list(items)
        with self._writing("the rows were not stored"):
            new = self._check(listed)
            filled = [(schema, codes) for schema, codes in listed if codes.height]
            self._session.settle()
            height = sum(codes.height for _, codes in filled)
            large = height > LARGE_ROWS or 8 * sum(codes.height * codes.width for _, codes in filled) > LARGE_BYTES
            if large or state is not None:
                kept = None if state is None else self._kept(state)
                self._session.fold(new, filled, all_small=False, state=kept)
                return
            if self._session.crowded:
                self._session.fold({}, (), all_small=False)
            if filled:
                self._session.append(new, filled)
            elif new:
                self._session.commit(tables=new)

    def scan(self, table: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of a table as codes, in the order of their puts; of an attribute table the newest row, if any.

        Without `columns`, those that are put. A derived column is computed where it is named (:mod:`.derive`).

        Raises:
            InvalidDataError, InvalidQueryError: no such table, no such column, or one that cannot be derived here.
            DecryptionError: a file that holds the rows is damaged, foreign or gone.
        """
        with self._reading():
            if table not in self._session.manifest.tables:
                raise InvalidDataError(f"the vault has no table {table!r}: put rows into it first")
            schema = self._session.schema(table)
            if columns is not None:
                if isinstance(columns, str) or not columns or len(set(columns)) != len(columns):
                    raise InvalidDataError("columns is a list of different names, at least one")
                for name in columns:
                    schema.column(name)
                if not set(columns) <= dict(schema.stored).keys():
                    known = {name: self._session.schema(name) for name in self._session.manifest.tables}
                    return derive.with_derived(schema, columns, known, self._guard.read)
            return self._guard.read(schema, columns)

    def tables(self) -> dict[str, Schema]:
        """The tables that the vault knows, by name."""
        with self._reading():
            return {name: self._session.schema(name) for name in self._session.manifest.tables}

    def earlier(self, table: str) -> tuple[Schema, ...]:
        """The schemas that a table had before its present one, oldest first; none of a table that is not known."""
        with self._reading():
            return self._session.earlier(table) if table in self._session.manifest.tables else ()

    def evolve(self, schema: Schema, fill: Mapping[str, object]) -> None:
        """Let a schema follow the one that the vault knows its table under. No row is written anew.

        Args:
            fill: what rows put before hold in added columns, by name; null where nothing is given.

        Raises:
            InvalidDataError: no such table, or the schema cannot follow: the column, and what to do.
            StoreError: nothing changed.
        """
        with self._writing("the schema was not changed"):
            known = self._session.manifest.tables.get(schema.name)
            entry = tables.followed(known, schema, fill)
            if entry != known:
                self._session.commit(tables={schema.name: entry})

    def enrol(self, path: str | Path, **new: Unpack[New]) -> None:
        """Make this vault once more at a new path, for another device, which opens it by what is given here.

        Both put rows from then on, and :meth:`merge` brings them together; slots, keys and anchors are each one's own.
        A mere copy of the folder is the same device twice: its rows could not be told apart. `device` is where the
        other device keeps its key, if that is at hand here; or open the new vault there and call `keys.enrol`.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or cannot be written, or `device` keeps a key of this vault; nothing is left.
        """
        with self._writing("the other device's vault was not made"):
            opening.enrol(self._session, Path(path), **new)

    def merge(self, other: Vault, combine: session.Combine) -> bool:
        """Take in what only the other device's vault holds. The other one is read, and stays as it is.

        Rows are told apart by the device that put them and their place among its rows, so that to merge again changes
        nothing. They stand by device: first the one whose first row in the table is oldest. Of an attribute table the
        row put last stands, by the devices' clocks. Of two schemas of a table the one that follows the other stands.

        Args:
            combine: the small values of this vault and of the other one, as they shall be here.

        Raises:
            InvalidDataError: no vault of this resident, no other device, or schemas of which none follows the other.
            StoreError: rows that cannot be brought together, one of the two is open for reading, or no room.
        """
        if not isinstance(other, Vault) or not self._same_resident(other):
            raise InvalidDataError("that is no vault of the same resident: export it, and import that")
        if other._secrets.device_id == self._secrets.device_id:
            raise InvalidDataError("both are the vault of one device: make one for the other device with enrol")
        first, second = sorted((self, other), key=lambda vault: vault._secrets.device_id)
        what = "the vaults were not merged"
        with first._writing(what), second._writing(what):
            self._session.settle()
            other._session.settle()
            return self._session.unite(other._session, combine)

    @property
    def device(self) -> bytes:
        """What tells this device's vault from the resident's others."""
        with self._reading():
            return self._secrets.device_id

    def _same_resident(self, other: Vault) -> bool:
        """The id stands in the clear in every file, so that it alone shows nothing."""
        return self.id == other.id and kdf.same(self._secrets.identity_seed, other._secrets.identity_seed)

    def derive(self, info: bytes) -> bytes:
        """32 bytes from the vault's identity seed (HKDF-SHA-256, RFC 5869): the same for the same info, for ever."""
        with self._reading():
            return kdf.hkdf(self._secrets.identity_seed, salt=fmt.context(b"identity"), info=info)

    def state(self, name: str) -> bytes | None:
        """A small value that was kept under a name, or None."""
        with self._reading():
            return self._session.manifest.state.get(name)

    def states(self) -> dict[str, bytes]:
        """All small values that are kept, by name."""
        with self._reading():
            return dict(self._session.manifest.state)

    def set_state(self, values: Mapping[str, bytes | None]) -> None:
        """Keep small values under their names, all at once and durably; None forgets one.

        Raises:
            InvalidDataError: a name is no text or a value no bytes.
            StoreError: nothing was kept.
        """
        with self._writing("the values were not stored"):
            kept = self._kept(values)
            if kept != self._session.manifest.state:
                self._session.commit(state=kept)

    def _kept(self, values: Mapping[str, bytes | None]) -> dict[str, bytes]:
        """The small values as they are once these are kept or forgotten."""
        for name, value in values.items():
            if not fmt.is_text(name) or not (value is None or isinstance(value, bytes)):
                raise InvalidDataError("state maps texts to bytes, or to None to forget")
        changed = {**self._session.manifest.state, **values}
        return {name: value for name, value in changed.items() if value is not None}

    def check(self, progress: Progress | None = None) -> list[Checked]:
        """Read every file of the vault as it stands on the medium, and verify every byte; a finding for each.

        Args:
            progress: called with the number of files read so far, and that of all.

        Raises:
            DecryptionError: the manifest or the one before it is damaged or stale. (VAULT was verified when it opened.)
        """
        with self._reading():
            found = session.load(self._directory, self._secrets)
            counters = [n for n in (found.counter - 1, found.counter) if n]
            done = [
                Checked(f"{files.MANIFESTS}/{n}", manifest.path(self._directory, n).stat().st_size, 0) for n in counters
            ]
            header = (self._directory / files.HEADER).stat().st_size
            view = self._session.view(missing_ok=True)
            return [Checked(files.HEADER, header, 0), *done, *check(view, progress or (lambda *_: None))]

    def compact(self, progress: Progress = lambda *_: None) -> None:
        """Fold the logs into segments, merge small segments, and remove what crashes left behind.

        Args:
            progress: called with the number of tables done so far, and that of all.

        Raises:
            StoreError: nothing changed but for files that are no part of the vault.
        """
        with self._writing("the vault was not compacted"):
            self._session.settle()
            self._session.fold({}, (), all_small=True, progress=progress)
            self._session.sweep()

    def anchor(self, name: str) -> Anchor:
        """Where the vault stands now, to be left outside of it under a name: with another device, a peer, a friend.

        Given to :meth:`open`, it shows whether the vault was put back to an older copy. The last four of a name are
        good for that.

        Raises:
            StoreError: nothing was recorded.
        """
        with self._writing("the anchor was not recorded"):
            return anchors.leave(self._session, name)

    def forget_anchor(self, name: str) -> None:
        """Drop what is recorded under a name."""
        with self._writing("the anchor was not forgotten"):
            anchors.forget(self._session, name)

    def erase_domain(self, domain: str, **new: Unpack[NewSecrets]) -> None:
        """Erase every table of a domain, for good: its key is gone, and every slot's secret is a new one.

        `new` is as in :meth:`datasov.vault.keychain.Keys.rotate`, and so is what is said there. An older copy of the
        files still opens by an older secret: docs/spec/vault.md, section 8.

        Raises:
            InvalidDataError: no such domain, or a slot is neither given a new secret nor dropped.
            StoreError: it is not complete: call again.
        """
        self.keys.erase_domain(domain, **new)

    def erase(self) -> None:
        """Erase the whole vault, and what the device that it was opened with keeps for it; it is closed then.

        Raises:
            StoreError: it is not complete. Where VAULT is gone, `erase.remains` removes the rest.
        """
        with self._writing("the vault is not erased whole"):
            self._session.end()
            try:
                erase.whole(self._directory, self.keys.forget_device)
            finally:
                if not (self._directory / files.HEADER).exists():
                    self._guard.erased()

    def close(self) -> None:
        """Seal the end of the log into a manifest, and let the next writer in. To close again does nothing.

        Raises:
            StoreError: the end was not sealed. The rows are stored all the same.
        """
        self._guard.close(self.keys.leave_anchor)

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Vault({str(self._directory)!r}, writable={self.writable})"

    def _check(self, listed: list[tuple[Schema, pl.DataFrame]]) -> dict[str, TableEntry]:
        """The tables that the vault does not know yet, once every frame fits its schema."""
        new: dict[str, TableEntry] = {}
        single = set[str]()
        for schema, codes in listed:
            codec.check(schema, codes)
            known = self._session.manifest.tables.get(schema.name) or new.get(schema.name)
            if known is not None and known.digest != schema.digest:
                raise InvalidDataError(
                    f"the vault knows table {schema.name!r} under another schema: use that one, let this one follow it"
                    " with evolve, or use another name"
                )
            if known is None:
                new[schema.name] = tables.entry_of(schema)
            if schema.kind == "attributes" and codes.height:
                if schema.name in single:
                    raise InvalidDataError(f"table {schema.name!r} holds one row a resident: put the newest row alone")
                single.add(schema.name)
        return new
