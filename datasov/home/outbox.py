"""What a resident signed and a city must get: handed to a sender where there is one, or kept as files until it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from datasov.crypto.kdf import sha256
from datasov.errors import DatasovError, StoreError
from datasov.model.consent import CityId
from datasov.vault import files
from datasov.wire import base45

Kind: TypeAlias = Literal["revocation", "admission"]
MOST_TEXT = 3391
"""Characters that one QR code holds at level M (ISO/IEC 18004, version 40)."""


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes for a city.

    Attributes:
        data: a revocation, signed and sealed; or a consent with its rows (:mod:`datasov.authority.parcel`): what
            `datasov city revoke` and `datasov city admit` read.
    """

    kind: Kind
    city: CityId
    data: bytes

    @property
    def name(self) -> str:
        """What it is known by: eight bytes of its hash."""
        return sha256(self.data).hex()[:16]


Send: TypeAlias = Callable[[Message], bool]
"""Gives a message to its city, or raises a DatasovError. A city takes the same message twice without harm.

True where the city did what it says; False where it is on its way, and the city's log will tell."""


@dataclass(frozen=True, slots=True)
class Item:
    """A message, the file that holds it while the city does not have it, and why it does not.

    Attributes:
        sent: it left, and no file is kept of it: the vault can sign it anew. done: the city took it.
    """

    message: Message
    path: Path
    why: str = ""
    sent: bool = False
    done: bool = False

    @property
    def text(self) -> str:
        """A revocation as a text that a QR code holds; empty where it is too long, or something else."""
        text = base45.encode(self.message.data) if self.message.kind == "revocation" else ""
        return text if len(text) <= MOST_TEXT else ""


class Outbox:
    """The messages of this sitting, oldest first.

    Args:
        folder: where files go; made when the first one is written, for its owner alone.
        send: None where nothing here can reach a city.
    """

    def __init__(self, folder: Path, send: Send | None = None) -> None:
        self.folder, self._send = folder, send
        self._items: dict[str, Item] = {}

    @property
    def items(self) -> list[Item]:
        return list(self._items.values())

    @property
    def can_send(self) -> bool:
        return self._send is not None

    def ready(self) -> None:
        """Raise StoreError unless the folder is there: before anything is signed that only its files may hold."""
        with files.storing("what you sign cannot be kept for the city: choose another folder with --out"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise StoreError(f"others of this machine may write to {self.folder}: choose another folder with --out")

    def put(self, message: Message) -> Item:
        """Keep a message as a file, then give it to the sender; the file goes once the city has it.

        Raises:
            StoreError: the file cannot be written; then nothing was sent either.
        """
        self.ready()
        path = self._write(f"{time.strftime('%Y%m%d')}-{message.name}.{message.kind}", message.data)
        return self._try(Item(message, path))

    def again(self, name: str) -> Item | None:
        """Send a message that is still here once more; None where there is none of that name."""
        item = self._items.get(name)
        return item if item is None or item.sent else self._try(item)

    def _try(self, item: Item) -> Item:
        if self._send is not None:
            try:
                item = replace(item, done=self._send(item.message), sent=True, why="")
            except DatasovError as why:
                item = replace(item, why=str(why))
        if item.sent:
            with contextlib.suppress(OSError):
                item.path.unlink()
        self._items[item.message.name] = item
        return item

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        with files.storing("what was signed cannot be kept for the city: choose another folder with --out"):
            if not os.path.lexists(path):
                files.create_new(path, data)
            elif path.is_symlink() or path.read_bytes() != data:
                raise StoreError(f"{name} in the folder of --out is something else: remove it")
        return path
