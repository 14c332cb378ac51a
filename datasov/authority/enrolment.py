"""Anonymous enrolment credentials, the aggregator's side: who is enrolled, one token for each, and the check of tokens.

Each aggregator issues tokens of its own and checks them itself, under a key that the task names. So a resident has one
report an epoch with both, and nobody but the aggregator itself has to be trusted for that. docs/spec/enrolment.md
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from datasov.authority import credential
from datasov.authority.columns import Columns, Places
from datasov.authority.credential import TOKEN, Wanted
from datasov.crypto import oprf, p256
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import check_public
from datasov.errors import (
    ConflictError,
    ConsentError,
    DatasovError,
    InvalidDataError,
    StoreError,
    VerificationError,
)
from datasov.wire import cbor

ROLL = "enrolled"
_TRIES, _AT_ONCE, _KEPT = 8, 4096, 4
_RECORD = 36
"""Bytes of what was issued to one resident: their place on the roll, and the hash of their blinded element."""


class Store(Protocol):
    """Append-only streams with compare-and-append (:mod:`datasov.store`)."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...

    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...


class Roll:
    """The residents who are enrolled with an aggregator: for each person a place, for ever, and the key that signs.

    What a person is known by here (32 bytes) is the operator's: a keyed hash of their number in the register of
    residents, for instance. Who loses their key enrols again under the same one, keeps the place, and with it what was
    issued already.

    Args:
        stream: where it is kept. Who serves several cities has a roll for each, since a person has one key in each.
    """

    def __init__(self, store: Store, stream: str = ROLL) -> None:
        self._store, self._stream, self._lock, self._read = store, stream, threading.RLock(), 0
        self._persons = Columns({"account": ("u1", 32)})
        self._keys = Columns({"account": ("u1", 32), "live": "bool"})
        self._by_person, self._by_key = Places(self._persons), Places(self._keys)
        self.refresh()

    def refresh(self) -> None:
        """Read what came since."""
        with self._lock:
            for body in self._store.read(self._stream, self._read):
                entries = cbor.decode(body)
                if type(entries) is not list or not all(type(e) is list and len(e) == 2 for e in entries):
                    raise StoreError("an unknown entry of the roll: update datasov")
                self._apply(entries)
                self._read += 1

    def _apply(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        came = []
        for entry, maybe in zip(entries, self._by_person.maybe(_rows([p for p, _ in entries])).tolist(), strict=True):
            place = self._by_person.get(entry[0]) if maybe else None
            if place is None:
                came.append(entry)
                continue
            key = _rows([entry[1] or bytes(32)])
            self._keys["live"][place], self._keys["account"][place] = bool(entry[1]), key
            self._by_key.add(key, place)
        first = self._persons.size
        for columns, places, number in ((self._persons, self._by_person, 0), (self._keys, self._by_key, 1)):
            columns.grow(first + len(came))
            columns["account"][first:] = rows = _rows([entry[number] for entry in came])
            places.add(rows, first)
        self._keys["live"][first:] = True

    def enrol(self, people: Sequence[tuple[bytes, bytes]]) -> None:
        """Enrol people, or give those who are enrolled another key: (person, key), 32 bytes each.

        Raises:
            InvalidDataError: not 32 bytes each, a person twice, or a key that is another's.
            SignatureError: a key is no Ed25519 key.
        """
        if any(type(part) is not bytes or len(part) != 32 for pair in people for part in pair):
            raise InvalidDataError("a person and a key are 32 bytes each")
        for _, key in people:
            check_public(key)
        if len({p for p, _ in people}) < len(people) or len({k for _, k in people}) < len(people):
            raise InvalidDataError("a person or a key stands twice: enrol each once")
        self._append(people)

    def strike(self, people: Sequence[bytes]) -> None:
        """Take people off the roll: they get no more tokens until they enrol again, in the place that they had."""
        self.refresh()
        if any(person not in self._by_person for person in people):
            raise InvalidDataError("not on the roll: name people as they were enrolled")
        self._append([(person, b"") for person in people])

    def _append(self, people: Sequence[tuple[bytes, bytes]]) -> None:
        for _ in range(_TRIES):
            with self._lock:
                self.refresh()
                for person, key in people:
                    held = self.place(key) if key else None
                    if held is not None and self._persons["account"][held].tobytes() != person:
                        raise InvalidDataError("a key is another person's: ask its holder for one of their own")
                pieces = [people[i : i + _AT_ONCE] for i in range(0, len(people), _AT_ONCE)]
                bodies = [cbor.encode([list(pair) for pair in piece]) for piece in pieces]
                try:
                    self._store.append({self._stream: (self._read, bodies)})
                except ConflictError:
                    continue
                return self.refresh()
        raise StoreError("others enrol people all the time: try again")

    def place(self, key: bytes) -> int | None:
        """The place of who signs with a key now, or None."""
        with self._lock:
            found = self._by_key.get(key)
            return found if found is not None and self._keys["live"][found] else None

    def __len__(self) -> int:
        """How many places there are, also of those who were taken off."""
        return self._persons.size

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self._persons.bytes + self._keys.bytes + self._by_person.bytes + self._by_key.bytes


def _rows(parts: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, 32)


class _Issued:
    """What was issued for one task and epoch: for each place the hash of its blinded element, or zeros."""

    def __init__(self) -> None:
        self.read = 0
        self._columns = Columns({"hash": ("u1", 32)})

    def add(self, body: bytes) -> None:
        if len(body) % _RECORD:
            raise StoreError("an unknown record of what was issued: update datasov")
        records = np.frombuffer(body, dtype=np.uint8).reshape(-1, _RECORD)
        places = np.ascontiguousarray(records[:, :4]).view(">u4").reshape(-1).astype(np.int64)
        self._columns.grow(int(places.max(initial=-1)) + 1)
        self._columns["hash"][places] = records[:, 4:]
        self.read += 1

    def hash(self, place: int) -> bytes:
        """32 bytes; zeros where nothing was issued."""
        return self._columns["hash"][place].tobytes() if place < self._columns.size else bytes(32)


class Issuer:
    """Issues tokens to who is on a roll, and checks those that are shown.

    Args:
        key: its public half stands in the task, the same for everybody.
        batch: most answers under one proof, 1 to 64. More is quicker here, and slower to verify on each device.
    """

    def __init__(self, store: Store, roll: Roll, key: oprf.PrivateKey, *, batch: int = 1) -> None:
        if not 1 <= batch <= oprf.MAX_BATCH:
            raise InvalidDataError(f"a proof is over 1 to {oprf.MAX_BATCH} answers")
        self._store, self._roll, self._key, self._batch = store, roll, key, batch
        self._lock = threading.Lock()
        self._issued: OrderedDict[bytes, _Issued] = OrderedDict()
        self._under: OrderedDict[bytes, oprf.Evaluator] = OrderedDict()

    def wanted(self, task: bytes, epoch: int) -> Wanted:
        """What a token of this issuer for a task's epoch is for."""
        return Wanted(self._key.public, task, epoch)

    def issue(self, task: bytes, epoch: int, requests: Sequence[bytes]) -> list[bytes | DatasovError]:
        """The answer to each request, or why there is none; each request stands alone.

        What is issued to whom is recorded, durably, before anything is computed. A crash in between costs nobody their
        token: the same request is answered again, and another one from the same person never is.
        """
        wanted = self.wanted(task, epoch)
        read: list[tuple[bytes, bytes] | DatasovError] = [_outcome(request, wanted) for request in requests]
        self._roll.refresh()
        outcomes = self._record(wanted, read)
        found: list[bytes | DatasovError] = [b"" if isinstance(o, bytes) else o for o in outcomes]
        granted = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, bytes)]
        for start in range(0, len(granted), self._batch):
            places = granted[start : start + self._batch]
            blinded = [outcome for i in places if isinstance(outcome := outcomes[i], bytes)]
            made = credential.answers(blinded, self._evaluator(wanted).evaluate(blinded))
            for i, answer in zip(places, made, strict=True):
                found[i] = answer
        return found

    def _record(self, wanted: Wanted, read: Sequence[tuple[bytes, bytes] | DatasovError]) -> list[bytes | DatasovError]:
        stream = f"issued/{wanted.info.hex()}"
        for _ in range(_TRIES):
            with self._lock:
                issued = self._known(stream, wanted)
                new: dict[int, bytes] = {}
                outcomes = [r if isinstance(r, DatasovError) else self._grant(r, issued, new) for r in read]
                if not new:
                    return outcomes
                body = b"".join(place.to_bytes(4, "big") + hash_ for place, hash_ in new.items())
                try:
                    self._store.append({stream: (issued.read, [body])})
                except ConflictError:
                    continue
                issued.add(body)
                return outcomes
        raise StoreError("other processes issue for this task all the time: try again")

    def _known(self, stream: str, wanted: Wanted) -> _Issued:
        issued = self._issued.setdefault(wanted.info, _Issued())
        self._issued.move_to_end(wanted.info)
        if len(self._issued) > _KEPT:
            self._issued.popitem(last=False)
        for body in self._store.read(stream, issued.read):
            issued.add(body)
        return issued

    def _grant(self, read: tuple[bytes, bytes], issued: _Issued, new: dict[int, bytes]) -> bytes | DatasovError:
        key, blinded = read
        place = self._roll.place(key)
        if place is None:
            return ConsentError("this key is not on the roll: enrol with the aggregator first")
        hash_, held = sha256(blinded), new.get(place) or issued.hash(place)
        if held == bytes(32):
            new[place] = hash_
        elif held != hash_:
            return ConsentError("a token was issued for another request: ask with the vault that asked first")
        return blinded

    def redeem(self, task: bytes, epoch: int, tokens: Sequence[bytes]) -> list[bytes | None]:
        """The nullifier of each token that this issuer issued for the task's epoch (32 bytes), or None.

        Whoever keeps reports refuses one whose nullifier it has seen, in the transaction that keeps the report.
        """
        wanted = self.wanted(task, epoch)
        fit = [i for i, token in enumerate(tokens) if isinstance(token, bytes) and len(token) == TOKEN]
        inputs, outputs = [tokens[i][:32] for i in fit], [tokens[i][32:] for i in fit]
        found: list[bytes | None] = [None] * len(tokens)
        for i, true in zip(fit, self._evaluator(wanted).check(inputs, outputs), strict=True):
            found[i] = credential.nullifier(wanted, tokens[i]) if true else None
        return found

    def nullifier(self, task: bytes, epoch: int, token: bytes) -> bytes:
        """The nullifier of one token, 32 bytes; VerificationError where this issuer did not issue it for that."""
        (found,) = self.redeem(task, epoch, [token])
        if found is None:
            raise VerificationError("not a token of this issuer for this task and epoch: ask it for one")
        return found

    def _evaluator(self, wanted: Wanted) -> oprf.Evaluator:
        with self._lock:
            if wanted.info not in self._under:
                self._under[wanted.info] = self._key.under(wanted.info)
            if len(self._under) > _KEPT:
                self._under.popitem(last=False)
            return self._under[wanted.info]


def _outcome(request: bytes, wanted: Wanted) -> tuple[bytes, bytes] | DatasovError:
    try:
        key, blinded = credential.read_request(request, wanted)
        p256.decoded(blinded)
    except DatasovError as why:
        return why
    return key, blinded
