"""How questions are answered: each request under its idempotency key once, and at ticks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from datasov.city.serving import ReusedError, RunningError
from datasov.errors import CollectionError, InvalidDataError, InvalidQueryError, VerificationError
from datasov.gateway.operation import Call, Parameter
from datasov.gateway.problems import ProblemError, trace
from datasov.gateway.reading import texts
from datasov.gateway.ticks import tick_over
from datasov.model.document import digest

log = logging.getLogger("datasov.gateway")
Result = TypeVar("Result")
KEY = Parameter(
    "Idempotency-Key", "header", {"type": "string", "minLength": 1, "maxLength": 128},
    "a fresh random text for each new request: sent again with the same body it gives the same answer, for 30 days",
)  # fmt: skip
_LATER = 3600
"""Seconds after which, at the latest, to ask again for the release of a collection that is open."""


def once(
    call: Call, ask: Callable[[int | None], Result], name: Callable[[Result], str],
    find: Callable[[str], Result | None],
) -> Result:  # fmt: skip
    """The answer; with an idempotency key the one that the same request got before.

    Args:
        ask: for an answer, in this data epoch where None. name: its identifier. find: it, by that.
    """
    key = call.query.get("Idempotency-Key")
    if key is None:
        return ask(None)
    shared = call.shared
    named = digest([call.request.scope["path"], texts(call.document)])
    mine = ""
    try:
        with shared.retries.attempt(asker(call), key, named) as attempt:
            if attempt.answer is None:
                answer = _first(ask, shared.city.epoch, attempt.epoch)
                attempt.answer = mine = name(answer)
        if attempt.answer == mine:
            return answer
        stored = find(attempt.answer)
    except ReusedError:
        raise ProblemError(
            "idempotency-key-reused", "this Idempotency-Key came with another request: draw a new one"
        ) from None
    except RunningError as running:
        raise ProblemError(
            "conflict", "the request is being answered: send it again later", {"retry-after": str(min(running.wait, 5))}
        ) from None
    if stored is None:
        raise ProblemError("not-found", "the programme's days of retention are over for this release: ask anew")
    return stored


def asker(call: Call) -> str:
    """Whom rates and idempotency keys are of."""
    return "" if call.caller is None else call.caller.subject


def _first(ask: Callable[[int | None], Result], present: int, first: int) -> Result:
    """The answer of the epoch in which the request came first; of this one, where its process died without one."""
    if first < present:
        with suppress(InvalidQueryError):
            return ask(first)
    return ask(None)


async def on_ticks(call: Call, task: Callable[[], Result]) -> Result:
    """Answer or refuse after 1, 2, 4, 8 ... ticks: the time tells little of what was computed."""
    shared, who = call.shared, asker(call)
    shared.asking.enter(who)
    began = time.monotonic()
    try:
        return await shared.kernel.run(task)
    finally:
        shared.asking.leave(who)
        await tick_over(began, shared.limits.tick_ms / 1000)


@contextmanager
def of_devices(call: Call) -> Iterator[None]:
    """Refusals of what devices and aggregators have a part in, as problems: of theirs nothing is the asker's fault.

    Raises:
        ProblemError: 409 where no collection was opened, or it still runs; 503 where an aggregator is at fault.
    """
    try:
        yield
    except CollectionError as why:
        if not why.until:
            raise ProblemError("not-collected", str(why)) from None
        left = math.ceil(why.until - call.shared.clock())
        headers = {"retry-after": str(min(max(left, 1), _LATER))}
        raise ProblemError("collection-open", str(why), headers) from None
    except (VerificationError, InvalidDataError) as why:
        if call.shared.city.trust.aggregators:
            log.error("%s of an aggregator: %s", type(why).__name__, trace(why))
            raise ProblemError(
                "unavailable", "an aggregator does not answer as agreed: try again later; the operator sees why"
            ) from None
        raise
