"""Where a city's public log is read from: an exported file, a mirror, a city's own folder, or an address.

Nothing that a source gives is believed: who reads it verifies it. All of it is read, so that no source learns what
matters to whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from datasov.city import City
from datasov.errors import InvalidDataError, ProofError, StoreError
from datasov.model.consent import CityId
from datasov.remote import Remote
from datasov.store.place import is_city
from datasov.tlog import tiles
from datasov.tlog.export import read_log
from datasov.tlog.log import LogReader
from datasov.tlog.mirror import Read, TileLog
from datasov.tlog.note import peek_checkpoint

LONGEST, MOST = 60.0, 1 << 30
"""Seconds and bytes for a log from an address: a host that never ends would otherwise keep a vault open for good."""
Open: TypeAlias = Callable[[Sequence[CityId]], AbstractContextManager[LogReader]]
"""Opens a log for a holder of these ids: which one is the log's, the signature on its checkpoint tells."""


@dataclass(frozen=True, slots=True)
class Source:
    """A log that can be read.

    Attributes:
        name: for people.
    """

    name: str
    open: Open


def source(where: str, *, city: CityId | None = None, operator_key: bytes | None = None) -> Source:
    """The log at a path, or at an http(s) address that serves the tiles of a mirror.

    Args:
        city: its present id, where the operator changed its key: a mirror is checked under that one alone.
        operator_key: of a city's own folder, where it is not beside it.

    Raises:
        InvalidDataError: an address with a user, a query or a fragment.
    """
    if where.startswith(("https://", "http://")):
        check_address(where)
        return Source(where, lambda held: _address(where, [city] if city else held))
    path = Path(where)
    return Source(path.name or where, lambda held: _path(path, [city] if city else held, operator_key))


@contextmanager
def _path(path: Path, held: Sequence[CityId], operator_key: bytes | None) -> Iterator[LogReader]:
    if is_city(path):
        with City.open(path, operator_key=operator_key) as city:
            yield city.log
    elif (path / tiles.CHECKPOINT).is_file():
        with _mirror(path, held) as log:
            yield log
    else:
        yield read_log(path)


@contextmanager
def _mirror(where: Path | Read, held: Sequence[CityId]) -> Iterator[LogReader]:
    try:
        note = (where / tiles.CHECKPOINT).read_bytes() if isinstance(where, Path) else where(tiles.CHECKPOINT)
    except OSError as fault:
        raise StoreError(f"the mirror's checkpoint cannot be read: {fault.strerror or fault}") from None
    origin = peek_checkpoint(note).origin
    for city in dict.fromkeys(held):
        log = TileLog(where, city.verify_key, origin=origin)
        try:
            log.checkpoint()
        except ProofError:
            continue
        yield log
        return
    raise ProofError("the mirror is not signed by a key that you hold: where its operator changed it, give --city ID")


def check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        odd = parts.username is not None or parts.query or parts.fragment or not parts.hostname or parts.port == 0
    except ValueError:
        odd = True
    if odd:
        raise InvalidDataError("the address of a log is like https://city.example/log, with nothing after the path")


@contextmanager
def _address(url: str, held: Sequence[CityId]) -> Iterator[LogReader]:
    """The mirror below an address. No redirection is followed; it waits where it is told to, for a minute in all."""
    with Remote(url, within=LONGEST, most=MOST) as remote, _mirror(remote.read, held) as log:
        yield log
