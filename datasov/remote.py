"""A city's gateway from outside: its log, read by tiles; its tasks; letters and reports sent to it. It is not believed.

It needs httpx (extra `gateway`). Proxies that the environment names are used, so a relay can stand between.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from datasov.errors import InvalidDataError, MissingExtraError, PeerError
from datasov.tlog import tiles
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import MAX_NOTE, peek_checkpoint
from datasov.wire.exchange import Answer, Bounds, exchange, slow

if TYPE_CHECKING:
    import httpx

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer: a bundle of 256 leaves is the longest."""
MAX_LIST, MAX_TOLD = 64 * 1024 * 1024, 64 * 1024
"""Bytes of the list of open tasks, and of what is answered to a letter or a report."""
TIMEOUT, PATIENCE = 30.0, 120.0
"""Seconds for a connection to show life, and in all for an address that asks to be asked again later."""
LONGEST = 600.0
"""Seconds of one answer: a host that sends a byte now and then would otherwise hold up its reader for good."""


def is_address(text: str) -> bool:
    """Whether a text names an address and no file."""
    return text.startswith(("https://", "http://"))


class Remote:
    """An address under which a gateway, or any host of a log's tiles, answers. A context manager.

    Args:
        address: of a gateway, `https://city.example`, or of the folder of a mirror.
        client: an httpx.Client of your own, for instance with a proxy or a pinned certificate.
        sleep: waits so many seconds.
        within: seconds for all that is asked of it, from now on. most: bytes of all that it answers. Above either
            there is a PeerError, or an OSError from :meth:`read`.
        clock: seconds that only grow.
    """

    def __init__(
        self, address: str, *, client: httpx.Client | None = None, sleep: Callable[[float], None] = time.sleep,
        within: float = math.inf, most: float = math.inf, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """InvalidDataError: not an address. MissingExtraError: httpx is missing."""
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("reading a city over HTTP needs httpx: pip install 'datasov[gateway]'") from None
        if not is_address(address) or not httpx.URL(address).host:
            raise InvalidDataError("an address begins with https:// and names a host, like https://city.example")
        self._address, self._sleep = address.rstrip("/"), sleep
        self._client = client or httpx.Client(timeout=min(TIMEOUT, within), follow_redirects=False)
        self._clock, self._end, self._left = clock, clock() + within, most

    def read(self, path: str) -> bytes:
        """The bytes at a path under the address; an OSError where there are none: what `TileLog` takes.

        429 and 503 are asked again, when the answer says.
        """
        try:
            return self._asked("GET", f"{self._address}/{path}")
        except PeerError as why:
            raise OSError(str(why)) from None

    def note(self) -> bytes:
        """The note of the log's checkpoint, unverified; PeerError where it cannot be read."""
        data = self._asked("GET", f"{self._address}/{tiles.CHECKPOINT}")
        if len(data) > MAX_NOTE:
            raise PeerError(f"{self._address} has no log's checkpoint: check the address")
        return data

    def log(self, public: bytes) -> TileLog:
        """The log at the address, to be verified under a key (32 bytes) that the reader has from elsewhere."""
        return TileLog(self.read, public, origin=peek_checkpoint(self.note()).origin)

    def send(self, letter: bytes) -> None:
        """Send a letter to a gateway, whose address this is. What became of it, its log tells: `resident.sent`.

        Raises:
            PeerError: it did not take it; sending the same letter again does no harm.
        """
        self._asked("POST", f"{self._address}/v1/letters", letter, MAX_TOLD)

    def tasks(self) -> bytes:
        """The open tasks as a gateway, whose address this is, lists them: for `resident.tasks`, which checks them."""
        return self._asked("GET", f"{self._address}/v1/tasks", most=MAX_LIST)

    def report(self, report: bytes) -> None:
        """Send a noised report (local trust) to a gateway, whose address this is.

        Raises:
            PeerError: it did not take it; sending the same report again does no harm.
        """
        self._asked("POST", f"{self._address}/v1/reports", report, MAX_TOLD)

    def tokens(self, path: str, body: bytes) -> bytes:
        """Ask a gateway, whose address this is, for enrolment tokens of its city: `post=with_city(remote.tokens)`.

        Args:
            path: "tokens".
        """
        return self._asked("POST", f"{self._address}/v1/{path}", body, MAX_TOLD)

    def city(self) -> dict[str, object]:
        """What a gateway says of its city. Take the city's id from elsewhere, or compare it: this proves nothing."""
        try:
            found = json.loads(self._asked("GET", f"{self._address}/v1/city"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise PeerError(f"{self._address} is no gateway of a city: check the address")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, method: str, address: str, body: bytes | None = None, most: float = math.inf) -> bytes:
        waited = 0.0
        while True:
            found = self._once(method, address, body, most)
            if found.status in (200, 202):
                return found.data
            if found.status not in (429, 503) or waited >= PATIENCE:
                raise PeerError(f"{address} answered {found.status}: check the address, or try again later")
            pause = min(max(found.later, 0.5), 30.0)
            if self._clock() + pause > self._end:
                raise slow(address)
            waited += pause
            self._sleep(pause)

    def _once(self, method: str, address: str, body: bytes | None, most: float) -> Answer:
        """One exchange, within what is left of the time and the bytes."""
        end = min(self._end, self._clock() + LONGEST)
        bounds = Bounds(end, min(self._left, MAX_ANSWER, most), self._clock)
        found = exchange(self._client, method, address, bounds, name=address, body=body)
        self._left -= len(found.data)
        return found
