"""Letters that wait for the end of their tick: files beside a city, each on the disk before it is taken as received.

A name says the tick and the letter's hash, so that a folder keeps no order of arrival within a tick, and a letter that
is sent twice is there once.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datasov.crypto.kdf import random, sha256
from datasov.errors import StoreError
from datasov.store import durable

_PART, _STALE = ".part-", 3_600
FREE = 256 * 1024**2
"""Bytes of the disk that letters leave to the city, so that who sends many stops no answer and no revocation."""
_COUNTED = 256
"""What other processes keep is counted whenever this one kept so large a part of what may wait."""


class Inbox:
    """A folder of letters, for any number of threads and processes.

    Args:
        most: bytes that may wait; beyond it letters are refused, whoever sends them. It holds for
            all processes together, each of which may go beyond it by a 256th.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._lock, self._bytes, self._own = threading.Lock(), -1, 0

    def put(self, letter: bytes, tick: int) -> None:
        """Keep a letter, durably: it stands a crash when this returns.

        Raises:
            StoreError: too many letters wait, or the disk refuses.
        """
        try:
            self._reserve(len(letter))
            part = self._folder / f"{_PART}{random(16).hex()}"
            path = self._folder / f"{tick:016x}-{sha256(letter).hex()}"
            try:
                durable.replace(part, path, letter, 0o600)
            finally:
                part.unlink(missing_ok=True)
        except OSError as fault:
            raise StoreError("a letter cannot be kept: check the city's folder and its free space") from fault

    @staticmethod
    def room(folder: Path) -> int:
        """Bytes that letters may still take of a folder's disk; below zero where it is fuller than that."""
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize - FREE

    def waiting(self, before: int) -> list[Path]:
        """The letters of all ticks before this one, by tick, then by their hashes."""
        try:
            names = sorted(n for n in os.listdir(self._folder) if len(n) == 81 and n[16] == "-")
        except FileNotFoundError:
            return []
        return [self._folder / n for n in names if int(n[:16], 16) < before]

    def remove(self, letters: list[Path]) -> None:
        """Let letters go, once what they said is kept elsewhere or refused."""
        for path in letters:
            path.unlink(missing_ok=True)
        if letters:
            durable.sync_folder(self._folder)
        with self._lock:
            self._bytes = -1

    @contextmanager
    def collecting(self) -> Iterator[bool]:
        """Whether this is the one process that collects now; the others leave it to that one."""
        if not self._folder.is_dir():
            yield False
            return
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self._folder.glob(f"{_PART}*"):
                with suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - _STALE:
                        left.unlink()
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)

    def _reserve(self, size: int) -> None:
        with self._lock:
            if self._bytes < 0 or self._bytes + size > self._most or self._own > self._most // _COUNTED:
                self._bytes, self._own = self._counted(), 0
            if self._bytes + size > self._most:
                raise StoreError("too many letters wait: try again after the next tick")
            if self.room(self._folder) < size:
                raise StoreError("too little free space for letters: make room on the disk of the city's folder")
            self._bytes, self._own = self._bytes + size, self._own + size

    def _counted(self) -> int:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            durable.sync_folder(self._folder.parent)
        size = 0
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                size += entry.stat().st_size
        return size
