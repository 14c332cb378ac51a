"""A vault's directory, made at once or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from datasov.errors import StoreError
from datasov.vault import files, keys, manifest


def create(
    directory: Path, header: bytes, secrets: keys.Secrets, first: manifest.Manifest, *,
    source: Path | None = None, before: Callable[[], None] = lambda: None,
) -> tuple[manifest.Manifest, files.WriterLock]:  # fmt: skip
    """A new directory with a first manifest, and the segments that it names as copies of those of another vault.

    Args:
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
        if source is not None:
            for place in (Path(files.SEGMENTS) / entry.id.hex() for entry in first.segments):
                files.create(directory / place, (source / place).read_bytes())
        committed = manifest.commit(directory, secrets, first)
        files.create(directory / files.HEADER, header)
        files.sync_directory(directory.parent)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return committed, lock
