"""The open vault behind the page: locked by itself after a while, opened again by its passphrase."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasov.errors import DatasovError, StoreError
from datasov.home.logs import Source
from datasov.home.outbox import Outbox
from datasov.home.seen import Seen, look
from datasov.resident import Resident

IDLE = 600
"""Seconds without a request after which the vault is closed."""


class LockedError(StoreError):
    """The vault is closed: its passphrase opens it again."""


@dataclass
class Desk:
    """One resident's sitting. Every request holds `turn`, so that one thing happens at a time.

    Attributes:
        path: of the vault.
        reopen: opens it by a passphrase; None where a passphrase alone does not: then a lock ends the sitting.
        sources: of cities' logs.
        idle: seconds after which it locks.
        simulated: everything in it is made up, and the page says so.
        online: whether logs are read from, or anything is sent to, another machine.
    """

    path: Path
    reopen: Callable[[str], Resident] | None
    sources: Sequence[Source]
    outbox: Outbox
    idle: float = IDLE
    simulated: bool = False
    online: bool = False
    clock: Callable[[], float] = time.monotonic
    turn: threading.RLock = field(default_factory=threading.RLock)
    erased: bool = False
    _resident: Resident | None = None
    _used: float = 0.0
    _seen: list[Seen] | None = None

    def take(self, resident: Resident) -> None:
        """Begin with a vault that is open already."""
        with self.turn:
            self._resident, self._used = resident, self.clock()

    @property
    def locked(self) -> bool:
        with self.turn:
            self.lock_if_idle()
            return self._resident is None

    @property
    def resident(self) -> Resident:
        """The open vault, which was just used; LockedError where it is closed."""
        with self.turn:
            self.lock_if_idle()
            if self._resident is None:
                raise LockedError("the vault is locked: give its passphrase")
            self._used = self.clock()
            return self._resident

    def lock_if_idle(self) -> None:
        """Close the vault where nobody used it for `idle` seconds."""
        with self.turn:
            if self._resident is not None and self.clock() - self._used >= self.idle:
                self.lock()

    def lock(self) -> None:
        """Close the vault, and forget what was read of logs for it."""
        with self.turn:
            held, self._resident, self._seen = self._resident, None, None
            if held is not None:
                with contextlib.suppress(DatasovError):
                    held.close()

    def unlock(self, passphrase: str) -> None:
        """Open the vault again.

        Raises:
            DecryptionError: a wrong passphrase. StoreError: another process writes to it, or no passphrase opens it.
        """
        with self.turn:
            if self._resident is None:
                if self.reopen is None or self.erased:
                    raise StoreError("a passphrase alone does not open this vault: start `datasov home` again")
                self.take(self.reopen(passphrase))

    def erase(self) -> None:
        """Erase the whole vault, for good."""
        with self.turn:
            self.resident.erase()
            self._resident, self._seen, self.erased = None, None, True

    def seen(self, *, anew: bool = False) -> list[Seen]:
        """What each log says to this vault, read once in a sitting and again where `anew`."""
        with self.turn:
            if self._seen is None or anew:
                resident = self.resident
                self._seen = [look(resident, source) for source in self.sources]
            return self._seen

    def stale(self) -> None:
        """What was read of the logs no longer holds: consents changed."""
        with self.turn:
            self._seen = None
