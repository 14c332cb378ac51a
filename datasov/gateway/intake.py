"""Reports that come within a tick are kept together, in one transaction, and answered together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from datasov.errors import DatasovError, DeniedError
from datasov.gateway.problems import ProblemError, trace
from datasov.gateway.ticks import tick_over

log = logging.getLogger("datasov.gateway")
MOST = 4096
"""Reports that wait together."""


class Intake:
    """Noised reports on their way to the city. Used from the event loop alone.

    They are kept in the order of their bytes, so that their arrival has none that lasts. The answers of a tick leave
    together: the time tells of none whether it was new.

    Args:
        keep: keeps reports, and says of each None or why not; it is called in a thread of its own.
        tick: seconds.
    """

    def __init__(self, keep: Callable[[list[bytes]], list[DatasovError | None]], tick: float) -> None:
        self._keep, self._tick = keep, tick
        self._waiting = list[tuple[bytes, asyncio.Future[BaseException | None]]]()
        self._worker: asyncio.Task[None] | None = None

    async def put(self, report: bytes) -> None:
        """Keep a report, durably, unless it is one too many: of its vault, its person, or all.

        Raises:
            DatasovError: it is none of an open task, or the store refuses: nothing else is told of it.
            ProblemError: too many wait.
        """
        if len(self._waiting) >= MOST:
            raise ProblemError("too-many-requests", "too many reports at once: try again", {"retry-after": "2"})
        mine: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, mine))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        refused = await asyncio.shield(mine)
        if refused is not None and not isinstance(refused, DeniedError):
            raise refused.with_traceback(None)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._tick)
            began, batch = time.monotonic(), sorted(self._waiting, key=lambda pair: pair[0])
            self._waiting = []
            outcomes = await asyncio.to_thread(self._kept, [report for report, _ in batch])
            await tick_over(began, self._tick)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)

    def _kept(self, reports: list[bytes]) -> Sequence[BaseException | None]:
        """For each, None or why not. A report that makes the library fail is refused alone, and harms no other."""
        try:
            return self._keep(reports)
        except DatasovError as why:
            log.error("%s of reports: %s", type(why).__name__, trace(why))
            return [why] * len(reports)
        except BaseException as fault:  # a panic in Rust is no Exception
            if isinstance(fault, KeyboardInterrupt | SystemExit):
                raise
            if len(reports) > 1:
                return [outcome for report in reports for outcome in self._kept([report])]
            log.error("%s of a report: %s", type(fault).__name__, trace(fault))
            return [fault]
