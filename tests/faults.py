"""Steps at which a vault's files change: to fail there, or to keep what a kill at that moment would leave."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

CALLS = ("write", "fsync", "fdatasync", "rename", "unlink", "rmdir", "ftruncate", "posix_fallocate")


@contextmanager
def before_each(step: Callable[[str], None]) -> Iterator[None]:
    """Call `step` with the name of each call that changes files or makes them durable, just before it.

    Nothing is really flushed meanwhile: what these tests look at is in the system's cache, and a flush takes its time.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, _hooked(name, getattr(os, name), step))
        yield


def unflushed() -> AbstractContextManager[None]:
    """Nothing is really flushed: for tests that look at files in the system's cache alone."""
    return before_each(lambda name: None)


def _hooked(name: str, call: Callable[..., object], step: Callable[[str], None]) -> Callable[..., object]:
    def hooked(*args: object, **named: object) -> object:
        step(name)
        return None if name in ("fsync", "fdatasync") else call(*args, **named)

    return hooked


class Failing:
    """The n-th step fails with EIO, or it and all after it."""

    def __init__(self, at: int, *, for_good: bool = False) -> None:
        self.count, self._at, self._for_good = 0, at, for_good

    def __call__(self, name: str) -> None:
        self.count += 1
        if self.count == self._at or (self._for_good and self.count > self._at):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class Copies:
    """Copies of folders as a kill before each step would leave them: what was written is in the system's cache."""

    def __init__(self, base: Path, *folders: Path) -> None:
        self.made, self._base, self._folders, self._busy = list[Path](), base, folders, False

    def __call__(self, name: str) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            copy = self._base / f"copy{len(self.made)}"
            for folder in self._folders:
                if folder.exists():
                    shutil.copytree(folder, copy / folder.name)
            self.made.append(copy)
        finally:
            self._busy = False
