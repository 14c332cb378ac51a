"""One connection to a PostgreSQL server, made anew when the server went away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from datasov.errors import StoreError
from datasov.store.where import Where

T = TypeVar("T")
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

PATIENCE = 30.0
"""Seconds for which a use of the store waits for a server that went away, unless it is told otherwise."""
_DEFAULTS = {
    "connect_timeout": "10", "keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "4",
    "tcp_user_timeout": "60000", "target_session_attrs": "primary",
}  # fmt: skip
_PATH = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)"
"""Nothing is called by a name that somebody else's schema could give to a function of theirs, to be run by this role.

Behind a pooler that mixes sessions it may be undone, so statements also name the schema of each function."""
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_GONE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.IdleInTransactionSessionTimeout)


class Session:
    """A connection that is used by one thread at a time, and that work is tried on again after it broke.

    Nothing is kept in the session itself, so that a pooler may hand each transaction to another server process.

    Args:
        check: looks at a fresh connection; it raises StoreError where that leads to something else than before.

    Raises:
        StoreError: no server answers there now.
    """

    def __init__(self, where: Where, name: str, patience: float, check: Callable[[Connection], None]) -> None:
        self.where, self._name, self._patience, self._check = where, name, patience, check
        self._lock, self._over = threading.RLock(), False
        self._db: Connection | None = None
        try:
            self._db = self._connect()
        except psycopg.Error as fault:
            raise self._error(fault) from fault

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives on a connection outside of any transaction; it is done again where the server went away.

        Raises:
            StoreError: the server refuses, or did not come back in time.
        """
        with self._lock:
            waited_since, pause = None, _PAUSE
            while True:
                try:
                    return work(self._connected())
                except psycopg.Error as fault:
                    lost = self._lost(fault)
                    self._undo(drop=lost)
                    waited_since = waited_since or time.monotonic()
                    if not lost or self._over or time.monotonic() - waited_since >= self._patience:
                        raise self._error(fault) from fault
                except BaseException:
                    self._undo(drop=False)
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def held(self) -> Iterator[Connection]:
        """The connection for one transaction, which is rolled back unless it was committed, and is tried once."""
        with self._lock:
            try:
                yield self._connected()
            except psycopg.Error as fault:
                self._undo(drop=self._lost(fault))
                raise self._error(fault) from fault
            finally:
                self._undo(drop=False)

    def close(self) -> None:
        """Close the connection; what is done with it afterwards is a StoreError."""
        with self._lock:
            self._over = True
            self._undo(drop=True)

    def _connected(self) -> Connection:
        if self._over:
            raise StoreError("the store is closed: open the city again")
        if self._db is None or self._db.closed:
            self._db = self._connect()
        return self._db

    def _connect(self) -> Connection:
        given = {**_DEFAULTS, **self.where.connection, **self.where.secret, "application_name": self._name}
        given["client_encoding"] = "UTF8"
        db = psycopg.connect(**given, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        try:
            db.execute(_PATH)
            self._check(db)
        except BaseException:
            db.close()
            raise
        return db

    def _lost(self, fault: psycopg.Error) -> bool:
        if self._db is None or self._db.closed or isinstance(fault, _GONE):
            return True
        return isinstance(fault, psycopg.OperationalError) and (fault.sqlstate or "08").startswith("08")

    def _undo(self, *, drop: bool) -> None:
        """End the transaction that work left behind, or the connection where that cannot be known."""
        if self._db is None:
            return
        if not drop and not self._db.closed and self._db.info.transaction_status != TransactionStatus.IDLE:
            try:
                self._db.execute("ROLLBACK")
            except psycopg.Error:
                drop = True
        if drop:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def _error(self, fault: psycopg.Error) -> StoreError:
        """What to do about an error of the server's, or of the way to it."""
        match fault:
            case errors.UndefinedTable() | errors.InvalidSchemaName():
                return StoreError(f"no city's store is in {self.where}: name the right one, or restore it there")
            case errors.InsufficientPrivilege():
                return StoreError(
                    f"the role may not use {self.where}: let its administrator run CREATE SCHEMA ... AUTHORIZATION "
                    "ROLE (docs/operating.md)"
                )
            case errors.LockNotAvailable():
                return StoreError("another process holds the city's database: see whether it hangs, then try again")
            case errors.ReadOnlySqlTransaction():
                return StoreError("the PostgreSQL server is a standby: name the primary")
            case errors.DiskFull():
                return StoreError("the PostgreSQL server's disk is full: make room, then try again")
        if self._db is None or fault.sqlstate is None:
            return StoreError(
                f"the PostgreSQL server of {self.where} cannot be used: see that it runs, that the role may connect, "
                f"and that its password is in PGPASSWORD or ~/.pgpass; then try again ({_first_line(fault)})"
            )
        return StoreError(
            f"the city's database failed: see the PostgreSQL server's log, then try again (SQLSTATE {fault.sqlstate})"
        )


def _first_line(fault: psycopg.Error) -> str:
    return (str(fault).splitlines() or [""])[0].strip()
