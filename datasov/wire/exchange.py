"""One exchange over HTTP with a host that may be hostile: of bounded size and time, whatever it does."""

from __future__ import annotations

import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasov.errors import PeerError

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one exchange.

    Attributes:
        end: by `clock`, when it has to be over. most: bytes of the answer.
        encoded: take an answer that is compressed by gzip, too; `most` holds for what it unpacks to.
    """

    end: float
    most: float
    clock: Callable[[], float] = time.monotonic
    encoded: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the bytes, and the seconds of Retry-After (0 where there are none)."""

    status: int
    data: bytes
    later: float


def exchange(
    client: httpx.Client, method: str, address: str, bounds: Bounds, *, name: str, body: bytes | None = None
) -> Answer:  # fmt: skip
    """Send a request, and read its answer.

    It is done in a thread of its own, which is left behind where its time is over: no limit of httpx ends a host that
    sends its headers byte by byte, or a name that does not resolve.

    Args:
        name: what a refusal calls the host. body: sent as octets.

    Raises:
        PeerError: it cannot be reached, or goes beyond a bound.
    """
    answer = queue.SimpleQueue[Answer | BaseException]()

    def work() -> None:
        try:
            answer.put(_exchanged(client, method, address, bounds, name, body))
        except BaseException as fault:
            answer.put(fault)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = answer.get(timeout=max(bounds.end - bounds.clock(), 0.0))
    except queue.Empty:
        raise slow(name) from None
    if isinstance(found, BaseException):
        raise found
    return found


def _exchanged(
    client: httpx.Client, method: str, address: str, bounds: Bounds, name: str, body: bytes | None
) -> Answer:  # fmt: skip
    import httpx

    headers = {"accept-encoding": "gzip" if bounds.encoded else "identity"}
    if body is not None:
        headers["content-type"] = "application/octet-stream"
    parts, size = list[bytes](), 0
    try:
        with client.stream(method, address, content=body, headers=headers) as answer:
            coding = answer.headers.get("content-encoding", "identity").strip().lower()
            # A transport of the caller's own may give an answer that is in memory already.
            ready = answer.is_stream_consumed
            data = answer.iter_bytes() if ready else answer.iter_raw()
            if coding != "identity":
                if not bounds.encoded or coding != "gzip":
                    raise PeerError(f"{name} compresses its answer, which was not asked for: check its address")
                if not ready:
                    data = _unpacked(data, bounds, name)
            for part in data:
                size += len(part)
                if size > bounds.most:
                    raise PeerError(f"{name} answers without an end: read it from another place")
                if bounds.clock() > bounds.end:
                    raise slow(name)
                parts.append(part)
            later = answer.headers.get("retry-after", "")
            wait = float(later) if later.isascii() and later.isdigit() else 0.0
            return Answer(answer.status_code, b"".join(parts), wait)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise PeerError(f"{name} cannot be reached ({type(fault).__name__}): check the network, try again") from None


def _unpacked(data: Iterable[bytes], bounds: Bounds, name: str) -> Iterator[bytes]:
    """What gzip packed, never more at once than one byte above the bound: httpx would unpack all of a part, twice over
    where it is packed twice."""
    unpacker, size = zlib.decompressobj(wbits=31), 0
    try:
        for packed in data:
            size += len(part := unpacker.decompress(packed, max(int(bounds.most) - size, 0) + 1))
            if unpacker.unused_data:
                raise PeerError(f"{name} sends more than its answer: check its address")
            yield part
    except zlib.error:
        raise PeerError(f"{name} sends what does not unpack: try again, or read it from another place") from None
    if not unpacker.eof:
        raise PeerError(f"{name} broke off its answer: try again, or read it from another place")


def slow(name: str) -> PeerError:
    """The error where a time is over."""
    return PeerError(f"{name} takes too long to answer: try again later, or read it from another place")
