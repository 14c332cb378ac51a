"""Another key for a city: everything that the old one sealed is sealed anew, and the log says so under both."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from datasov.authority import status
from datasov.crypto.kdf import random, sha256
from datasov.errors import InvalidQueryError, StoreError, VerificationError
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.pool import files
from datasov.pool.sealed import accounts_key, open_blob, pool_key, seal_blob, sealed_blob
from datasov.store import place, settings
from datasov.store.rewrite import rewrite
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.leaves import encode_leaf
from datasov.tlog.operators import Succession, succession
from datasov.tlog.tree import Tree, leaf_hash
from datasov.upkeep.exchange import exchanged, settle
from datasov.upkeep.identity import handed_on, identity

GRACE = 90 * 86_400
"""Seconds for which a city takes contributions that are sealed to the id before, unless it is told otherwise."""


def rotate(
    path: Path, *, operator_key: bytes | None = None, new_key: bytes | None = None, grace: int = GRACE, now: int,
    operators: Collection[bytes] | None = None, at: str | None = None,
) -> CityId:  # fmt: skip
    """Change a city's key, while no process has it open, and return its new id.

    Args:
        operator_key: the present key, where it does not lie in the key file.
        new_key: 32 bytes; drawn where None, and the key lies in the key file.
        grace: seconds for which contributions sealed to the old id are still taken; 0 after a theft.
        now: Unix seconds. operators: the public keys that the city's charter allows; None: it has no charter.
        at: the URL of a store on a server, where its password or address is not known otherwise.

    Raises:
        StoreError: the charter does not name the new key, or the city had it before; the city is open elsewhere, its
            key is another, or the disk refuses. The city is then as it was.
    """
    if isinstance(grace, bool) or not isinstance(grace, int) or grace < 0:
        raise InvalidQueryError("grace is a number of seconds, zero or more")
    if not place.is_city(path):
        raise StoreError(f"{path.name} is no city: name the folder that City.open made")
    settle(path, operator_key, at)
    operator = place.operator_key(path, operator_key, create=False)
    if operator_key is not None and new_key is None:
        raise StoreError("the key does not lie in a key file: give the new one, and keep both until this has returned")
    renewed = random(place.KEY) if new_key is None else place.operator_key(path, new_key, create=False)
    if renewed == operator:
        raise StoreError("that is the key that the city has: give another")
    if operators is not None and place.keys(renewed)[0].public not in operators:
        raise StoreError(
            "the city's charter does not name the new key among its operators: adopt one that names both keys, then "
            "give the new one"
        )
    with exchanged(path, operator, renewed, key_file=operator_key is None, at=at) as (source, target):
        before = settings.read(source)
        settings.check_version(before)
        who = identity(before, operator)
        if place.keys(renewed)[0].public in {earlier.id.verify_key for earlier in who.earlier}:
            raise StoreError("that is a key that the city had before, and nobody would follow it back: give a new one")
        after = handed_on(before, operator, renewed, now + grace)
        leaves = [leaf_hash(leaf) for leaf in source.read("log")]
        change = Succession(
            who.origin, before["id"], after["id"], now, len(leaves), Tree(leaves).root(), now + grace
        )  # fmt: skip
        _reseal(source, target, path / "pool", operator, renewed, canonical(after))
        leaf = encode_leaf(succession(change, who.signing, place.keys(renewed)[0]))
        store = SQLiteStore(target, key=place.chain_key(renewed))
        try:
            store.append({"log": (len(leaves), [leaf])})
        finally:
            store.close()
    return CityId.parse(after["id"])


def _reseal(source: SQLiteStore, target: Path, pool: Path, operator: bytes, renewed: bytes, new: bytes) -> None:
    """The database under the new keys; shards are written beside the old ones, and found by what the registry says."""
    lists = {name: _list(source, name, operator, renewed) for name in source.blobs() if name.startswith("status/")}
    renamed = files.reseal(source, pool, pool_key(operator), pool_key(renewed))
    renamed |= {sha256(source.blob(name)): sha256(signed) for name, signed in lists.items()}
    named = re.compile(b"|".join(map(re.escape, renamed)), re.DOTALL)
    accounts, accounts_new = accounts_key(operator), accounts_key(renewed)

    def change(stream: str, index: int, body: bytes) -> bytes:
        if stream == "city":
            return new
        if stream.startswith("accounts/"):
            name = f"{stream}/{index}"
            return seal_blob(accounts_new, name, open_blob(accounts, name, body))
        if renamed and (stream.startswith("registry/") or stream == "status"):
            return named.sub(lambda found: renamed[found[0]], body)
        return body

    def change_blob(name: str, data: bytes) -> bytes:
        if sealed_blob(name):
            return seal_blob(pool_key(renewed), name, open_blob(pool_key(operator), name, data))
        return lists.get(name, data)

    rewrite(source, target, place.chain_key(renewed), change, change_blob)


def _list(source: SQLiteStore, name: str, operator: bytes, renewed: bytes) -> bytes:
    """A status list under the new key; as it is where the old one did not sign it, so that it stays unusable."""
    old, new = place.keys(operator)[0], place.keys(renewed)[0]
    data = source.blob(name)
    try:
        return status.resigned(data, old.public, int(name.removeprefix("status/")), new)
    except VerificationError:
        return data
