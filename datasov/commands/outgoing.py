"""Files that commands write for somebody else to carry: new ones, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from datasov.errors import StoreError
from datasov.remote import is_address
from datasov.vault import files

Place: TypeAlias = Path | str
"""A path, or an address."""


def place(text: str) -> Place:
    """A log's or a checkpoint's place."""
    return text if is_address(text) else Path(text)


def free(path: Place | None) -> None:
    """StoreError where something is at the path, or no folder to hold it; an address, or none, is free."""
    if isinstance(path, Path) and os.path.lexists(path):
        raise StoreError(f"{path} exists already: choose another path")
    if isinstance(path, Path) and not path.parent.is_dir():
        raise StoreError(f"{path.parent} is no folder: make it first, or choose another path")


def write(path: Path, data: bytes) -> None:
    """Write a new file; StoreError where there is one already, or the disk refuses."""
    free(path)
    try:
        files.create_new(path, data)
    except OSError as fault:
        raise StoreError(
            f"{path} cannot be written: {fault.strerror or fault}; run the command again with another path"
        ) from None


def read(path: Path, most: int, what: str) -> bytes:
    """The bytes of a file of at most `most`, of `what` it holds; StoreError where it cannot be read, or is longer."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as fault:
        raise StoreError(f"{what} cannot be read: {fault.strerror or fault}") from None
    if len(data) > most:
        raise StoreError(f"{what} is never so long: check which file it is")
    return data
