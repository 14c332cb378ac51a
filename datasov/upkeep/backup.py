"""A city in one file, as it stands at one moment, while others write; and a city again from such a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from datasov.crypto.kdf import random
from datasov.errors import ProofError, StoreError
from datasov.pool import files
from datasov.pool.sealed import shard_file
from datasov.store import anchor, place, settings
from datasov.store.sqlite import SQLiteStore
from datasov.store.stores import Store
from datasov.tlog.export import HeldLog
from datasov.tlog.leaves import encode_leaf
from datasov.tlog.note import open_checkpoint, peek_checkpoint, sign_checkpoint
from datasov.tlog.operators import Restoration, follow, notices, restoration
from datasov.tlog.tree import Tree, leaf_hash
from datasov.upkeep import archive
from datasov.upkeep.exchange import check_anchor, new_anchor, settle
from datasov.upkeep.identity import Identity, identity

_TRIES = 100


def backup(store: Store, pool: Path, operator: bytes, path: Path, now: int) -> archive.Header:
    """Write a backup of a city whose other users go on: the database at one moment, and the shards that it names.

    Args:
        store: an open one; its copy is verified. pool: the folder of the shards.
        now: Unix seconds.

    Raises:
        StoreError: the path exists, the city is damaged, or the disk refuses. No half backup is left.
    """
    if path.exists():
        raise StoreError(f"{path.name} exists already: choose another path")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as held:
            copy = _snapshot(store, pool, Path(held), operator)
            try:
                header = _header(copy, operator, now)
                shards = _shards(copy, Path(held))
            finally:
                copy.close()
            with archive.writing(path, operator, header) as add:
                add("city.db", Path(held) / "city.db")
                for shard in shards:
                    add(f"pool/{shard}", Path(held) / "pool" / shard)
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be written: {fault.strerror or fault}") from fault
    return header


def _snapshot(store: Store, pool: Path, held: Path, operator: bytes) -> SQLiteStore:
    """Copies of the database, verified, and of the shards, taken again where a shard was folded in between."""
    (held / "pool").mkdir()
    seen = None
    for _ in range(_TRIES):
        (held / "city.db").unlink(missing_ok=True)
        store.copy(held / "city.db")
        copy = SQLiteStore(held / "city.db", key=place.chain_key(operator))
        try:
            _copy_shards(pool, held / "pool")
            if settings.read(copy)["version"] != settings.VERSION or not files.missing(copy, held / "pool"):
                copy.verify()
                return copy
            seen, before = copy.head(), seen
            if seen == before:
                raise StoreError("a shard of the pool is missing: restore the city from an earlier backup")
        except BaseException:
            copy.close()
            raise
        copy.close()
    raise StoreError("shards of the pool were folded whenever the backup looked: try again")


def _copy_shards(pool: Path, held: Path) -> None:
    """Copy the shards that are not copied yet: a file never changes under its name."""
    for source in pool.glob("*/*.shard"):
        target = held / source.relative_to(pool)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            part = target.with_suffix(".part")
            try:
                shutil.copyfile(source, part)
            except FileNotFoundError:
                continue
            part.rename(target)


def _shards(store: SQLiteStore, held: Path) -> list[str]:
    """The shards to keep, below the pool's folder: those that the registry names, of another version all."""
    if settings.read(store)["version"] == settings.VERSION:
        return [shard_file(*shard) for shard in files.named(store)]
    return sorted(str(p.relative_to(held / "pool")) for p in (held / "pool").glob("*/*.shard"))


def _header(store: SQLiteStore, operator: bytes, now: int) -> archive.Header:
    who = identity(settings.read(store), operator)
    return archive.Header(str(who.id), now, held_log(store, who).checkpoint().note)


def held_log(store: Store, who: Identity) -> HeldLog:
    """The log as the store has it, signed. Nothing is written, as a :class:`datasov.tlog.log.Log` would its hashes."""
    leaves = store.read("log")
    root = Tree(map(leaf_hash, leaves)).root()
    return HeldLog(sign_checkpoint(who.origin, len(leaves), root, who.signing).note, leaves)


def restore(
    path: Path, to: Path, *, operator_key: bytes | None = None, log_head: bytes | None = None, reanchor: bool = False,
    now: int, at: str | None = None,
) -> bool:  # fmt: skip
    """Put a city back from a backup. It is whole at its path afterwards, or nothing is there.

    What shows that nothing came after the backup: the anchor beside the path, or a checkpoint of the log that somebody
    else holds. Without either, only `reanchor` takes the copy for the newest. Whenever the anchor does not vouch for
    the copy, a notice in the log says that the city was restored, and at what size.

    Args:
        to: where nothing is yet; the key file and the anchor, where there are any, lie beside it.
        log_head: a signed checkpoint. One that is not a prefix of the restored log is refused, whatever else is given.
        reanchor: go on from this copy although the anchor is lost, or ahead of it.
        at: the URL of a new store on a server, which takes the database; None: it is a file in the folder. Whatever the
            city that was backed up had.

    Returns:
        Whether the log has a new notice.

    Raises:
        StoreError: the backup is damaged or another operator's, the copy lies behind, or the disk refuses.
    """
    if to.exists():
        raise StoreError(f"{to.name} exists already: a city is restored to where nothing is")
    operator = place.operator_key(to, operator_key, create=False)
    part = to.with_name(f".{to.name}.{random(4).hex()}.part")
    try:
        part.mkdir(mode=0o700)
        archive.extract(path, operator, part)
        (part / "pool").mkdir(exist_ok=True)
        store = SQLiteStore(part / "city.db", key=place.chain_key(operator))
        try:
            noticed = _accept(store, to, operator, log_head, reanchor, now)
            anchor.write(new_anchor(to), store.head, place.keys(operator)[0])
        finally:
            store.close()
        if at is not None:
            place.move(part, to, operator, at)
        os.rename(part, to)
    except OSError as fault:
        raise StoreError(f"{to.name} cannot be restored: {fault.strerror or fault}") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)
    settle(to, operator_key, at)
    return noticed


def _accept(
    store: SQLiteStore, to: Path, operator: bytes, log_head: bytes | None, reanchor: bool, now: int
) -> bool:  # fmt: skip
    """Verify a copy and compare it with what is known of the city; whether a notice was added to its log."""
    store.verify()
    who = identity(settings.read(store), operator)
    if log_head is not None:
        check_head(store, who, log_head)
    try:
        check_anchor(store, to, who.signing.public)
    except StoreError:
        known = log_head is not None and not place.anchor_path(to).exists()
        if not reanchor and not known:
            raise
    else:
        return False
    note_restoration(store, who, now)
    return True


def check_head(store: SQLiteStore, who: Identity, note: bytes) -> None:
    """Raise StoreError unless a signed checkpoint is of this city, and the log holds at least what it names."""
    leaves = store.read("log")
    try:
        known = follow(notices(leaves), who.origin, [who.id, *(e.id for e in who.earlier)])
        head = peek_checkpoint(note)
        for city in known.ids:
            try:
                head = open_checkpoint(note, who.origin, city.verify_key)
            except ProofError:
                continue
            break
        else:
            raise StoreError(
                "the checkpoint is not signed by a key that this copy knows: it is another city's, or newer"
            )
        if head.size > len(leaves):
            raise StoreError("this copy lies behind the log that somebody has seen: bring back a newer one")
        if Tree(map(leaf_hash, leaves[: head.size])).root() != head.root:
            raise StoreError("this copy's log is not the one that somebody has seen: bring back the right one")
    except ProofError as why:
        raise StoreError(f"the checkpoint cannot be compared: {why}") from None


def note_restoration(store: Store, who: Identity, now: int) -> None:
    """Say in the log, for everybody, that the city goes on from this copy."""
    leaves = [leaf_hash(leaf) for leaf in store.read("log")]
    found = Restoration(who.origin, str(who.id), now, len(leaves), Tree(leaves).root())
    store.append({"log": (len(leaves), [encode_leaf(restoration(found, who.signing))])})
