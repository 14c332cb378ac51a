"""The pool as one question sees it, with what it says of the status lists that were applied."""

from __future__ import annotations

from datasov.authority.lists import StatusLists
from datasov.authority.registry import Registry
from datasov.model.plan import Request
from datasov.model.shard import Snapshot
from datasov.pool.pool import Pool


class Asked:
    """A pool for one question.

    Attributes:
        status: digest of the set of status lists that the last snapshot applied; before there is one, of that in force.
    """

    def __init__(self, pool: Pool, registry: Registry, lists: StatusLists) -> None:
        self._pool, self._registry, self._lists = pool, registry, lists
        self.status = lists.digest()

    def snapshot(self, request: Request) -> Snapshot:
        """The consents and rows for a question as they stand now."""
        with self._pool.lock, self._registry.lock:
            self.status = self._lists.digest()
            return self._pool.snapshot(request)
