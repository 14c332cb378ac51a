"""Budgets: reserve, charge, commit, each durable before the next begins, in whole nano-rho.

The store is handed in: streams with compare-and-append. Streams: `ledger` (the global account), `accounts/NAME` (what
each resident of one list has spent), `releases` (noised outputs) and `log` (public leaves). Any number of threads and
processes may use one store: whoever loses a compare-and-append reads again.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from datasov.errors import BudgetExceededError, ConflictError, InternalError, InvalidQueryError, StoreError
from datasov.kernel.accountant import compose
from datasov.model.document import canonical
from datasov.model.privacy import Loss

Mask = npt.NDArray[np.bool_]
Amounts = npt.NDArray[np.int64]
_SHARES = 65_535
KEY = 32


class Store(Protocol):
    """Streams of byte strings; `append` is atomic, durable, and a ConflictError unless every length is as expected."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


class Reservation:
    """A loss that is charged already, and pays for one draw of noise. Only a Ledger makes them."""

    __slots__ = ("_used", "identifier", "loss")

    def __init__(self, identifier: bytes, loss: Loss) -> None:
        self.identifier, self.loss, self._used = identifier, loss, False

    def use(self) -> None:
        """Mark as drawn; InternalError where it was drawn from before."""
        if self._used:
            raise InternalError("a reservation pays for one draw of noise")
        self._used = True


class Ledger:
    """The global budget, the residents' accounts and the stored releases of one city.

    Args:
        store: where the streams are.
        budget: the whole budget; written when the ledger is new, and None for one that exists.

    Raises:
        StoreError: the ledger exists with another budget, or there is none and no budget is given.
    """

    def __init__(self, store: Store, budget: Loss | None = None) -> None:
        self._store, self._lock = store, threading.RLock()
        self._read = 0
        self._budget: Loss | None = None
        self._spent = Loss(0)
        self._open: set[str] = set()
        self._releases: dict[bytes, int] = {}
        self._accounts: dict[str, tuple[int, Amounts]] = {}
        self._refresh()
        if self._budget is None:
            if budget is None:
                raise StoreError("a new city needs a budget: name one, for instance budget=ds.zcdp(rho=1.0)")
            self._store.append({"ledger": (0, [canonical({"op": "open", "budget": budget.nano})])})
            self._refresh()
        if budget is not None and budget != self._budget:
            raise StoreError("the city keeps the budget that it was founded with: open it without naming one")

    @property
    def budget(self) -> Loss:
        """The whole budget."""
        if self._budget is None:
            raise InternalError("the ledger has no budget")
        return self._budget

    @property
    def remaining(self) -> Loss:
        """What is neither reserved nor spent, exactly."""
        with self._lock:
            self._refresh()
            return self.budget - self._spent

    def stored(self, key: bytes) -> bytes | None:
        """The persisted output of the question with this key (32 bytes), byte for byte, or None."""
        with self._lock:
            self._refresh()
            at = self._releases.get(key)
            if at is None:
                return None
            body = self._store.read("releases", at, 1)[0]
            if body[:KEY] != key:
                raise InternalError("the stored releases do not match the ledger")
            return bytes(body[KEY:])

    def outputs(self) -> list[bytes]:
        """All persisted outputs, in order."""
        return [bytes(body[KEY:]) for body in self._store.read("releases")]

    def reserve(self, loss: Loss) -> Reservation:
        """Charge a loss to the global budget, durably, before anything is drawn. It is never given back.

        Raises:
            BudgetExceededError: less than the loss is left.
        """
        if loss.nano <= 0:
            raise InvalidQueryError("a loss is above zero")
        identifier = os.urandom(16)
        entry = canonical({"op": "reserve", "id": identifier.hex(), "nano": loss.nano})
        while True:
            with self._lock:
                self._refresh()
                if compose((self._spent, loss)) > self.budget:
                    raise BudgetExceededError(
                        "the city's remaining budget does not cover this loss: see city.remaining"
                    )
                try:
                    self._store.append({"ledger": (self._read, [entry])})
                except ConflictError:
                    continue
                self._refresh()
                return Reservation(identifier, loss)

    def spent(self, account: str, residents: int) -> Amounts:
        """Nano-rho spent by each of `residents` residents of one list."""
        with self._lock:
            at, spent = self._accounts.get(account, (0, np.zeros(0, dtype=np.int64)))
            for body in self._store.read("accounts/" + account, at):
                charged = _unpack(body)
                spent, at = _grown(spent, len(charged)), at + 1
                spent[: len(charged)] += charged
            self._accounts[account] = at, spent
            return _grown(spent, residents)[:residents].copy()

    def charge(
        self, reservation: Reservation, account: str, owed: Amounts, caps: Amounts, fence: Mapping[str, int]
    ) -> Mask:
        """Charge to each resident what their own vector costs, durably, where it fits under their cap.

        Args:
            owed, caps: nano-rho, one entry a resident of the list: what the answer would cost them, at most the
                reserved loss; and the most that their consent allows in all.
            fence: streams that must still have these lengths, so that the consents are those that the caller saw.

        Returns:
            whose cap holds it: they take part, and the others drop out. Charges are rounded up to 1/65535 of the loss.

        Raises:
            ConflictError: a fenced stream moved on, or another charge came first: take a new snapshot.
        """
        with self._lock:
            unit = reservation.loss.nano
            shares = -(-owed * _SHARES // unit) if unit < 2**46 else np.where(owed > 0, _SHARES, 0)
            spent = self.spent(account, len(owed))
            pays: Mask = spent + _amounts(shares, unit) <= caps
            body = _pack(reservation, np.where(pays, shares, 0))
            at = self._accounts[account][0]
            self._store.append({"accounts/" + account: (at, [body]), **{s: (n, []) for s, n in fence.items()}})
            return pays

    def commit(self, reservation: Reservation, key: bytes, body: bytes, leaf: bytes) -> bytes:
        """Persist an output and its log leaf in one transaction, and return what is stored under its key.

        Where another process stored an output for the same key first, that one is returned and this one is dropped:
        there is one answer to a question.
        """
        entry = canonical({"op": "commit", "id": reservation.identifier.hex(), "key": key.hex()})
        while True:
            with self._lock:
                first = self.stored(key)
                if first is not None:
                    return first
                if reservation.identifier.hex() not in self._open:
                    raise InternalError("this reservation is not open")
                batch = {
                    "ledger": (self._read, [entry]),
                    "releases": (len(self._releases), [key + body]),
                    "log": (self._store.length("log"), [leaf]),
                }
                try:
                    self._store.append(batch)
                except ConflictError:
                    continue

    def _refresh(self) -> None:
        for body in self._store.read("ledger", self._read):
            entry = _decode(body)
            match entry["op"]:
                case "open":
                    self._budget = Loss(entry["budget"])
                case "reserve":
                    self._spent = compose((self._spent, Loss(entry["nano"])))
                    self._open.add(entry["id"])
                case "commit":
                    self._open.discard(entry["id"])
                    self._releases[bytes.fromhex(entry["key"])] = len(self._releases)
            self._read += 1


def _decode(body: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(body)
    return entry


def _amounts(shares: Amounts, unit: int) -> Amounts:
    """Nano-rho of shares of a loss, rounded up."""
    whole, rest = divmod(unit, _SHARES)
    return shares * whole + -(-shares * rest // _SHARES)


def _pack(reservation: Reservation, shares: Amounts) -> bytes:
    """reservation id, the loss, and each resident's share of it in 1/65535, compressed."""
    head = reservation.identifier + reservation.loss.nano.to_bytes(8, "big")
    return head + zlib.compress(shares.astype("<u2").tobytes(), 1)


def _unpack(body: bytes) -> Amounts:
    shares = np.frombuffer(zlib.decompress(body[24:]), dtype="<u2").astype(np.int64)
    return _amounts(shares, int.from_bytes(body[16:24], "big"))


def _grown(spent: Amounts, length: int) -> Amounts:
    if len(spent) >= length:
        return spent
    return np.concatenate([spent, np.zeros(length - len(spent), dtype=np.int64)])
