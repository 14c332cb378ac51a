"""One exchange over HTTP with a host that may be hostile: of bounded size and time, whatever it does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
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
        encoded: take an answer that is compressed, too.
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

    headers: Mapping[str, str] = {} if body is None else {"content-type": "application/octet-stream"}
    if not bounds.encoded:
        headers = {**headers, "accept-encoding": "identity"}
    parts, size = list[bytes](), 0
    try:
        with client.stream(method, address, content=body, headers=headers) as answer:
            if not bounds.encoded and answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise PeerError(f"{name} compresses its answer, which was not asked for: check its address")
            for part in answer.iter_bytes() if bounds.encoded else answer.iter_raw():
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


def slow(name: str) -> PeerError:
    """The error where a time is over."""
    return PeerError(f"{name} takes too long to answer: try again later, or read it from another place")
