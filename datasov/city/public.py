"""What a city does with people whom it does not know: it shows its log, and takes letters without a look at them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from datasov.authority import letters
from datasov.authority.signed_trust import sign_trust
from datasov.city.admitting import Admitting
from datasov.errors import DatasovError, DeniedError, InvalidDataError, InvalidQueryError, StoreError, VerificationError
from datasov.store.inbox import Inbox
from datasov.tlog.note import Checkpoint

MAX_WAITING = 4 * 1024**3
"""Bytes of letters that wait for the end of their tick."""
_AT_ONCE, _BYTES_AT_ONCE = 512, 64 * 1024**2
Kind: TypeAlias = type[letters.Admitting] | type[letters.Ending]
_FINAL = (DeniedError, VerificationError, InvalidDataError, InvalidQueryError)


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What became of the letters of the ticks that are over: for the operator, who sees it anyway.

    Attributes:
        taken: admissions and revocations that took effect. refused: those that did not, and never will.
        kept: those that a fault kept from it; the next collection tries them again.
    """

    taken: int = 0
    refused: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Periods:
    """A city's public schedule, in seconds: of the log's ticks, of data epochs, and within which ended rows go.

    `founded` is the time of its first day, in Unix seconds.
    """

    founded: int
    tick: int
    epoch: int
    erase_within: int


class Public(Admitting):
    """The part of :class:`datasov.City` that everybody meets."""

    def checkpoint(self) -> Checkpoint:
        """The log's signed checkpoint, once the anchor holds all that it commits to: what may be shown to others."""
        found = self.log.checkpoint()
        self._anchor()
        return found

    def signed_trust(self) -> bytes:
        """Who adds, signed, for residents who choose: `datasov.authority.signed_trust.read_trust` reads it."""
        return sign_trust(self.id, self.trust, self._key)

    @property
    def periods(self) -> Periods:
        """The schedule that was fixed when the city was founded."""
        return Periods(*(int(self._settings[name]) for name in ("founded", "tick", "epoch", "erase_within")))

    @functools.cached_property
    def _inbox(self) -> Inbox:
        return Inbox(self._path.with_name(self._path.name + ".inbox"), MAX_WAITING)

    def receive(self, letter: bytes) -> int:
        """Keep a letter (`datasov.authority.letters`) until its tick is over, durably. It is not opened.

        So nothing that is answered here depends on what is in it. What became of it is in the public log.
        Returns when it is taken up: the end of this tick, in Unix seconds.

        Raises:
            InvalidDataError: shorter or longer than letters are.
            StoreError: too many letters wait, or the disk refuses.
        """
        if not letters.LEAST <= len(letter) - letters.OVERHEAD <= letters.MAX_LETTER:
            raise InvalidDataError("not a letter to this city: it has 16 KiB to 8 MiB, as datasov seals it")
        tick = self.periods.tick
        now = int(self._clock()) // tick
        self._inbox.put(letter, now)
        return (now + 1) * tick

    def check_room(self) -> None:
        """StoreError where the disk is so full that nothing more is taken from people whom the city does not know."""
        if Inbox.room(self._path) < 0:
            raise StoreError("too little free space: make room on the disk of the city's folder")

    def take_up(self) -> TakenUp:
        """Take up the letters of the ticks that are over: revocations first, then all admissions together.

        A scheduler calls it when a tick begins; questions never do. One process does it at a time. A run that was cut
        short is taken up by the next: what was taken already is refused as sent again, and has its effect.
        """
        found = TakenUp()
        with self._inbox.collecting() as first:
            if first:
                waiting = self._inbox.waiting(int(self._clock()) // self.periods.tick)
                for kind in (letters.Ending, letters.Admitting):
                    for paths in _groups(waiting):
                        found = self._take(paths, kind, found)
        return found

    def _take(self, paths: Sequence[Path], kind: Kind, found: TakenUp) -> TakenUp:
        opened = [(path, self._opened(path)) for path in paths]
        of_kind = [(path, letter) for path, letter in opened if isinstance(letter, kind)]
        lost = [path for path, letter in opened if isinstance(letter, DatasovError)]
        outcomes = self._tried([letter for _, letter in of_kind])
        final = [p for (p, _), o in zip(of_kind, outcomes, strict=True) if o is None or isinstance(o, _FINAL)]
        self._inbox.remove([*final, *lost])
        refused = sum(isinstance(o, _FINAL) for o in outcomes) + len(lost)
        kept = len(outcomes) - len(final)
        return TakenUp(found.taken + outcomes.count(None), found.refused + refused, found.kept + kept)

    def _opened(self, path: Path) -> letters.Admitting | letters.Ending | DatasovError | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return self._who.take(lambda city, key: letters.open_letter(data, key, city))
        except VerificationError as why:
            return why

    def _tried(self, found: Sequence[letters.Admitting | letters.Ending]) -> list[Exception | None]:
        """For each, None or why not. A letter that makes the library fail is refused alone, and harms no other."""
        try:
            return self._done(found)
        except DatasovError as why:
            return [why] * len(found)
        except BaseException as fault:
            if isinstance(fault, KeyboardInterrupt | SystemExit):
                raise
            if len(found) > 1:  # also a panic in Polars' Rust, which is no Exception
                return [outcome for letter in found for outcome in self._tried([letter])]
            return [InvalidDataError(f"a letter that cannot be taken ({type(fault).__name__})")]

    def _done(self, found: Sequence[letters.Admitting | letters.Ending]) -> list[Exception | None]:
        pairs = [(f.consent, f.contribution) for f in found if isinstance(f, letters.Admitting)]
        if pairs:
            return list(self.admit_many(pairs))
        outcomes = list[Exception | None]()
        for each in found:
            try:
                if isinstance(each, letters.Ending):
                    self.revoke(each.revocation)
                outcomes.append(None)
            except _FINAL as why:
                outcomes.append(why)
        return outcomes


def _groups(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Parts of the paths that fit into memory together."""
    group, size = list[Path](), 0
    for path in paths:
        try:
            length = path.stat().st_size
        except FileNotFoundError:
            continue
        if group and (len(group) == _AT_ONCE or size + length > _BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(path)
        size += length
    if group:
        yield group
