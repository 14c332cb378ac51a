"""An aggregator's place on disk: a folder with its store, and beside it its secret and an anchor."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datasov.aggregator.aggregator import Aggregator
from datasov.aggregator.client import over_http
from datasov.aggregator.messages import Post
from datasov.aggregator.state import identity, keys, roll
from datasov.authority import issuing
from datasov.authority.enrolment import Roll
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


def make(path: Path, *, name: str, url: str, budget: Loss, tokens: bool = True) -> AggregatorId:
    """Make the folder of a new aggregator, and its secret beside it (`PATH.key`); its id.

    Args:
        tokens: whether it issues enrolment tokens, and asks for one with every report.

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
    me = identity(name, url, secret, tokens=tokens)
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
        """As :meth:`Aggregator.handle`; where a loss was spent, the anchor is written before the answer leaves.

        And before a noised share leaves, the exact one is gone from the database's write-ahead log too.
        """
        answer = self.aggregator.handle(path, body)
        if path in ("tasks", "close", "collect"):
            self.anchor()
        if path in ("close", "collect"):
            self.store.wipe()
        return answer

    def anchor(self) -> None:
        """Sign the store's position outside of it."""
        anchor.write(place.anchor_path(self._path), self.store.head, self.aggregator.signing)

    def close(self) -> None:
        """Close the store, and let another process open it."""
        self.store.close()
        self._lock.close()


def open_(
    path: Path, cities: list[str], *, clock: Callable[[], float], post: Post = over_http
) -> Opened:  # fmt: skip
    """Open an aggregator's folder.

    Args:
        cities: texts of the ids of the cities whose tasks it takes.

    Raises:
        StoreError: none there, changed, behind its anchor, or open in another process.
    """
    _check_there(path)
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
        me = _verified(path, store, secret)
        opened = Opened(Aggregator(me, secret, store, cities, clock=clock, post=post), store, path, lock)
        opened.anchor()
    except BaseException:
        store.close()
        lock.close()
        raise
    return opened


def enrol(path: Path, city: str, people: Sequence[tuple[str, bytes]]) -> int:
    """Enrol residents for the tasks of a city, or give those who are enrolled another key; how many places there are.

    The aggregator may be running: it reads what came with the next request. Of what a person is called, the store keeps
    a keyed hash (of the text in the form NFKC, under the aggregator's secret).

    Args:
        city: text of its id.
        people: what each is called in the operator's register, and their enrolment key of 32 bytes.

    Raises:
        InvalidDataError: a person or a key stands twice, a key is another's, or this aggregator asks for no tokens.
        StoreError: no aggregator is there, or it was changed.
    """
    return _enrolled(path, city, lambda roll_, handle: roll_.enrol([(handle(who), key) for who, key in people]))


def strike(path: Path, city: str, people: Sequence[str]) -> int:
    """Take residents off the roll of a city; as :func:`enrol`. Tokens that they have stay good."""
    return _enrolled(path, city, lambda roll_, handle: roll_.strike([handle(who) for who in people]))


def _enrolled(path: Path, city: str, change: Callable[[Roll, Callable[[str], bytes]], None]) -> int:
    _check_there(path)
    CityId.parse(city)
    secret = place.operator_key(path, None, create=False)
    store = SQLiteStore(path / FILE, key=_chain(secret))
    try:
        me = _verified(path, store, secret)
        if not me.issuer_key:
            raise InvalidDataError("this aggregator asks for no enrolment tokens: it has no roll")
        people = roll(store, city)
        change(people, lambda who: _person(secret, who))
        anchor.write(place.anchor_path(path), store.head, keys(secret)[0])
        return len(people)
    finally:
        store.close()


def _person(secret: bytes, who: str) -> bytes:
    return issuing.person(secret, b"datasov aggregator person v1 ", who)


def _check_there(path: Path) -> None:
    if not (path / FILE).is_file():
        raise StoreError(f"{path.name} is no aggregator: name the folder that `datasov aggregator init` made")


def _verified(path: Path, store: SQLiteStore, secret: bytes) -> AggregatorId:
    """Whose store it is, once it is whole, of this secret, and not behind its anchor."""
    store.verify()
    settings = json.loads(store.read(SETTINGS, 0, 1)[0])
    me = AggregatorId.from_document(settings["me"])
    if identity(me.name, me.url, secret, tokens=bool(me.issuer_key)) != me:
        raise StoreError("the secret is not this aggregator's: bring the right one back")
    position, head = anchor.read(place.anchor_path(path), me.verify_key)
    if position > store.head()[0] or store.head(position)[1] != head:
        raise StoreError("this copy lies behind its anchor: no budget is refilled by going back, so bring the newest")
    return me
