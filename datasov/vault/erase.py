"""Erasing a whole vault: the header with every key first, so that whatever is left after a crash is noise.

Files are unlinked and the folders flushed; the header, once it has no name any more, is written over too. Flash and
copy-on-write file systems keep old blocks wherever an overwriting goes: what stands on the medium then is sealed under
keys that lay in the header, and a copy of the header, in a backup or in an old block, still opens by its secrets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from datasov.crypto import kdf
from datasov.errors import StoreError
from datasov.vault import files, keys, manifest
from datasov.vault import format as fmt

_FOLDERS = (files.LOGS, files.SEGMENTS, files.MANIFESTS)


def whole(directory: Path, forget: Callable[[], None]) -> None:
    """Erase the vault in a directory, whose lock the caller holds. Files that are not the vault's stay.

    Args:
        forget: called once the header is gone, to have the device forget its keys. If it refuses, the rest goes on.

    Raises:
        OSError, StoreError: if VAULT is gone then, the rest is removed by :func:`remains`.
    """
    with contextlib.suppress(FileNotFoundError):
        _destroy(directory / files.HEADER)
    files.remove_temporaries(directory)
    files.sync_directory(directory)
    refused = None
    try:
        forget()
    except StoreError as fault:
        refused = fault
    for name in _FOLDERS:
        folder = directory / name
        if not folder.is_dir():
            continue
        if name == files.MANIFESTS:
            manifest.drop_before(directory, 1 << 64)
        else:
            files.remove(folder, set(files.ids(folder)))
        files.remove_temporaries(folder)
        files.sync_directory(folder)
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(directory / files.LOCK)
    files.sync_directory(directory)
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    files.sync_directory(directory.parent)
    if refused is not None:
        raise StoreError(f"the vault is erased, but not its key on this device: {refused}")


def _destroy(path: Path) -> None:
    """Unlink a file, and then write random bytes over it: a crash leaves it as it was, or gone."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        try:
            os.unlink(path)
        finally:
            if not path.exists():
                files.write_all(fd, kdf.random(os.fstat(fd).st_size))
                os.fsync(fd)
    finally:
        os.close(fd)


def unopened(path: str | Path) -> None:
    """Erase a vault without opening it, or what a crash left of one: it takes no key, and no device forgets one.

    Raises:
        StoreError: there is no vault, another writer has it, or the disk refuses: call again.
    """
    directory = Path(path)
    with files.storing("the vault was not wholly erased"):
        header = directory / files.HEADER
        began = (directory / files.LOCK).is_file() and any((directory / name).is_dir() for name in _FOLDERS)
        if directory.is_symlink() or not (header.is_file() or began):
            raise StoreError("no vault is there: check the path")
        if not header.is_file():
            return remains(directory)
        if files.read(header, keys.MAX_HEADER)[:8] != fmt.MAGIC_VAULT:
            raise StoreError("the file VAULT there is not one of datasov: nothing was erased")
        _all(directory)


def remains(path: str | Path) -> None:
    """Remove what a crash left of a vault that was being erased.

    Raises:
        StoreError: there still is a vault, or nothing of one, or the disk refuses.
    """
    directory = Path(path)
    with files.storing("the remains were not removed"):
        if (directory / files.HEADER).exists():
            raise StoreError("a vault is there: open it, and erase it")
        if not any((directory / name).is_dir() for name in _FOLDERS):
            raise StoreError("no remains of a vault are there: check the path")
        _all(directory)


def _all(directory: Path) -> None:
    lock = files.WriterLock(directory)
    try:
        whole(directory, lambda: None)
    finally:
        lock.release()
