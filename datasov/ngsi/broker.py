"""A broker, by HTTP: batches of entities to NGSIv2 or NGSI-LD, sent again where a network or a server failed.

A batch is an upsert of whole entities, so that sending it twice leaves what sending it once leaves. Nothing is computed
anew for a retry: the same bytes go out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from datasov.errors import InvalidQueryError, MissingExtraError, PeerError
from datasov.ngsi.entity import Entity, linked, normalized

if TYPE_CHECKING:
    import httpx

Dialect: TypeAlias = Literal["ngsiv2", "ngsi-ld"]

UPDATE = "/v2/op/update?options=overrideMetadata"
"""Of NGSIv2: without the option, a value keeps the metadata of the one before it that the new one lacks."""
ACTION = "append"
"""Of NGSIv2: makes an entity or updates it. A plain creation is refused where the entity exists (422)."""
UPSERT = "/ngsi-ld/v1/entityOperations/upsert?options=replace"
"""Of NGSI-LD: makes an entity or replaces all of it."""

MAX_BYTES = 900_000
"""In the body of a request: Orion takes 1 MB."""
MAX_ANSWER = 64 * 1024
MAX_WAIT = 60.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_SERVICE, _PATH = re.compile(r"[a-z0-9_]{1,50}", re.ASCII), re.compile(r"(/[A-Za-z0-9_]{1,50}){1,10}|/", re.ASCII)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and how it is spoken to.

    Attributes:
        url: up to the API's path: "http://orion:1026".
        service: tenant: Fiware-Service, or NGSILD-Tenant. path: Fiware-ServicePath, of NGSIv2 alone.
        token: of a bearer; "" sends none.
        timeout: seconds for a connection, and for an answer. retries: after the first attempt.
        pause: seconds before the first retry; it doubles, up to a minute. An answer's Retry-After is heeded up to that.
        batch: entities in a request, at most.
    """

    url: str
    dialect: Dialect = "ngsiv2"
    service: str = ""
    path: str = "/"
    token: str = field(default="", repr=False)
    timeout: float = 10.0
    retries: int = 4
    pause: float = 0.5
    batch: int = 100
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            odd = parts.port == 0
        except ValueError:
            raise InvalidQueryError("a broker's URL is like http://orion:1026, up to the path of its API") from None
        if odd or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidQueryError("a broker's URL is like http://orion:1026, up to the path of its API")
        if parts.username is not None or parts.password is not None:
            raise InvalidQueryError("leave user and password out of the broker's URL: give a token")
        if self.dialect not in ("ngsiv2", "ngsi-ld"):
            raise InvalidQueryError("a broker speaks 'ngsiv2' or 'ngsi-ld'")
        if self.service and not _SERVICE.fullmatch(self.service):
            raise InvalidQueryError("a Fiware-Service is at most 50 small letters, digits and underscores")
        if not _PATH.fullmatch(self.path):
            raise InvalidQueryError("a Fiware-ServicePath begins with / and has at most 10 parts of letters and digits")
        if self.batch < 1 or self.retries < 0 or self.timeout <= 0:
            raise InvalidQueryError("batch is 1 or more, retries 0 or more, and timeout above 0")
        if not self.token.isascii() or any(c.isspace() for c in self.token):
            raise InvalidQueryError("a bearer's token is ASCII without spaces: check the file that holds it")

    @property
    def name(self) -> str:
        """16 bytes of SHA-256, hexadecimal, of where it is: what an outbox knows it by. A token is not in it."""
        where = [self.url.rstrip("/"), self.dialect, self.service, self.path if self.dialect == "ngsiv2" else ""]
        return hashlib.sha256(json.dumps(where).encode()).hexdigest()[:32]

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        kind = "application/json" if self.dialect == "ngsiv2" else "application/ld+json"
        found = {"Content-Type": kind, "Accept": "application/json"}
        if self.dialect == "ngsiv2":
            found |= {"Fiware-ServicePath": self.path} | ({"Fiware-Service": self.service} if self.service else {})
        elif self.service:
            found["NGSILD-Tenant"] = self.service
        return found | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def requests(self, entities: Sequence[Entity]) -> Iterator[tuple[str, bytes]]:
        """The path and the body of each request that delivers these entities."""
        form = normalized if self.dialect == "ngsiv2" else linked
        path = UPDATE if self.dialect == "ngsiv2" else UPSERT
        for part in _parted([_bytes(form(e)) for e in entities], self.batch):
            joined = b"[" + b",".join(part) + b"]"
            body = b'{"actionType":"%s","entities":%s}' % (ACTION.encode(), joined)
            yield path, body if self.dialect == "ngsiv2" else joined

    def deliver(self, entities: Sequence[Entity], sender: httpx.Client | None = None) -> int:
        """Send entities; the number of requests that it took.

        Args:
            sender: of :func:`client`, where several deliveries share one.

        Raises:
            PeerError: the broker refused, or did not answer however often it was asked. What was delivered before stays
                there; delivering again is harmless.
            MissingExtraError: httpx is not installed.
        """
        with contextlib.ExitStack() as kept:
            own, count = sender or kept.enter_context(client(self)), 0
            for path, body in self.requests(entities):
                self._send(own, path, body)
                count += 1
            return count

    def _hidden(self, text: bytes) -> bytes:
        """An answer without the token: a broker, or what stands before it, may say again what it was sent."""
        return text.replace(self.token.encode(), b"...") if self.token else text

    def _send(self, sender: httpx.Client, path: str, body: bytes) -> None:
        pause, reason = self.pause, ""
        for attempt in range(self.retries + 1):
            if attempt:
                self.sleep(min(pause, MAX_WAIT) * random.uniform(0.75, 1.25))  # noqa: S311
                pause *= 2
            status, headers, text = exchange(sender, "POST", path, body)
            if status in (200, 201, 204):
                return
            reason = _reason(status, self._hidden(text))
            if status and status not in _AGAIN:
                raise PeerError(f"the broker refuses the entities: {reason}")
            pause = max(pause, _retry_after(headers))
        raise Unreachable(f"the broker did not take the entities, asked {self.retries + 1} times: {reason}; try later")


class Unreachable(PeerError):
    """No answer, or one that says to come again: the next release would fare no better now."""


def client(broker: Broker) -> httpx.Client:
    """A client for a broker: no redirects, and no proxy that it was not told of. Certificates are read for https alone.

    Raises:
        MissingExtraError: httpx is not installed.
    """
    try:
        import httpx
    except ModuleNotFoundError:
        raise MissingExtraError(
            "talking to a broker needs httpx, which is not installed: pip install 'datasov[gateway]'"
        ) from None
    return httpx.Client(
        base_url=broker.url, headers=broker.headers(), timeout=broker.timeout, follow_redirects=False, trust_env=False,
        verify=broker.url.lower().startswith("https:"),
    )  # fmt: skip


def exchange(sender: httpx.Client, method: str, path: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
    """One request: status, headers and at most 64 KiB of the answer. A status of 0 is none: then the text says why."""
    import httpx

    try:
        with sender.stream(method, path, content=body) as answer:
            data, end = b"", time.monotonic() + MAX_WAIT
            for part in answer.iter_bytes():
                data += part
                if len(data) > MAX_ANSWER or time.monotonic() > end:
                    break
            return answer.status_code, answer.headers, data[:MAX_ANSWER]
    except httpx.HTTPError as fault:
        return 0, {}, type(fault).__name__.encode()


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _parted(bodies: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for body in bodies:
        if part and (len(part) == most or size + len(body) + 1 > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body) + 1
    if part:
        yield part


def _reason(status: int, text: bytes) -> str:
    """What an answer says, as one printable line."""
    if status == 0:
        return f"no answer ({text.decode(errors='replace')})"
    if status == 207:
        try:
            failed = len(json.loads(text)["errors"])
            return f"status 207, {failed} entities failed: {_line(text)}"
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    return f"status {status}" + (f", {_line(text)}" if text else "")


def _line(text: bytes) -> str:
    shown = text[:300].decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in shown)


def _retry_after(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", headers.get("retry-after", ""))
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
