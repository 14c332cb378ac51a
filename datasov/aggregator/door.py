"""What an aggregator's process takes in at once, so that strangers, who may send what they like, exhaust nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from datasov.aggregator.aggregator import LONGEST
from datasov.aggregator.messages import MOST_BODY

SMALL = 1 << 16
"""Bytes of a body that count for nothing, so that short requests come in beside long ones."""
ROOM: Mapping[str, int] = {"reports": 2 * MOST_BODY, "jobs": 2 * MOST_BODY}
"""Bytes of bodies in memory at once, by path; all other paths have `MOST_BODY` together.

Uploads, which anybody may send, cannot take the place of the other aggregator's batches.
"""
COLLECTING = 4
"""Requests to collect at once: each may keep a thread for as long as the last batches take."""
SECONDS = 120.0
"""Within which a body has to arrive."""
CONNECTIONS = 1024
"""Open at once; a quarter of them of one address."""


class Full(Exception):
    """A request that is not taken now. `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Body:
    """The bytes of one request's body, which stay counted until it is answered."""

    def __init__(self, door: Door, path: str) -> None:
        self._door, self._path, self.data = door, path, bytearray()

    def add(self, piece: bytes) -> None:
        """Keep some more bytes.

        Raises:
            Full: it is longer than any request to its path, or too much of others is in memory.
        """
        long = len(self.data) + len(piece)
        if long > longest(self._path):
            raise Full(413, "the request is too long for its path: send less at once")
        self._door.count(self._path, max(0, long - SMALL) - max(0, len(self.data) - SMALL))
        self.data += piece


class Door:
    """Counts bytes and requests. It is used by one thread, that of the event loop."""

    def __init__(self, room: Mapping[str, int] = ROOM, others: int = MOST_BODY, collecting: int = COLLECTING) -> None:
        self._left, self._turns = {"": others, **room}, collecting

    @contextmanager
    def request(self, path: str) -> Iterator[Body]:
        """A request's body, to be filled and answered within.

        Raises:
            Full: too many of its kind are under way.
        """
        collect = path == "collect"
        if collect and not self._turns:
            raise Full(503, "others collect: ask again in a while")
        self._turns -= collect
        body = Body(self, path)
        try:
            yield body
        finally:
            self._turns += collect
            self.count(path, -max(0, len(body.data) - SMALL))

    def count(self, path: str, more: int) -> None:
        """Take so many bytes of the path's room; give them back where negative. Full where there is none."""
        kind = path if path in self._left else ""
        if more > self._left[kind]:
            raise Full(503, "too much is under way: send it again in a while")
        self._left[kind] -= more


def longest(path: str) -> int:
    """Bytes in a request to a path."""
    return LONGEST.get(path, MOST_BODY if path in ROOM else SMALL)
