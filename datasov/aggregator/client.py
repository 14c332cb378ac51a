"""Reaching an aggregator over HTTP: what it refused is raised here as the same error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from datasov import errors
from datasov.aggregator.messages import MOST_BODY
from datasov.errors import DatasovError, MissingExtraError, PeerError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId

TIMEOUT = 600.0
"""Seconds: the end of a task with many reports takes a while."""
KINDS: Mapping[str, type[DatasovError]] = {
    name: getattr(errors, name)
    for name in (
        "InvalidQueryError", "InvalidDataError", "ConsentError", "BudgetExceededError", "VerificationError",
        "SignatureError", "DecryptionError", "PeerError",
    )
}  # fmt: skip
"""Refusals that keep their kind on the way; all else is a PeerError."""


def over_http(to: AggregatorId | CityId, path: str, body: bytes) -> bytes:
    """POST a body to a path of an aggregator; its answer.

    Raises:
        DatasovError: what the aggregator answered.
        PeerError: it cannot be reached; or it is a city, whose id holds no address.
        MissingExtraError: httpx is not installed.
    """
    if isinstance(to, CityId):
        raise PeerError(f"{to.name} issues tokens itself, and its id holds no address: hand in `post` with_city(...)")
    httpx = _httpx()
    try:
        with _client().stream(
            "POST", f"{to.url}/{path}", content=body, timeout=TIMEOUT,
            headers={"content-type": "application/octet-stream"},
        ) as answer:  # fmt: skip
            found = bytearray()
            for piece in answer.iter_bytes():
                found += piece
                if len(found) > MOST_BODY:
                    raise PeerError(f"{to.name} answers without an end: do not rely on it")
    except httpx.HTTPError:
        raise PeerError(f"{to.name} cannot be reached: try again later") from None
    if answer.status_code == 200:
        return bytes(found)
    raise refusal(to, bytes(found))


def with_city(
    send: Callable[[str, bytes], bytes], servers: Callable[[AggregatorId, str, bytes], bytes] = over_http
) -> Callable[[AggregatorId | CityId, str, bytes], bytes]:
    """A way to aggregators and to a city, for `resident.answer(task, post=...)`.

    Args:
        send: posts a body to a path of the city ("tokens"), and gives what `City.tokens` answered. That the answer is
            the city's, its proof says, whoever brings it.
        servers: posts to aggregators.
    """
    return lambda to, path, body: send(path, body) if isinstance(to, CityId) else servers(to, path, body)


def refusal(to: AggregatorId, content: bytes) -> DatasovError:
    """The error of an answer that tells of one."""
    try:
        told = json.loads(content)
        kind, text = KINDS[told["error"]], str(told["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return PeerError(f"{to.name} did not answer as agreed: check its address and version")
    return kind(f"{to.name}: {text}")


@lru_cache(maxsize=1)
def _client() -> Any:
    """One client for all threads: it keeps connections open, and reads the authorities' certificates once."""
    return _httpx().Client()


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise MissingExtraError("aggregators are reached over HTTP: pip install 'datasov[two-server]'") from None
    return httpx
