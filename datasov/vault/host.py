"""Many vaults on one machine, for prototypes and simulation (docs/spec/host.md).

A host holds the device keys of all its residents beside their data. So it can read everything, and none of its
residents has any sovereignty: it stands in for a city of devices, and must never take their place. What it keeps are
the bytes of real vaults, each under keys of its own, so that what is measured here is the work that real vaults take,
and a tenant can leave with a vault.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
import polars as pl

from datasov.crypto import kdf
from datasov.errors import DecryptionError, InvalidDataError, StoreError, VerificationError
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.model.shard import RESIDENT
from datasov.vault import codec, files, keys, pack, segment
from datasov.vault import format as fmt
from datasov.vault.pack import Builder, Pack
from datasov.vault.tenants import Tenants
from datasov.vault.vault import Vault
from datasov.wire import cbor

_INDEX, _PACKS, _STATE = "index", "packs", "host"
Items: TypeAlias = Sequence[tuple[Schema, pl.DataFrame]]
_Filled: TypeAlias = tuple[int, bytes, bytes | None, keys.Secrets, Items]
"""A tenant's number, device key, header where it is new, secrets, and rows."""


@contextlib.contextmanager
def _answering(what: str) -> Iterator[None]:
    """OSError becomes StoreError, and whatever does not verify gets the one answer."""
    try:
        yield
    except OSError as fault:
        raise files.failed(what, fault) from fault
    except DecryptionError:
        raise fmt.damaged() from None


class Host:
    """Many simulated residents' vaults in one directory. Use :meth:`create` or :meth:`open`, and close it.

    Tenants are named by the ids of their vaults (16 bytes) and numbered from 0 in the order of admission.
    """

    def __init__(self, directory: Path, index: Vault) -> None:
        self._directory, self._index, self._mutex = directory, index, threading.RLock()
        self._key = index.derive(b"host packs")
        raw = index.state(_STATE)
        try:
            count, listed = (0, []) if raw is None else cbor.decode(raw)
            packs = [pack.load(directory / _PACKS, index.id, self._key, id_, size) for id_, size in listed]
        except (VerificationError, TypeError, ValueError):
            raise fmt.damaged() from None
        self._tenants = Tenants.of(count, packs)

    @classmethod
    def create(cls, path: str | Path, *, device_key: bytes) -> Host:
        """A new host in a new directory, open for writing.

        Raises:
            InvalidDataError: the device key is not 32 bytes.
            StoreError: the path exists, or cannot be written.
        """
        directory = Path(path)
        keys.access(None, device_key, None)
        with files.storing("the host cannot be created"):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                raise StoreError("the path exists already: open the host there, or choose another path") from None
            try:
                os.mkdir(directory / _PACKS, 0o700)
                index = Vault.create(directory / _INDEX, device_key=device_key)
                files.sync_directory(directory.parent)
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        return cls(directory, index)

    @classmethod
    def open(cls, path: str | Path, *, device_key: bytes, write: bool = True) -> Host:
        """The host of a directory, for writing, or as it stands now with `write=False`.

        Raises:
            StoreError: there is none, or another writer has it.
            DecryptionError: another key, or a file is damaged, foreign or stale.
        """
        directory = Path(path)
        index = Vault.open(directory / _INDEX, device_key=device_key, write=write)
        try:
            with _answering("the host cannot be opened"):
                host = cls(directory, index)
                if write:
                    host._sweep()
        except BaseException:
            index.close()
            raise
        return host

    def admit(self, residents: Iterable[Items]) -> list[bytes]:
        """New tenants, each with its first rows as codes, or with none: all of them, or nobody. Their ids, in order.

        The iterable is read once. Memory is bounded by one pack, and some 300 bytes a tenant.

        Raises:
            InvalidDataError: rows that do not fit their schema.
            StoreError: nobody was admitted.
        """

        def made() -> Iterator[_Filled]:
            for number, items in enumerate(residents, self._tenants.count):
                device_key = kdf.random(32)
                header, secrets = keys.create(keys.access(None, device_key, None))
                admitted.append(secrets.vault_id)
                yield number, device_key, header, secrets, items

        admitted: list[bytes] = []
        with self._writing():
            self._add(made(), admitted)
        return admitted

    def put(self, rows: Iterable[tuple[bytes, Items]]) -> None:
        """More rows of tenants: all of them, or none. They become segments of their own, so put for many at once.

        Raises:
            InvalidDataError: no such tenant, or rows that do not fit their schema.
            StoreError: nothing was kept.
            DecryptionError: a tenant's header is damaged.
        """

        def made() -> Iterator[_Filled]:
            for tenant, items in rows:
                number = self._tenants.number(tenant)
                yield number, self._tenants.device_key(number), None, self._tenants.secrets(number), items

        with self._writing():
            self._add(made(), ())

    def collect(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The rows of a table over all tenants, as codes, each tenant's opened with that tenant's keys.

        They come in the order of their puts, in frames of the rows of many tenants, whose column RESIDENT holds the
        tenant's number. Of an attribute table each tenant's newest row.

        Raises:
            InvalidDataError: no such table, or a column that it does not store.
            DecryptionError: a pack is damaged, or a tenant's bytes are another's.
        """
        tables = self._index.tables()
        if table not in tables:
            raise InvalidDataError(f"the host has no table {table!r}: put rows into it first")
        if columns is not None and (isinstance(columns, str) or not columns or len(set(columns)) != len(columns)):
            raise InvalidDataError("columns is a list of different names, at least one")
        for name in columns or ():
            if name not in dict(tables[table].stored):
                raise InvalidDataError("a host gives back columns that were put: name those", column=name)
        with self._mutex:
            state = self._tenants
        return self._collect(state, table, columns, only_last=tables[table].kind == "attributes")

    def _collect(
        self, state: Tenants, table: str, columns: Sequence[str] | None, *, only_last: bool
    ) -> Iterator[pl.DataFrame]:
        for current, entries in state.batches(table, only_last=only_last):
            who = state.table[[entry.number for entry in entries]]
            with _answering("the host cannot be read"):
                ids, device_keys = who["id"].tobytes(), who["key"].tobytes()
                frame = pack.collect(current, self._index.id, entries, ids, device_keys, columns)
            numbers = np.repeat(who["number"].astype(np.uint32), [entry.rows for entry in entries])
            yield frame.insert_column(0, pl.Series(RESIDENT, numbers))

    def tenants(self) -> list[bytes]:
        """The ids of the tenants, in the order of their numbers."""
        return list(self._tenants.numbers())

    def number(self, tenant: bytes) -> int:
        """A tenant's number; InvalidDataError where there is none of that id."""
        return self._tenants.number(tenant)

    def device_key(self, tenant: bytes) -> bytes:
        """The tenant's device key, which only a simulation has in such a place."""
        return self._tenants.device_key(self._tenants.number(tenant))

    def export(self, tenant: bytes, path: str | Path) -> None:
        """Write the tenant's vault as a directory that `Vault.open` opens with its device key.

        The header and the segments are the same sealed bytes; the manifest is new, for a pack's index stood for it. The
        tenant stays until `remove`.

        Raises:
            InvalidDataError: no such tenant.
            StoreError: the path exists, or cannot be written.
            DecryptionError: bytes of the tenant's are damaged, or another's.
        """
        state = self._tenants
        with _answering("the vault cannot be written"):
            state.export(state.number(tenant), Path(path), self._index._session.manifest.tables)

    def remove(self, tenants: Iterable[bytes]) -> None:
        """Forget tenants, with their keys and their bytes: the packs that hold them are written anew without them.

        Raises:
            InvalidDataError: no such tenant.
            StoreError: they are all still there; or they are gone and old packs are left, and it says so.
        """
        with self._writing():
            state = self._tenants
            gone = frozenset(state.number(tenant) for tenant in tenants)
            packs, made, old = list[Pack](), list[Pack](), set[bytes]()
            with self._undoing(made):
                for current, left in state.without(gone, self._index.id):
                    if left is None:
                        packs.append(current)
                        continue
                    old.add(current.id)
                    if left.size:
                        made.append(left.write(self._directory / _PACKS, self._key))
                        packs.append(made[-1])
            self._commit(state.count, packs)
            with files.storing("the tenants are gone, but old packs with their bytes are left: open the host anew"):
                files.remove(self._directory / _PACKS, old)

    def close(self) -> None:
        """Let the next writer in."""
        self._index.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._tenants)

    def __repr__(self) -> str:
        return f"Host({str(self._directory)!r}, tenants={len(self)})"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._mutex, _answering("the host was not changed"):
            if not self._index.writable:
                raise StoreError("the host is open for reading, or closed: open it with write=True")
            yield

    @contextlib.contextmanager
    def _undoing(self, made: list[Pack]) -> Iterator[None]:
        """Where a step fails before a commit names the new packs, they go again.

        Those of a commit that failed stay until the next opening, for the medium may hold it all the same.
        """
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(self._directory / _PACKS, {p.id for p in made})
            raise

    def _add(self, filled: Iterable[_Filled], admitted: Sequence[bytes]) -> None:
        builder, made, schemas = Builder(self._index.id), list[Pack](), self._index.tables()
        known = len(schemas)
        with self._undoing(made):

            def flushed(limit: int) -> Builder:
                if builder.size < limit:
                    return builder
                made.append(builder.write(self._directory / _PACKS, self._key))
                return Builder(self._index.id)

            for number, device_key, header, secrets, items in filled:
                if header is not None:
                    builder.tenant(number, secrets.vault_id, device_key, header)
                for schema, codes in items:
                    codec.check(schema, codes)
                    if schemas.setdefault(schema.name, schema).digest != schema.digest:
                        raise InvalidDataError(f"the host knows table {schema.name!r} under another schema: use that")
                    domain = secrets.domain(schema.domain)
                    for piece in codes.iter_slices(segment.max_rows(schema)) if codes.height else ():
                        builder.put(number, secrets.vault_id, device_key, schema.name, domain, piece)
                        builder = flushed(pack.FULL)
                builder = flushed(pack.FULL)
            flushed(1)
            if len(schemas) > known:
                self._index.put([(schema, _no_rows(schema)) for schema in schemas.values()])
        if made:
            self._commit(self._tenants.count + len(admitted), [*self._tenants.packs, *made])

    def _commit(self, count: int, packs: list[Pack]) -> None:
        new = Tenants.of(count, packs)
        self._index.set_state({_STATE: cbor.encode([count, [[p.id, p.size] for p in packs]])})
        self._tenants = new

    def _sweep(self) -> None:
        """Remove packs that crashes left behind, once the newest manifest is sure to be on the medium."""
        files.sync_directory(self._directory / _INDEX / files.MANIFESTS)
        packs = self._directory / _PACKS
        files.remove(packs, files.ids(packs).keys() - {p.id for p in self._tenants.packs})
        files.remove_temporaries(packs)


def _no_rows(schema: Schema) -> pl.DataFrame:
    return pl.DataFrame(schema={name: code_dtype(column) for name, column in schema.stored})
