"""Budgets: reserve, charge, commit, each durable before the next begins, in whole units.

The store is handed in: streams with compare-and-append. Streams: `ledger` (the global account), `accounts/NAME` (what
each resident of one list has spent), `releases` (noised outputs) and `log` (public leaves). Any number of threads and
processes may use one store: whoever loses a compare-and-append reads again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from datasov.errors import BudgetExceededError, ConflictError, InternalError, InvalidQueryError, StoreError
from datasov.kernel.accountant import charged
from datasov.model.charges import Amounts, amounts, grown, pack, unpack
from datasov.model.document import canonical
from datasov.model.privacy import Loss, Purses

Mask = npt.NDArray[np.bool_]
Batch: TypeAlias = Mapping[str, tuple[int, Sequence[bytes]]]
KEY, BUDGET = 32, "the city's budget"


class Store(Protocol):
    """Streams of byte strings; `append` is atomic, durable, and a ConflictError unless every length is as expected."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Batch) -> None: ...
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
        allowance: of it, the most in any one period; kept for who names the purses. None: all of it.

    Raises:
        StoreError: the ledger exists with another budget, or there is none and no budget is given.
    """

    def __init__(self, store: Store, budget: Loss | None = None, allowance: Loss | None = None) -> None:
        self.store, self._lock = store, threading.RLock()
        self._read = 0
        self.budget, self.allowance = Loss(0), Loss(0)
        self._spent = dict[str, Loss]()
        self._open: set[str] = set()
        self._standing: dict[bytes, str] = {}
        self._releases: dict[bytes, int] = {}
        self._accounts: dict[str, tuple[int, Amounts]] = {}
        self._refresh()
        if self.budget.nano == 0:
            if budget is None:
                raise StoreError("a new city needs a budget: name one, for instance budget=ds.zcdp(rho=1.0)")
            opening = {"op": "open", "budget": budget.document(), "allowance": (allowance or budget).document()}
            self.store.append({"ledger": (0, [canonical(opening)])})
            self._refresh()
        if budget is not None and budget != self.budget:
            raise StoreError("the city keeps the budget that it was founded with: open it without naming one")

    def remaining(self, purses: Purses = ()) -> Loss:
        """What is neither reserved nor spent, exactly: of the budget, and of each of these purses as well."""
        with self._lock:
            self._refresh()
            left = self.budget
            for name, cap in [(BUDGET, self.budget), *purses]:
                left = left.meet(cap - self._spent.get(name, Loss(0, cap.measure)))
            return left

    def stored(self, key: bytes) -> bytes | None:
        """The persisted output of the question with this key (32 bytes), byte for byte, or None."""
        with self._lock:
            self._refresh()
            at = self._releases.get(key)
            if at is None:
                return None
            body = self.store.read("releases", at, 1)[0]
            if body[:KEY] != key:
                raise InternalError("the stored releases do not match the ledger")
            return bytes(body[KEY:])

    def reserve(self, loss: Loss, purses: Purses = ()) -> Reservation:
        """Charge a loss to the budget and to these purses, durably, before anything is drawn: to all, or not at all.

        It is never given back. The caps are in the budget's measure.

        Raises:
            BudgetExceededError: less than the loss is left, of the budget or in a purse.
            InvalidQueryError: the loss has another measure than the budget, and does not imply one in it.
        """
        if loss.nano <= 0:
            raise InvalidQueryError("a loss is above zero")
        cost, identifier = charged(loss, self.budget.measure), os.urandom(16)
        names = [name for name, _ in purses]
        entry = canonical({"op": "reserve", "id": identifier.hex(), "loss": cost.document(), "purses": names})
        while True:
            with self._lock:
                # The last turn looks at everything at once, as it stands at the length that the append then names.
                for count, name in enumerate([BUDGET, *names]):
                    if not cost <= self.remaining(purses[:count]):
                        raise BudgetExceededError(f"{name} does not cover this loss: see what remains of it")
                try:
                    self.store.append({"ledger": (self._read, [entry])})
                except ConflictError:
                    continue
                self._refresh()
                return Reservation(identifier, loss)

    def spent(self, account: str, residents: int) -> Amounts:
        """Nano and delta spent by each of `residents` residents of one list; shape (2, residents)."""
        with self._lock:
            at, spent = self._accounts.get(account, (0, np.zeros((2, 0), dtype=np.int64)))
            for body in self.store.read("accounts/" + account, at):
                paid = unpack(body)
                spent, at = grown(spent, paid.shape[1]), at + 1
                spent[:, : paid.shape[1]] += paid
            self._accounts[account] = at, spent
            return grown(spent, residents)[:, :residents].copy()

    def resume(self, key: bytes, loss: Loss) -> Reservation:
        """The reservation of the series that is stored under this key, for the draw of one more step."""
        return Reservation(bytes.fromhex(self._standing[key]), loss)

    def charge(
        self, reservation: Reservation, account: str, shares: Amounts, caps: Amounts, fence: Mapping[str, int],
        beside: Callable[[Mask], Batch] = lambda _: {},
    ) -> Mask:  # fmt: skip
        """Charge to each resident what their own vector costs, durably, where it fits under their cap.

        Args:
            shares: what the answer would cost each resident of the list, in 1/SHARES of the reserved loss, rounded up.
            caps: nano and delta that their consent allows in all; shape (2, residents).
            fence: streams that must still have these lengths, so that the consents are those that the caller saw.
            beside: given who pays, what is appended in the same transaction.

        Returns:
            whose cap holds it: they take part, and the others drop out.

        Raises:
            ConflictError: a fenced stream moved on, or another charge came first: take a new snapshot.
        """
        with self._lock:
            loss = reservation.loss
            owed = np.stack([amounts(shares, loss.nano), amounts(shares, loss.delta)])
            pays: Mask = np.all(self.spent(account, len(shares)) + owed <= caps, axis=0)
            body = pack(reservation.identifier, loss.nano, loss.delta, np.where(pays, shares, 0))
            others: Batch = {stream: (length, []) for stream, length in fence.items()}
            self.store.append({"accounts/" + account: (self._accounts[account][0], [body]), **others, **beside(pays)})
            return pays

    def commit(self, reservation: Reservation, key: bytes, body: bytes, leaf: bytes, *, stands: bool = False) -> bytes:
        """Persist an output and its log leaf in one transaction, and return what is stored under its key.

        With `stands` the reservation stays open, for the steps of a series.

        Where another process stored an output for the same key first, that one is returned and this one is dropped:
        there is one answer to a question.
        """
        name = reservation.identifier.hex()
        entry = canonical({"op": "stands" if stands else "commit", "id": name, "key": key.hex()})
        while True:
            with self._lock:
                first = self.stored(key)
                if first is not None:
                    return first
                if name not in self._open:
                    raise InternalError("this reservation is not open")
                batch = {
                    "ledger": (self._read, [entry]),
                    "releases": (len(self._releases), [key + body]),
                    "log": (self.store.length("log"), [leaf]),
                }
                try:
                    self.store.append(batch)
                except ConflictError:
                    continue

    def _refresh(self) -> None:
        for body in self.store.read("ledger", self._read):
            entry: dict[str, Any] = json.loads(body)
            match entry["op"]:
                case "open":
                    self.budget, self.allowance = (Loss.from_document(entry[n]) for n in ("budget", "allowance"))
                case "reserve":
                    cost = Loss.from_document(entry["loss"])
                    for name in {BUDGET, *entry["purses"]}:
                        self._spent[name] = self._spent.get(name, Loss(0, cost.measure)) + cost
                    self._open.add(entry["id"])
                case "commit" | "stands":
                    key = bytes.fromhex(entry["key"])
                    self._releases[key] = len(self._releases)
                    if entry["op"] == "stands":
                        self._standing[key] = entry["id"]
                    else:
                        self._open.discard(entry["id"])
            self._read += 1
