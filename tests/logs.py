"""Logs in memory and mirrors of them, for the tests of tiles, witnesses and forks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from datasov.crypto.sign import SigningKey
from datasov.tlog import publish as publishing
from datasov.tlog.log import Log
from datasov.tlog.note import origin_of
from tests.helpers import MemoryStore

KEY, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
ORIGIN = origin_of(KEY.public)


def leaf(number: int) -> bytes:
    return b"leaf %d" % number


def log_of(leaves: int | Sequence[bytes], key: SigningKey = KEY, origin: str | None = None) -> Log:
    """A log of so many leaves, or of these."""
    store = MemoryStore()
    store.streams["log"] = [leaf(n) for n in range(leaves)] if isinstance(leaves, int) else list(leaves)
    return Log(store, key, origin_of(key.public) if origin is None else origin)


def grow(log: Log, *leaves: bytes) -> None:
    log._store.append({"log": (log._store.length("log"), list(leaves))})


def forked(size: int, at: int, key: SigningKey = KEY) -> Log:
    """A log that tells the truth but for the leaf at `at`."""
    return log_of([b"another" if n == at else leaf(n) for n in range(size)], key)


def files_of(folder: Path) -> dict[str, bytes]:
    """What a static host would serve of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tiles_of(log: Log) -> dict[str, bytes]:
    """The files that the log would publish into an empty folder, without a disk."""
    found = log.checkpoint()
    return {**dict(publishing._files(log, 0, found.size)), "checkpoint": found.note}


def served(files: dict[str, bytes]) -> Callable[[str], bytes]:
    return files.__getitem__
