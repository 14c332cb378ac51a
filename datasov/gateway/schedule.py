"""What the gateway does when a tick begins: letters are taken up, batches go to the log, receipts are bundled.

It follows the clock alone. That it happens, and how long it takes, is no answer to anybody.
"""

from __future__ import annotations

import asyncio
import logging

from datasov.gateway.problems import trace
from datasov.gateway.receipts import bundle
from datasov.gateway.shared import Shared

_LOG = logging.getLogger("datasov.gateway")
_LONGEST = 60.0
"""Seconds of one sleep, so that a clock that is set is noticed."""


def turn(shared: Shared) -> None:
    """Do it now: for the ticks that are over."""
    found = shared.city.take_up()
    if found.kept:
        _LOG.warning("%d letters could not be taken up, and wait for the next tick", found.kept)
    shared.city.tick()
    bundle(shared.city, shared.clock())


async def follow(shared: Shared) -> None:
    """Do it at once, and whenever a tick begins, until cancelled: then what runs is waited for.

    A fault is logged, and tried again within a minute.
    """
    tick, done = shared.city.periods.tick, -1
    while True:
        present = int(shared.clock()) // tick
        if present != done:
            work = asyncio.ensure_future(asyncio.to_thread(turn, shared))
            try:
                await asyncio.shield(work)
                done = present
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise
            except BaseException as fault:  # a panic in Rust is no Exception, and must not end the schedule
                if isinstance(fault, KeyboardInterrupt | SystemExit):
                    raise
                _LOG.error("%s of the city's tick: %s", type(fault).__name__, trace(fault))
        left = (present + 1) * tick - shared.clock()
        await asyncio.sleep(_LONGEST if present != done else min(max(left, 0.05), _LONGEST))
