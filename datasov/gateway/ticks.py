"""Answers leave at ticks."""

from __future__ import annotations

import asyncio
import time


async def tick_over(began: float, tick: float) -> None:
    """Wait until 1, 2, 4, 8 ... ticks (in seconds; 0: not at all) have passed since then."""
    passed = time.monotonic() - began
    while 0 < tick < passed:
        tick *= 2
    if tick > 0:
        await asyncio.sleep(tick - passed)
