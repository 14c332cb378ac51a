"""A city's store: of either kind, with the same methods (tests/conformance/test_stores.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from datasov.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from datasov.store.postgres import PostgresStore

Store: TypeAlias = "SQLiteStore | PostgresStore"
