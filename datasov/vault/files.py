"""Durable files: complete writes, flushed files and directories, one writer.

Every call that can fail to make bytes durable goes through this module, and raises OSError; the vault turns it into
StoreError once it has undone what it can.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from datasov.crypto import kdf
from datasov.errors import StoreError

MANIFESTS, SEGMENTS, LOGS, HEADER, LOCK = "manifest", "seg", "log", "VAULT", "LOCK"
_ID_NAME = re.compile(r"[0-9a-f]{32}")
_TEMPORARY = ".new-"


class Unsynced(OSError):
    """A name was changed, and the directory could not be flushed: what the medium holds is not known."""


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte: a short write is continued, never taken for success."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError("the file system took no bytes")
        view = view[written:]


def flush(fd: int) -> None:
    """The file's bytes and length are on the medium when this returns."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def allocate(fd: int, start: int, length: int) -> None:
    """Set room aside, as zeros, where the file system can: to flush a write inside a file costs less than one past it.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, start, length)
        except OSError as fault:
            if fault.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def sync_directory(path: Path) -> None:
    """The names in a directory are on the medium when this returns."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create(path: Path, data: bytes | bytearray) -> None:
    """A new or replaced file, wholly there or not at all, and durable on return.

    Raises:
        Unsynced: the last step, the directory's flush, failed. A name that was new is taken away again.
        OSError: an earlier step failed, and nothing is changed.
    """
    temporary = path.with_name(_TEMPORARY + kdf.random(8).hex())
    replaced = path.exists()
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    try:
        sync_directory(path.parent)
    except OSError as fault:
        if not replaced:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise Unsynced(fault.errno, fault.strerror) from fault


def create_new(path: Path, data: bytes) -> None:
    """A file where there is none, its owner's alone, durable with its name on return; nothing is left of a failure."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def fill(fd: int, buffer: memoryview, offset: int) -> None:
    """Read exactly len(buffer) bytes from an offset."""
    while buffer:
        count = os.preadv(fd, [buffer], offset)
        if count == 0:
            raise EOFError
        buffer, offset = buffer[count:], offset + count


def open_regular(path: Path) -> int:
    """A descriptor to read a file by. A pipe in its place is refused: to open one may wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, f"{path.name} is no regular file")
    return fd


def read(path: Path, limit: int, size: int | None = None) -> bytes:
    """A whole file of at most `limit` bytes, or the first `size` of them; StoreError where it is longer."""
    with os.fdopen(open_regular(path), "rb") as file:
        if size is None:
            size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise StoreError(f"{path.name}: longer than any such file of a vault can be: restore a copy")
        return file.read(size)


def ids(directory: Path) -> dict[bytes, int]:
    """The files of a directory that are named by an id, with their sizes. Other names are not the vault's."""
    found = {}
    for entry in os.scandir(directory):
        if _ID_NAME.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):
                found[bytes.fromhex(entry.name)] = entry.stat().st_size
    return found


def remove(directory: Path, names: set[bytes] | frozenset[bytes]) -> None:
    """Unlink files named by their ids, and make it durable. Files that are gone already do not matter."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory / name.hex())
    if names:
        sync_directory(directory)


def remove_temporaries(directory: Path) -> None:
    """Unlink what a crash left half-written."""
    for entry in os.scandir(directory):
        if entry.name.startswith(_TEMPORARY):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


class WriterLock:
    """The one writer's lock, held until it is released or the process ends (flock).

    A child that was forked meanwhile shares it: the parent gives it up for both, and the child for neither.
    """

    __slots__ = ("_file", "_pid")

    def __init__(self, directory: Path) -> None:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        self._file, self._pid = os.fdopen(fd, "rb", buffering=0), os.getpid()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StoreError(
                "another process or another Vault writes to this vault: close it, or open with write=False"
            ) from None

    def release(self) -> None:
        if self._pid == os.getpid() and not self._file.closed:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


@contextlib.contextmanager
def storing(what: str) -> Iterator[None]:
    """OSError becomes StoreError."""
    try:
        yield
    except OSError as fault:
        raise failed(what, fault) from fault


def failed(what: str, fault: OSError) -> StoreError:
    """What failed, and the system's reason."""
    return StoreError(f"{what}: {fault.strerror or fault}")
