"""What the gateway's handlers share: the city, the tables that may be asked about, the clock, limits and threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from datasov.city import City
from datasov.city.collections import Collections
from datasov.city.serving import Retries, Shelf
from datasov.errors import DatasovError
from datasov.gateway.intake import Intake
from datasov.gateway.limits import Busy
from datasov.gateway.problems import ProblemError
from datasov.gateway.rendered import Cache, Rendered, catalogue
from datasov.model.schema import Schema

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one gateway process takes at once, and of one client.

    Attributes:
        kernel_threads, kernel_waiting: questions that are computed at once, and those that may wait for it.
        quick_threads, quick_waiting: the same of everything else that touches the store.
        client_rate, client_burst: requests a second of one client (a token's subject; an address where there is no
            token), and how many it may save up. all_rate, all_burst: the same of all together.
        clients: how many of them are remembered; whoever is remembered the longest without asking is forgotten.
        connections: open at once. connections_each: of one address.
        header_seconds, body_seconds: within which a request has to arrive. write_seconds: for which an answer may wait
            for a client that does not read.
        kernel_each: of the questions that are computed or wait, so many may be of one client.
        tick_ms: answers to questions leave after 1, 2, 4, 8 ... times so many milliseconds.
        bodies, bodies_each: bytes of request bodies that are in memory at once, of all clients and of one address, the
            first 64 KiB of each body aside.
        cells: rows that an answer may have, over all steps of a series.
    """

    kernel_threads: int = 2
    kernel_waiting: int = 16
    kernel_each: int = 4
    quick_threads: int = 4
    quick_waiting: int = 256
    client_rate: float = 20.0
    client_burst: int = 40
    all_rate: float = 10_000.0
    all_burst: int = 20_000
    clients: int = 20_000
    connections: int = 2_048
    connections_each: int = 1_024
    header_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    tick_ms: int = 1_000
    bodies: int = 256 * 1024**2
    bodies_each: int = 128 * 1024**2
    cells: int = 100_000


class Threads:
    """A bounded pool of threads with a bounded queue: who comes when it is full is refused at once."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free, self._lock = threads + waiting, threading.Lock()

    async def run(self, task: Callable[[], Result]) -> Result:
        """The task's result, from one of the threads.

        Raises:
            ProblemError: 429, the queue is full.
        """
        with self._lock:
            if self._free == 0:
                raise ProblemError(
                    "too-many-requests", "the gateway is busy: try again in a second", {"retry-after": "1"}
                )
            self._free -= 1
        future = self._executor.submit(task)
        future.add_done_callback(lambda _: self._done())
        return await asyncio.shield(asyncio.wrap_future(future))

    def _done(self) -> None:
        with self._lock:
            self._free += 1

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._executor.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Shared:
    """One for each application.

    Attributes:
        tables: by name, those that the operator lets be asked about.
        clock: Unix seconds.
        quick, kernel: threads for what is short, and for what computes over the pooled rows.
        asking: how many questions of each client are computed or wait.
        shelf, retries: the city's stored answers, and its idempotency keys.
        collections, intake: its questions to devices, and what devices noised on its way to it.
        cache, catalogue: what is rendered already.
    """

    city: City
    tables: Mapping[str, Schema]
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    quick: Threads = field(init=False)
    kernel: Threads = field(init=False)
    asking: Busy = field(init=False)
    shelf: Shelf = field(init=False)
    collections: Collections = field(init=False)
    intake: Intake = field(init=False)
    retries: Retries = field(init=False)
    cache: Cache = field(init=False)
    catalogue: Mapping[str, Rendered] = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        for name, value in (
            ("quick", Threads("quick", limits.quick_threads, limits.quick_waiting)),
            ("kernel", Threads("kernel", limits.kernel_threads, limits.kernel_waiting)),
            ("asking", Busy(limits.kernel_each)), ("shelf", Shelf(self.city)),
            ("collections", Collections(self.city)), ("intake", Intake(self._keep, limits.tick_ms / 1000)),
            ("retries", Retries(self.city)),
            ("cache", Cache()), ("catalogue", catalogue(self.city, self.tables)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def _keep(self, reports: list[bytes]) -> list[DatasovError | None]:
        self.city.check_room()
        return self.city.take_many(reports)

    def close(self) -> None:
        """End the threads; the city stays open."""
        self.kernel.close()
        self.quick.close()
