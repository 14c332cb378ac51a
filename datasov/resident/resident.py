"""What a resident does, on their own device: keep, grant, contribute, revoke, and check what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from datasov.delegating import Delegating
from datasov.resident.answering import Answering
from datasov.resident.enrolling import Enrolling
from datasov.resident.keeping import Keeping
from datasov.resident.watching import Watching
from datasov.vault import Vault
from datasov.vault.opening import New, Ways


class Resident(Keeping, Answering, Enrolling, Watching, Delegating):
    """A resident with their vault. Make one with :meth:`create` or :meth:`open`; it is a context manager."""

    @classmethod
    def create(cls, path: str | Path, *, clock: Callable[[], float] = time.time, **new: Unpack[New]) -> Resident:
        """Make a vault in a new folder, opened by what :class:`datasov.vault.opening.New` names.

        That is a `passphrase`, a `device_key`, a `recovery_key`, or what a `device` makes and keeps.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or the disk refuses.
        """
        return cls(Vault.create(path, **new), clock)

    @classmethod
    def open(cls, path: str | Path, *, clock: Callable[[], float] = time.time, **ways: Unpack[Ways]) -> Resident:
        """Open a vault for reading and writing, one writer at a time: :class:`datasov.vault.opening.Ways`.

        Raises:
            StoreError: no vault, or another process writes to it, or it is older than an anchor says.
            DecryptionError: a wrong key, or damaged files: it does not say which.
        """
        return cls(Vault.open(path, **ways), clock)

    def close(self) -> None:
        """Close the vault and let another writer in."""
        self._vault.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Resident>"
