"""The HTTP/1.1 connection of the server: uvicorn's, with limits that it lacks, of time, of headers, of each address."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADERS, MAX_HEADER_BYTES = 64, 32 * 1024
_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_BODY = (
    b'{"type":"/problems/headers-too-large","title":"The headers are too large","status":431,'
    b'"detail":"the request line and the headers have at most 32 KiB in 64 headers: send fewer"}'
)


class GuardedProtocol(HttpToolsProtocol):
    """A connection that a slow or hostile client cannot keep for long.

    Its request line and headers arrive whole within `header_seconds`, in at most 32 KiB; who reads an answer so slowly
    that nothing of it leaves for `write_seconds` is cut off; of one address at most `per_address` are open.
    """

    header_seconds, write_seconds, per_address = 10.0, 30.0, 1024
    _open: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._size = 0
        self._open[self._address] += 1
        if self._open[self._address] > self.per_address:
            transport.abort()
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open[self._address] -= 1
        if self._open[self._address] <= 0:
            del self._open[self._address]
        for timer in (self._timer, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._size += len(data)
        super().data_received(data)
        if self._timer is not None and self._size > MAX_HEADER_BYTES:
            self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refuse()

    def on_headers_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._size = 0
        if not self.transport.is_closing():
            super().on_headers_complete()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSED % (len(_BODY), _BODY))
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


def guarded(header_seconds: float, write_seconds: float, per_address: int) -> type[Any]:
    """A class of connections with these limits."""
    limits = {"header_seconds": header_seconds, "write_seconds": write_seconds, "per_address": per_address}
    return type("Guarded", (GuardedProtocol,), {**limits, "_open": Counter()})
