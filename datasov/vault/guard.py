"""Who may use an open vault, and when: one writer, one thread at a time, no fork's child, nobody once closed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from datasov.errors import DecryptionError, StoreError
from datasov.model.schema import Schema
from datasov.vault import files, rows
from datasov.vault import format as fmt
from datasov.vault.session import Session

_TRIES = 3


class Guard:
    """An open vault's session, and the lock of its writer, if it is one.

    Attributes:
        closed: nothing is read or written any more.
    """

    __slots__ = ("_mutex", "_pid", "closed", "lock", "session")

    def __init__(self, session: Session, lock: files.WriterLock | None) -> None:
        self.session, self.lock, self.closed = session, lock, False
        self._mutex, self._pid = threading.RLock(), os.getpid()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One thread at a time; whatever does not verify gets the one answer."""
        with self._mutex, files.storing("the vault cannot be read"):
            if self.closed:
                raise StoreError("the vault is closed: open it again")
            try:
                yield
            except DecryptionError:
                raise fmt.damaged() from None

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """As :meth:`reading`, for the writer alone; `what` begins the StoreError that an OSError becomes."""
        with self._mutex:
            if self.closed:
                raise StoreError("the vault is closed: open it again")
            if self.lock is None:
                raise StoreError("the vault is open for reading: open it with write=True")
            if self._pid != os.getpid():
                raise StoreError("the vault was opened before a fork: two copies of a writer must not write")
            if self.session.stuck:
                raise StoreError("the disk did not confirm the last change of keys: close the vault and open it again")
            try:
                yield
            except OSError as fault:
                raise files.failed(what, fault) from fault
            except DecryptionError:
                raise fmt.damaged() from None

    def read(self, schema: Schema, columns: Sequence[str] | None) -> pl.DataFrame:
        """The rows. A reader whose files a writer has meanwhile folded away, or is just appending to, reads again."""
        tries = 0
        while self.lock is None:
            try:
                return rows.scan(self.session.view(missing_ok=False), schema, columns)
            except FileNotFoundError:
                if not self.session.move_on():
                    break
            except DecryptionError:
                tries += 1
                if not self.session.move_on() and tries == _TRIES:
                    raise
        try:
            return rows.scan(self.session.view(missing_ok=True), schema, columns)
        except FileNotFoundError:
            raise fmt.damaged() from None

    def close(self, leave_anchor: Callable[[], None]) -> None:
        """Seal the end of the log into a manifest, leave an anchor, and let the next writer in."""
        with self._mutex:
            if self.closed:
                return
            self.closed = True
            try:
                if self.lock is not None and self._pid == os.getpid() and not self.session.stuck:
                    with files.storing("the rows are stored, but the end of the log was not sealed"):
                        if self.session.unsealed:
                            self.session.commit()
                        leave_anchor()
            finally:
                self.session.end()
                if self.lock is not None:
                    self.lock.release()

    def erased(self) -> None:
        """The vault is gone: nothing more, and its lock is free."""
        self.closed = True
        if self.lock is not None:
            self.lock.release()
