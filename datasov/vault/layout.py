"""A vault's directory: made at once or not at all, and taken away key first."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from datasov.crypto import kdf
from datasov.errors import StoreError
from datasov.vault import files, keys, manifest
from datasov.vault import format as fmt


def create(
    directory: Path, header: bytes, secrets: keys.Secrets, first: manifest.Manifest, source: Path | None = None
) -> tuple[manifest.Manifest, files.WriterLock]:
    """A new directory with a first manifest, and the segments that it names as copies of those of another vault.

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


def erase(path: str | Path) -> None:
    """Destroy a vault: first VAULT, without which nothing of the rest can be read, then the rest.

    It needs no key. What a medium keeps of files that were deleted, and copies of VAULT elsewhere, are beyond it.

    Raises:
        StoreError: there is no vault, another writer has it, or a file cannot be removed; run it again.
    """
    directory = Path(path)
    header = directory / files.HEADER
    with files.storing("the vault was not wholly erased"):
        if directory.is_symlink() or not header.is_file():
            if not directory.is_symlink() and _began(directory):
                return _rest(directory)
            raise StoreError("no vault is there: check the path")
        if header.read_bytes()[:8] != fmt.MAGIC_VAULT:
            raise StoreError("the file VAULT there is not one of datasov: nothing was erased")
        lock = files.WriterLock(directory)
        try:
            _overwrite(header)
            os.unlink(header)
            files.sync_directory(directory)
        finally:
            lock.release()
        _rest(directory)


def _began(directory: Path) -> bool:
    """Whether an erasure ended between the header and the rest."""
    folders = (files.MANIFESTS, files.SEGMENTS, files.LOGS)
    return (directory / files.LOCK).is_file() and all((directory / name).is_dir() for name in folders)


def _rest(directory: Path) -> None:
    for name in (files.MANIFESTS, files.SEGMENTS, files.LOGS):
        shutil.rmtree(directory / name, ignore_errors=True)
    files.remove_temporaries(directory)
    os.unlink(directory / files.LOCK)
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    files.sync_directory(directory if directory.is_dir() else directory.parent)


def _overwrite(path: Path) -> None:
    """Random bytes over a file: on many media the old ones are gone then, on some they are not."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        files.write_all(fd, kdf.random(os.fstat(fd).st_size))
        os.fsync(fd)
    finally:
        os.close(fd)
