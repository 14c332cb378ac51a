"""A city's gateway from outside: its log, read by tiles, and letters sent to it. Nothing that it answers is believed.

It needs httpx (extra `gateway`). Proxies that the environment names are used, so a relay can stand between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from datasov.errors import InvalidDataError, MissingExtraError, PeerError
from datasov.tlog import tiles
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import MAX_NOTE, peek_checkpoint

if TYPE_CHECKING:
    import httpx

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer: a bundle of 256 leaves is the longest."""
TIMEOUT, PATIENCE = 30.0, 120.0
"""Seconds for a connection to show life, and in all for an address that asks to be asked again later."""


def is_address(text: str) -> bool:
    """Whether a text names an address and no file."""
    return text.startswith(("https://", "http://"))


class Remote:
    """An address under which a gateway, or any host of a log's tiles, answers. A context manager.

    Args:
        address: of a gateway, `https://city.example`, or of the folder of a mirror.
        client: an httpx.Client of your own, for instance with a proxy or a pinned certificate.
        sleep: waits so many seconds.
    """

    def __init__(
        self, address: str, *, client: httpx.Client | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """InvalidDataError: not an address. MissingExtraError: httpx is missing."""
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("reading a city over HTTP needs httpx: pip install 'datasov[gateway]'") from None
        if not is_address(address) or not httpx.URL(address).host:
            raise InvalidDataError("an address begins with https:// and names a host, like https://city.example")
        self._address, self._sleep = address.rstrip("/"), sleep
        self._client = client or httpx.Client(timeout=TIMEOUT, follow_redirects=False)

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
        self._asked("POST", f"{self._address}/v1/letters", letter)

    def city(self) -> dict[str, object]:
        """What a gateway says of its city. Take the city's id from elsewhere, or compare it: this proves nothing."""
        try:
            found = json.loads(self._asked("GET", f"{self._address}/v1/city"))
        except ValueError:
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

    def _asked(self, method: str, address: str, body: bytes | None = None) -> bytes:
        waited = 0.0
        while True:
            status, data, later = self._once(method, address, body)
            if status in (200, 202):
                return data
            if status not in (429, 503) or waited >= PATIENCE:
                raise PeerError(f"{address} answered {status}: check the address, or try again later")
            pause = min(max(later, 0.5), 30.0)
            waited += pause
            self._sleep(pause)

    def _once(self, method: str, address: str, body: bytes | None) -> tuple[int, bytes, float]:
        import httpx

        headers = {} if body is None else {"content-type": "application/octet-stream"}
        parts, size = list[bytes](), 0
        try:
            with self._client.stream(method, address, content=body, headers=headers) as answer:
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > MAX_ANSWER:
                        raise PeerError(f"{address} answers without an end: read it from another place")
                    parts.append(part)
                later = answer.headers.get("retry-after", "")
                return answer.status_code, b"".join(parts), float(later) if later.isdigit() else 0.0
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise PeerError(
                f"{address} cannot be reached ({type(fault).__name__}): check the network, try again"
            ) from None
