"""Processes of their own for work that is each resident's alone, with one Polars thread in each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, chunk: int = 1
) -> Iterator[Result]:  # fmt: skip
    """The results in order, each as soon as it and those before it are there; `work` must be importable by its name."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        with _environment("POLARS_MAX_THREADS", "1"):
            results = executor.map(work, items, chunksize=chunk)
        yield from results


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
