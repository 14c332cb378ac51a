"""A question to devices that the pool answers too: the kernel draws when it is opened, and what it drew stands.

The pool is looked at when the task is made, before a device answers. So whoever leaves the pool after that is in it,
and whoever joins it after that is not: a vault can tell by its own consents and the log which of the two it is, and
answers the task only where the pool did not (`resident.answering`).
"""

from __future__ import annotations

from dataclasses import replace

from datasov.kernel.ledger import Ledger, Reservation
from datasov.kernel.monitor import Pool
from datasov.model.plan import Request
from datasov.model.privacy import Loss, Purses, central
from datasov.model.shard import Snapshot


class Opening:
    """A ledger as the kernel's release sees it when a task is opened: what it commits is the task, and stands."""

    def __init__(self, ledger: Ledger, key: bytes) -> None:
        self._ledger, self._key = ledger, key
        self.charge = ledger.charge

    def stored(self, _: bytes) -> bytes | None:
        return self._ledger.stored(self._key)

    def reserve(self, loss: Loss, purses: Purses = ()) -> Reservation:
        return self._ledger.reserve(loss, purses)

    def commit(self, reservation: Reservation, _: bytes, body: bytes, leaf: bytes) -> bytes:
        return self._ledger.commit(reservation, self._key, body, leaf, stands=True)


class Pooled:
    """The pool of those who consented to central trust."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def snapshot(self, request: Request) -> Snapshot:
        return self._pool.snapshot(replace(request, trust=central()))
