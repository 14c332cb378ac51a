"""An aggregator's place on disk: a folder with its store, and beside it its secret and an anchor."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datasov.aggregator.aggregator import Aggregator
from datasov.aggregator.batch import Check, no_tokens
from datasov.aggregator.client import over_http
from datasov.aggregator.messages import Post
from datasov.aggregator.state import identity, keys
from datasov.crypto.kdf import hkdf
from datasov.errors import InvalidDataError, StoreError
from datasov.kernel.ledger import Ledger
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.model.parties import AggregatorId
from datasov.model.privacy import Loss, check_loss
from datasov.store import anchor, place
from datasov.store.sqlite import SQLiteStore

SETTINGS, FILE = "aggregator", "aggregator.db"


def _chain(secret: bytes) -> bytes:
    return hkdf(secret, salt=b"", info=b"datasov aggregator chain key v1")


def make(path: Path, *, name: str, url: str, budget: Loss) -> AggregatorId:
    """Make the folder of a new aggregator, and its secret beside it (`PATH.key`); its id.

    Raises:
        InvalidQueryError: a name, an address or a budget that is none.
        StoreError: the path exists, or the disk refuses.
    """
    check_loss(budget)
    if path.exists() or place.anchor_path(path).exists():
        raise StoreError(f"{path.name} exists already: an aggregator is made where nothing is")
    AggregatorId(name, url, bytes(32), bytes(range(32)))
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = place.operator_key(path, None, create=True)
    me = identity(name, url, secret)
    part = path.with_name(f".{path.name}.part")
    try:
        part.mkdir(mode=0o700)
        store = SQLiteStore(part / FILE, create=True, key=_chain(secret))
        try:
            store.append({SETTINGS: (0, [canonical({"version": 1, "me": me.document()})])})
            Ledger(store, budget)
            anchor.write(place.anchor_path(path), store.head, keys(secret)[0])
        finally:
            store.close()
        os.rename(part, path)
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be made: check the folder and its free space") from fault
    return me


@dataclass
class Opened:
    """An aggregator that this process alone has open."""

    aggregator: Aggregator
    store: SQLiteStore
    _path: Path
    _lock: BinaryIO

    def handle(self, path: str, body: bytes) -> bytes:
        """As :meth:`Aggregator.handle`; where a loss was spent, the anchor is written before the answer leaves."""
        answer = self.aggregator.handle(path, body)
        if path in ("tasks", "close", "collect"):
            self.anchor()
        return answer

    def anchor(self) -> None:
        """Sign the store's position outside of it."""
        anchor.write(place.anchor_path(self._path), self.store.head, self.aggregator.signing)

    def close(self) -> None:
        """Close the store, and let another process open it."""
        self.store.close()
        self._lock.close()


def open_(
    path: Path, cities: list[str], *, clock: Callable[[], float], post: Post = over_http,
    check: Check = no_tokens,
) -> Opened:  # fmt: skip
    """Open an aggregator's folder.

    Args:
        cities: texts of the ids of the cities whose tasks it takes.

    Raises:
        StoreError: none there, changed, behind its anchor, or open in another process.
    """
    if not (path / FILE).is_file():
        raise StoreError(f"{path.name} is no aggregator: name the folder that `datasov aggregator init` made")
    for city in cities:
        CityId.parse(city)
    if not cities:
        raise InvalidDataError("name the cities that this aggregator serves, by their ids")
    secret = place.operator_key(path, None, create=False)
    lock = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError("another process has this aggregator open: end it first") from None
    store = SQLiteStore(path / FILE, key=_chain(secret))
    try:
        store.verify()
        settings = json.loads(store.read(SETTINGS, 0, 1)[0])
        me = AggregatorId.from_document(settings["me"])
        if identity(me.name, me.url, secret) != me:
            raise StoreError("the secret is not this aggregator's: bring the right one back")
        position, head = anchor.read(place.anchor_path(path), me.verify_key)
        if position > store.head()[0] or store.head(position)[1] != head:
            raise StoreError(
                "this copy lies behind its anchor: no budget is refilled by going back, so bring the newest"
            )
        opened = Opened(Aggregator(me, secret, store, cities, clock=clock, post=post, check=check), store, path, lock)
        opened.anchor()
    except BaseException:
        store.close()
        lock.close()
        raise
    return opened
