"""Publishing: a log as files in a folder, which any static host can serve (C2SP tlog-tiles)."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from datasov.errors import ProofError, StoreError
from datasov.tlog import tiles
from datasov.tlog.note import MAX_NOTE, Checkpoint, peek_checkpoint
from datasov.tlog.tiles import TILE
from datasov.tlog.tree import root_of

_PART = ".part-"


class Source(Protocol):
    """What is published: a city's own log, or a mirror of one."""

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]: ...
    def node(self, level: int, index: int) -> bytes: ...


def publish(source: Source, folder: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Write the tiles and bundles that the folder lacks, then its checkpoint; the checkpoint that it has then.

    Every file appears whole or not at all, and the checkpoint last: whoever reads it finds all that it commits to. A
    run that was cut short is taken up by the next. One process at a time (a lock on the folder).

    Raises:
        ProofError: the folder holds a checkpoint of another log, or of a tree that this log does not continue.
        StoreError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return _publish(source, folder, checkpoint)
        finally:
            os.close(handle)
    except OSError as fault:
        raise StoreError(f"{folder.name} cannot be written: check the folder and its free space") from fault


def _publish(source: Source, folder: Path, checkpoint: Checkpoint) -> Checkpoint:
    for left in folder.glob(f"{_PART}*"):
        left.unlink()
    before = _before(folder)
    if before is not None and before.origin != checkpoint.origin:
        raise ProofError("the folder holds another log: name another folder")
    if before is not None and before.size > checkpoint.size:
        raise ProofError("the folder holds a longer log than this one: keep both, this city went back")
    if before is not None and root_of(source.node, before.size) != before.root:
        raise ProofError("the folder holds another tree of this log: keep both, somebody forked the log")
    written, replaced = list[Path](), list[Path]()
    for path, data in _files(source, 0 if before is None else before.size, checkpoint.size):
        file = folder / path
        if not _holds(file, data):
            _write(folder, file, data)
            written.append(file)
        if ".p/" not in path:
            replaced.append(file.with_name(file.name + ".p"))
    _flush(folder, written)
    if not _holds(folder / tiles.CHECKPOINT, checkpoint.note):
        _write(folder, folder / tiles.CHECKPOINT, checkpoint.note)
        _flush(folder, [folder / tiles.CHECKPOINT])
    for partial in replaced:
        shutil.rmtree(partial, ignore_errors=True)
    return checkpoint


def _before(folder: Path) -> Checkpoint | None:
    """What the folder's checkpoint says. Its root is compared with this log's own, so that no signature matters."""
    try:
        with open(folder / tiles.CHECKPOINT, "rb") as file:
            return peek_checkpoint(file.read(MAX_NOTE + 1))
    except FileNotFoundError:
        return None


def _files(source: Source, old: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each tile and bundle of a tree of `size` leaves that one of `old` leaves has not whole."""
    for level in tiles.levels(size):
        folder = tiles.tile_folder(level)
        for index in range(old >> tiles.HEIGHT * (level + 1), -(-(size >> tiles.HEIGHT * level) // TILE)):
            width = tiles.width_at(size, level, index)
            first = index * TILE
            hashes = (source.node(tiles.HEIGHT * level, at) for at in range(first, first + width))
            yield tiles.path(folder, index, width), b"".join(hashes)
    for index in range(old // TILE, -(-size // TILE)):
        width = tiles.width_at(size, 0, index)
        leaves = source.leaves(index * TILE, index * TILE + width)
        where = tiles.WIDE if tiles.is_wide(leaves) else tiles.ENTRIES
        yield tiles.path(where, index, width), tiles.write_bundle(leaves)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write(folder: Path, file: Path, data: bytes) -> None:
    part = folder / f"{_PART}{os.getpid()}"
    part.write_bytes(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, file)


def _flush(folder: Path, files: list[Path]) -> None:
    """Onto the disk: the files, and the folders that name them."""
    folders = {parent for file in files for parent in file.parents if parent == folder or folder in parent.parents}
    for path in (*files, *folders):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
