"""Failing writes and flushes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CALLS = ("write", "fsync", "fdatasync", "rename", "posix_fallocate")


class Faults:
    """Counts the calls that make bytes durable, and lets the chosen ones fail."""

    def __init__(self, fail_at: int = -1, *, for_good: bool = False, code: int = errno.EIO) -> None:
        self.count, self.fail_at, self.for_good, self.code = 0, fail_at, for_good, code

    def step(self) -> None:
        self.count += 1
        if self.count == self.fail_at or (self.for_good and 0 <= self.fail_at <= self.count):
            raise OSError(self.code, os.strerror(self.code))


@contextmanager
def faults(fault: Faults) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, _counted(fault, getattr(os, name)))
        yield fault


def _counted(fault: Faults, call: Callable[..., object]) -> Callable[..., object]:
    def counted(*args: object) -> object:
        fault.step()
        return call(*args)

    return counted
