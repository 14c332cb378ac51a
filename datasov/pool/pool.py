"""Partitions of the pool in shards of residents: contributions are folded in, and a question takes a snapshot."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.authority.ending import lapses
from datasov.authority.registry import ERASURES, Partition, Registry, partition_name
from datasov.crypto.kdf import hkdf, same, sha256
from datasov.errors import ConflictError, DecryptionError, StoreError
from datasov.model.plan import Request
from datasov.model.schema import Schema
from datasov.model.shard import RESIDENT, Shard, Snapshot
from datasov.pool.ranks import Words, physical_order, ranked
from datasov.pool.sealed import (
    fingerprint,
    open_blob,
    open_shard,
    pool_key,
    seal_blob,
    seal_shard,
    shard_file,
    write_durably,
)
from datasov.wire import cbor, columns

RESIDENTS_PER_SHARD = 8192
_CONTENT = struct.Struct("<QQ")
Mask = npt.NDArray[np.bool_]


class Store(Protocol):
    """Where the registry's streams and the pending contributions are."""

    def append(
        self, batch: Mapping[str, tuple[int, Sequence[bytes]]], blobs: Mapping[str, bytes | None] | None = None
    ) -> None: ...
    def blob(self, name: str) -> bytes: ...


class Lists(Protocol):
    """The status lists that the city publishes."""

    def apply(self, partition: Partition, now: int) -> tuple[Mask, int]: ...


@dataclass(frozen=True, slots=True)
class Contributed:
    """One resident's rows under one consent: codes of the covered columns, and at most one row of each profile."""

    rows: pl.DataFrame
    profiles: Mapping[str, pl.DataFrame]


class Pool:
    """The pool of one city.

    Args:
        folder: holds the shards' files.
        key: the pool's key, 32 bytes: shards and contributions are sealed under keys derived from it, and the rank
            secret is one of them.
        now: the time in Unix seconds.
        lists: applied to every snapshot; None where none are published.
    """

    def __init__(
        self, folder: Path, store: Store, registry: Registry, key: bytes, now: Callable[[], int],
        residents_per_shard: int = RESIDENTS_PER_SHARD, lists: Lists | None = None,
    ) -> None:  # fmt: skip
        self._folder, self._store, self._registry, self._now = folder, store, registry, now
        self._key = pool_key(key)
        self._secret = hkdf(key, salt=b"", info=b"datasov pool rank secret v1")
        self._per_shard, self._lists = residents_per_shard, lists
        self.lock = threading.RLock()
        self._cache: dict[tuple[str, int], tuple[int, Shard]] = {}

    def seal(self, name: str, contributed: Contributed) -> bytes:
        """A contribution as a sealed blob, to be stored with the event that admits it."""
        profiles = [[table, columns.pack(frame)] for table, frame in sorted(contributed.profiles.items())]
        return seal_blob(self._key, name, cbor.encode([columns.pack(contributed.rows), profiles]))

    def snapshot(self, request: Request) -> Snapshot:
        """The consents and rows for a question, after folding in what is pending."""
        query = request.plan.query
        asked = query.tables()
        tables = {name: digest for name, digest, _ in asked}
        now = self._now() if request.time is None else request.time
        columns = {f"{name}.{c}" if place else c for place, (name, _, read) in enumerate(asked) for c in read}
        with self.lock, self._registry.lock:
            partition = self.fold(query.schema, request.purpose)
            usable, since = (None, 0) if self._lists is None else self._lists.apply(partition, now)
            return Snapshot(
                account=partition.name if request.loss.measure == "zcdp" else partition.name + "/pure",
                fence={partition.stream: partition.version},
                eligible=partition.eligible(
                    columns, tables, request.trust.text, request.loss.measure, now, usable, since
                ),
                caps=partition.caps(),
                shards=[self._shard(query.schema, partition, n) for n in sorted(partition.shards)],
            )

    def fold(self, schema: Schema, purpose: str, *, compact: bool = False) -> Partition:
        """Move pending contributions into their shards. With `compact`, rows that must leave are erased too.

        Replaced rows leave with any fold of their shard. Those of revoked and expired consents enter no question from
        that moment on, and are erased here at the next fold of their shard.
        """
        return self._fold(partition_name(schema, purpose), schema, compact)

    def erase(self) -> None:
        """Erase the rows that must leave from all partitions: of consents revoked, expired or replaced.

        It needs no schema, and so no question: contributions that wait to be folded in go on waiting, but for those
        whose consents have expired.
        """
        for partition in self._registry.refresh():
            self._fold(partition.name, None, compact=True)

    def _lapse(self, name: str) -> None:
        while (ending := lapses(self._registry, self._registry.partition(name), self._now())) is not None:
            with contextlib.suppress(ConflictError):
                self._store.append(ending.streams, ending.blobs)

    def _fold(self, name: str, schema: Schema | None, compact: bool) -> Partition:
        with self.lock, self._registry.lock:
            if compact:
                self._lapse(name)
            while True:
                partition = self._registry.partition(name)
                places = np.flatnonzero(partition.columns["pending"] & (schema is not None))
                touched = set(np.unique(places // self._per_shard).tolist())
                if compact:
                    touched |= {place // self._per_shard for place in partition.leaving(self._now())}
                try:
                    for shard in sorted(touched):
                        self._fold_shard(schema, partition, shard)
                        partition = self._registry.partition(name)
                except ConflictError:
                    continue
                return partition

    def _fold_shard(self, schema: Schema | None, partition: Partition, number: int) -> None:
        first, version = number * self._per_shard, partition.version
        residents = min(self._per_shard, len(partition) - first)
        here = slice(first, first + residents)
        held, waiting = partition.columns["held"][here] > 0, partition.columns["pending"][here]
        coming = np.flatnonzero(waiting).tolist() if schema else []
        pending = {i: partition.blob(first + i) for i in coming}
        old = self._shard(schema, partition, number) if number in partition.shards else None
        now = self._now()
        keep = held & ~waiting & partition.lasting(now)[here]
        gone = [
            self._registry.erasure(partition, first + i, folded=True) for i in np.flatnonzero(held & ~keep).tolist()
        ]
        try:
            added = {i: self._open(name) for i, name in pending.items()}
        except StoreError:
            if self._registry.partition(partition.name).version == version:
                raise
            raise ConflictError("a contribution was folded meanwhile: read the registry again") from None
        secret = hkdf(self._secret, salt=b"", info=bytes.fromhex(partition.name))
        digests = b"".join(sha256(key.tobytes())[:8] for key in partition.columns["account"][here])
        identities = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
        rows = self._merge_rows(schema, secret, old, keep, added, identities)
        profiles = _merge_profiles(old, keep, {i: c.profiles for i, c in added.items()}, residents)
        generation = partition.shards[number][0] + 1 if number in partition.shards else 1
        shard = Shard(first, residents, rows, profiles, old.order if old else _order(schema))
        sealed = seal_shard(self._key, partition.name, number, generation, shard_to_bytes(shard))
        name = fingerprint(sealed)
        path = self._path(partition.name, number, generation, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, sealed)
        folded = sorted({first + i for i in pending} | {first + i for i in np.flatnonzero(keep).tolist()})
        event = cbor.encode(["fold", number, generation, name, [first, first + residents], folded])
        blobs: dict[str, bytes | None] = dict.fromkeys(pending.values())
        streams: dict[str, tuple[int, Sequence[bytes]]] = {partition.stream: (version, [event])}
        if gone:
            before, after = partition.shards[number], (generation, name)
            streams[ERASURES] = self._registry.erased(now, gone, (partition.name, number, *before, *after))
        self._store.append(streams, blobs)
        self._cache.pop((partition.name, number), None)
        if schema is not None:
            self._cache[partition.name, number] = generation, shard
        self._sweep(path, number, generation)

    def _merge_rows(
        self,
        schema: Schema | None,
        secret: bytes,
        old: Shard | None,
        keep: Mask,
        added: Mapping[int, Contributed],
        identities: Words,
    ) -> pl.DataFrame:
        """The rows that stay and the ranked rows that come, clustered by resident."""
        frames = []
        if old is not None:
            here = old.rows[RESIDENT].to_numpy()
            frames.append(old.rows.filter(pl.Series(keep[here])) if len(here) else old.rows)
        by_columns: dict[tuple[str, ...], list[pl.DataFrame]] = {}
        for place, contributed in sorted(added.items()):
            frame = contributed.rows.with_columns(pl.lit(place, dtype=pl.UInt32).alias(RESIDENT))
            by_columns.setdefault(tuple(frame.columns), []).append(frame)
        for group in by_columns.values():
            if schema is not None:
                frames.append(ranked(pl.concat(group), schema, secret, identities))
        together = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
        return together if len(frames) == 1 else together.sort(RESIDENT, maintain_order=True).rechunk()

    def _open(self, name: str) -> Contributed:
        content = cbor.decode(open_blob(self._key, name, self._store.blob(name)))
        return Contributed(columns.unpack(content[0]), {table: columns.unpack(frame) for table, frame in content[1]})

    def _path(self, partition: str, number: int, generation: int, name: bytes) -> Path:
        return self._folder / shard_file(partition, number, generation, name)

    def _sweep(self, current: Path, number: int, generation: int) -> None:
        """Remove all older files of a shard, also those that a lost race or a crash left: rows that left live there."""
        for path in current.parent.glob(f"{number}-*.shard"):
            if path != current and int(path.name.split("-")[1]) <= generation:
                path.unlink(missing_ok=True)

    def _shard(self, schema: Schema | None, partition: Partition, number: int) -> Shard:
        generation, name = partition.shards[number]
        cached = self._cache.get((partition.name, number))
        if cached is not None and cached[0] == generation:
            return cached[1]
        try:
            data = self._path(partition.name, number, generation, name).read_bytes()
        except FileNotFoundError:
            if self._registry.partition(partition.name).shards[number][0] == generation:
                raise StoreError("a shard of the pool is missing: restore the city from a backup") from None
            raise ConflictError("a shard was folded meanwhile: read the registry again") from None
        if not same(fingerprint(data), name):
            raise DecryptionError("a shard of the pool is not the one that was written: restore the city from a backup")
        content = open_shard(self._key, partition.name, number, generation, data)
        shard = shard_from_bytes(content, number * self._per_shard, _order(schema))
        if schema is not None:
            self._cache[partition.name, number] = generation, shard
        return shard


def _order(schema: Schema | None) -> str:
    """:func:`schema_order`, or nothing where rows are erased and not looked at."""
    return "" if schema is None else schema_order(schema)


def schema_order(schema: Schema) -> str:
    """The index by which the rows of every resident lie whose consent covers that index's columns."""
    return physical_order(schema, [name for name, _ in schema.items])


def _merge_profiles(
    old: Shard | None, keep: Mask, added: Mapping[int, Mapping[str, pl.DataFrame]], residents: int
) -> pl.DataFrame | None:
    """One row a resident: joined columns as `table.column`, null where a resident has none. None without columns."""
    frames = [pl.DataFrame({RESIDENT: np.arange(residents, dtype=np.uint32)})]
    if old is not None and old.profiles is not None:
        kept = old.profiles.with_columns(pl.Series(RESIDENT, np.arange(old.residents, dtype=np.uint32)))
        frames.append(kept.filter(pl.Series(keep[: old.residents])))
    for place, profiles in added.items():
        row = {
            f"{table}.{name}": frame[name]
            for table, frame in profiles.items()
            if frame.height
            for name in frame.columns
        }
        if row:
            frames.append(pl.DataFrame(row).with_columns(pl.lit(place, dtype=pl.UInt32).alias(RESIDENT)))
    if len(frames) == 1:
        return None
    given = pl.concat(frames[1:], how="diagonal_relaxed")
    joined = frames[0].join(given, on=RESIDENT, how="left", validate="1:1", maintain_order="left").drop(RESIDENT)
    return joined if joined.width else None


def shard_to_bytes(shard: Shard) -> bytes:
    """residents, length of the rows' part, rows and profiles as Arrow IPC."""
    parts = []
    for frame in (shard.rows, shard.profiles):
        buffer = io.BytesIO()
        if frame is not None:
            frame.rechunk().write_ipc(buffer, compression="uncompressed")
        parts.append(buffer.getvalue())
    return _CONTENT.pack(shard.residents, len(parts[0])) + b"".join(parts)


def shard_from_bytes(content: bytearray, first: int, order: str) -> Shard:
    """The shard whose first resident is `first` of these bytes."""
    view = memoryview(content)
    residents, length = _CONTENT.unpack_from(view)
    rows, profiles = view[_CONTENT.size : _CONTENT.size + length], view[_CONTENT.size + length :]
    return Shard(
        first, residents, pl.read_ipc(bytes(rows)),
        pl.read_ipc(bytes(profiles)) if len(profiles) else None, order,
    )  # fmt: skip
