"""Reaching an aggregator over HTTP: what it refused is raised here as the same error.

Nothing that it does exhausts who asks: an answer has a size and a time, and is not taken compressed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from datasov import errors
from datasov.aggregator.messages import MOST_BODY
from datasov.errors import DatasovError, MissingExtraError, PeerError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId
from datasov.wire.exchange import Bounds, exchange

KINDS: Mapping[str, type[DatasovError]] = {
    name: getattr(errors, name)
    for name in (
        "InvalidQueryError", "InvalidDataError", "ConsentError", "BudgetExceededError", "VerificationError",
        "SignatureError", "DecryptionError", "PeerError",
    )
}  # fmt: skip
"""Refusals that keep their kind on the way; all else is a PeerError."""
SHORT, LONG = (128 * 1024, 120.0), (2 * MOST_BODY + 1024 * 1024, 900.0)
"""Bytes and seconds of an answer: of what devices ask, and of what is computed over many reports."""
LIMITS: Mapping[str, tuple[int, float]] = {"jobs": LONG, "close": LONG, "collect": LONG}
"""By path; all else is short."""


def over_http(to: AggregatorId | CityId, path: str, body: bytes) -> bytes:
    """POST a body to a path of an aggregator; its answer.

    Raises:
        DatasovError: what the aggregator answered.
        PeerError: it cannot be reached, takes too long, or answers more than anybody asked for: :data:`LIMITS`; or it
            is a city, whose id holds no address.
        MissingExtraError: httpx is not installed.
    """
    if isinstance(to, CityId):
        raise PeerError(f"{to.name} issues tokens itself, and its id holds no address: hand in `post` with_city(...)")
    most, seconds = LIMITS.get(path, SHORT)
    bounds = Bounds(time.monotonic() + seconds, most, encoded=False)
    answer = exchange(_client(to.url, seconds), "POST", f"{to.url}/{path}", bounds, name=to.name, body=body)
    if answer.status == 200:
        return answer.data
    raise refusal(to, answer.data)


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
    except (ValueError, KeyError, TypeError, RecursionError):
        kind, text = PeerError, "\0"
    if not text.isprintable():
        return PeerError(f"{to.name} did not answer as agreed: check its address and version")
    return kind(f"{to.name}: {text}")


@lru_cache(maxsize=32)
def _client(url: str, seconds: float) -> Any:  # noqa: ARG001 - a client for each, so that one holds up no other
    """One client of a host for all threads: it keeps connections open, and reads the certificates once."""
    try:
        import httpx
    except ImportError:
        raise MissingExtraError("aggregators are reached over HTTP: pip install 'datasov[two-server]'") from None
    return httpx.Client(timeout=seconds, follow_redirects=False)
