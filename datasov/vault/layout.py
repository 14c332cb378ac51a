"""A vault's directory, made at once or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from datasov.errors import StoreError
from datasov.vault import files, keys, manifest


def create(
    directory: Path, header: bytes, secrets: keys.Secrets, first: manifest.Manifest, *,
    segments: Iterable[tuple[bytes, bytes]] = (), before: Callable[[], None] = lambda: None,
) -> tuple[manifest.Manifest, files.WriterLock]:  # fmt: skip
    """A new directory with a first manifest, and the segments that it names: moved here from elsewhere as they are.

    Args:
        segments: id and bytes of each.
        before: called once the directory is there, and before anything in it.

    Raises:
        StoreError: the path exists. OSError: it cannot be written; nothing is left there.
    """
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        raise StoreError("the path exists already: open the vault there, or choose another path") from None
    try:
        for name in (files.MANIFESTS, files.SEGMENTS, files.LOGS):
            os.mkdir(directory / name, 0o700)
        lock = files.WriterLock(directory)
        before()
        for segment, data in segments:
            files.create(directory / files.SEGMENTS / segment.hex(), data)
        committed = manifest.commit(directory, secrets, first)
        files.create(directory / files.HEADER, header)
        files.sync_directory(directory.parent)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return committed, lock
