"""The HTTP/1.1 connection of the server: uvicorn's, with the limits of time, size and number that it lacks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from datasov.gateway.limits import network

MAX_HEADERS, MAX_HEADER_BYTES = 64, 32 * 1024


def _refusal(line: str, name: str, title: str, detail: str, more: str = "") -> bytes:
    status = int(line[:3])
    body = f'{{"type":"/problems/{name}","title":"{title}","status":{status},"detail":"{detail}"}}'
    return (
        f"HTTP/1.1 {line}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n{more}"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


_TOO_LARGE = _refusal(
    "431 Request Header Fields Too Large", "headers-too-large", "The headers are too large",
    "the request line and the headers have at most 32 KiB in 64 headers: send fewer",
)  # fmt: skip
_TOO_MANY = _refusal(
    "429 Too Many Requests", "too-many-requests", "Too many requests",
    "too many connections are open: close some, and wait", "retry-after: 1\r\n",
)  # fmt: skip


class GuardedProtocol(HttpToolsProtocol):
    """A connection that a slow or hostile client cannot keep for long.

    A request line and its headers arrive whole within `header_seconds`, in at most 32 KiB and 64 headers, and so does
    what is left of a body that was refused. Who reads so slowly that an answer does not leave for `write_seconds` is
    cut off. At most `most` connections are open, of which at most `per_address` are of one address.
    """

    header_seconds: ClassVar[float] = 10.0
    write_seconds: ClassVar[float] = 30.0
    most: ClassVar[int] = 2048
    per_address: ClassVar[int] = 1024
    _open: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = network(self.client[0]) if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._size = self._told = 0
        self._open[self._address] += 1
        if self._open[self._address] > self.per_address or len(self.connections) > self.most:
            self._refuse(_TOO_MANY)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open[self._address] -= 1
        if self._open[self._address] <= 0:
            del self._open[self._address]
        self._arrived()
        self._written()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """From now on the client has `header_seconds` to send what is waited for."""
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _arrived(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._size = 0

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._timer is not None:
            self._size += len(data)
        super().data_received(data)
        if self._timer is not None and self._size > MAX_HEADER_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._idle and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._told = 0
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._told += len(name) + len(value) + 4
        if len(self.headers) > MAX_HEADERS or self._told + len(self.url) > MAX_HEADER_BYTES:
            self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._arrived()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is None:
            return
        super().on_message_complete()
        self.cycle.more_body = False
        if self._idle:
            self._arrived()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        unread = not self.pipeline and self.cycle is not None and self.cycle.more_body
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._wait()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._written()

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
