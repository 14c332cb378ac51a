"""Whether a city is whole: its database, its pool, its anchor and its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasov.errors import DatasovError, StoreError
from datasov.model.consent import CityId
from datasov.pool import files
from datasov.pool.sealed import accounts_key, open_blob, pool_key, sealed_blob
from datasov.store import place, settings
from datasov.store.stores import Store
from datasov.tlog.export import HeldLog
from datasov.tlog.leaves import decode_leaf
from datasov.tlog.whole import read_whole
from datasov.upkeep.backup import held_log
from datasov.upkeep.exchange import check_anchor
from datasov.upkeep.identity import identity


@dataclass(frozen=True, slots=True)
class Found:
    """What was looked at, how much of it there is, and what is wrong with it, or None."""

    part: str
    count: int
    fault: str | None


def check(path: Path, operator_key: bytes | None = None, at: str | None = None) -> list[Found]:
    """Read all of a city and compare it with its keys. Nothing is changed, and other processes may go on.

    Args:
        at: the URL of a store on a server, where its password or address is not known otherwise.

    Raises:
        StoreError: no city, or its key is missing or another city's.
    """
    store, operator = place.open_store(path, operator_key, at)
    try:
        found = settings.read(store)
        settings.check_version(found)
        who = identity(found, operator)
        parts: dict[str, Callable[[], int]] = {
            "database": lambda: _database(store),
            "accounts": lambda: _accounts(store, operator),
            "pool": lambda: _pool(store, path / "pool", operator),
            "log": lambda: _log(held_log(store, who), who.id),
            "anchor": lambda: _anchor(store, path, who.signing.public),
        }
        return [_looked(part, look) for part, look in parts.items()]
    finally:
        store.close()


def _looked(part: str, look: Callable[[], int]) -> Found:
    try:
        return Found(part, look(), None)
    except DatasovError as why:
        return Found(part, 0, str(why))


def _database(store: Store) -> int:
    """Appends, every one linked under the operator's key."""
    store.verify()
    return store.head()[0]


def _accounts(store: Store, operator: bytes) -> int:
    """Charges that open under their names."""
    key, count = accounts_key(operator), 0
    for stream in store.streams("accounts/"):
        for index, body in enumerate(store.read(stream)):
            open_blob(key, f"{stream}/{index}", body)
            count += 1
    return count


def _pool(store: Store, folder: Path, operator: bytes) -> int:
    """Shards and pending contributions that open."""
    count = 0
    for file, fault in files.faults(store, folder, pool_key(operator)):
        if fault:
            raise StoreError(f"{file} {fault}: restore the city from a backup")
        count += 1
    for name in filter(sealed_blob, store.blobs()):
        open_blob(pool_key(operator), name, store.blob(name))
        count += 1
    return count


def _log(log: HeldLog, city: CityId) -> int:
    """Leaves, each of a known kind, under the operators that the log names."""
    whole = read_whole(log, [city])
    for leaf in whole.leaves:
        decode_leaf(leaf)
    return len(whole.leaves)


def _anchor(store: Store, path: Path, public: bytes) -> int:
    """The anchor's position, which the database contains."""
    check_anchor(store, path, public)
    return 1
