"""The pool's files: which a city's registry names, and all of them under another key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasov.authority.registry import Registry
from datasov.errors import DatasovError, StoreError
from datasov.pool.sealed import (
    HEADER,
    fingerprint,
    open_shard,
    reseal_shard,
    sealed_under,
    shard_file,
    write_durably,
)  # fmt: skip
from datasov.store.stores import Store


def named(store: Store) -> list[tuple[str, int, int, bytes]]:
    """Partition, number, generation and fingerprint of every shard that the registry in this store names."""
    return [
        (partition.name, number, generation, name)
        for partition in Registry(store).refresh()
        for number, (generation, name) in sorted(partition.shards.items())
    ]


def missing(store: Store, folder: Path) -> list[str]:
    """The files that the registry names and that are not in the folder."""
    return [file for file in (shard_file(*shard) for shard in named(store)) if not (folder / file).is_file()]


def faults(store: Store, folder: Path, key: bytes) -> Iterator[tuple[str, str]]:
    """The name of every shard's file, and what is wrong with it, or nothing."""
    for partition, number, generation, name in named(store):
        file = shard_file(partition, number, generation, name)
        try:
            data = (folder / file).read_bytes()
            if fingerprint(data) != name:
                raise ValueError
            open_shard(key, partition, number, generation, data)
        except OSError:
            yield file, "is missing or cannot be read"
        except (ValueError, DatasovError):
            yield file, "is not as it was written"
        else:
            yield file, ""


def reseal(store: Store, folder: Path, old: bytes, new: bytes) -> dict[bytes, bytes]:
    """Write every named shard once more, under another key, beside the old one; old fingerprint to new one.

    Raises:
        StoreError: a shard is missing, or the disk refuses. DecryptionError: one is damaged.
    """
    renamed: dict[bytes, bytes] = {}
    for shard in named(store):
        try:
            data = (folder / shard_file(*shard)).read_bytes()
        except OSError:
            raise StoreError("a shard of the pool is missing: restore the city from a backup") from None
        file, sealed, before = reseal_shard(old, new, data)
        write_durably(folder / file, sealed)
        renamed[before] = fingerprint(sealed)
    return renamed


def sweep(folder: Path, key: bytes) -> None:
    """Remove every shard's file that is not sealed under this key. One that somebody folds just now is, and stays."""
    for path in folder.glob("*/*.shard"):
        try:
            with path.open("rb") as file:
                sealed = sealed_under(key, file.read(HEADER))
        except FileNotFoundError:
            continue
        if not sealed:
            path.unlink(missing_ok=True)
