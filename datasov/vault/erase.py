"""Erasing a whole vault: the header with every key first, so that whatever is left after a crash is noise.

Files are unlinked and the folders flushed. They are not overwritten: flash and copy-on-write file systems keep old
blocks wherever an overwriting goes. What stands on the medium then is sealed under keys that lay in the header; a copy
of the header, in a backup or in an old block, still opens by its secrets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from datasov.errors import StoreError
from datasov.vault import files, manifest


def whole(directory: Path, forget: Callable[[], None]) -> None:
    """Erase the vault in a directory, whose lock the caller holds. Files that are not the vault's stay.

    Args:
        forget: called once the header is gone, to have the device forget its keys. If it refuses, the rest goes on.

    Raises:
        OSError, StoreError: if VAULT is gone then, the rest is removed by :func:`remains`.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(directory / files.HEADER)
    files.remove_temporaries(directory)
    files.sync_directory(directory)
    refused = None
    try:
        forget()
    except StoreError as fault:
        refused = fault
    for name in (files.LOGS, files.SEGMENTS, files.MANIFESTS):
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


def remains(path: str | Path) -> None:
    """Remove what a crash left of a vault that was being erased.

    Raises:
        StoreError: there still is a vault, or nothing of one, or the disk refuses.
    """
    directory = Path(path)
    with files.storing("the remains were not removed"):
        if (directory / files.HEADER).exists():
            raise StoreError("a vault is there: open it, and erase it")
        if not any((directory / name).is_dir() for name in (files.LOGS, files.SEGMENTS, files.MANIFESTS)):
            raise StoreError("no remains of a vault are there: check the path")
        lock = files.WriterLock(directory)
        try:
            whole(directory, lambda: None)
        finally:
            lock.release()
