"""Threads of this process. Polars parallelises within a shard already; two threads overlap one shard's serial parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads(workers: int | None = None) -> Callable[[Callable[[Item], Result], Iterable[Item]], Iterable[Result]]:
    """An engine of `workers` threads (as many as processors where None)."""
    count = workers or os.cpu_count() or 1

    def engine(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
        with ThreadPoolExecutor(count) as executor:
            yield from executor.map(function, items)

    return engine
