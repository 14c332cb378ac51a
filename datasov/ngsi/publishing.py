"""Publishing: a city's stored releases to a broker, each once, in the order in which they were released."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from datasov.errors import InvalidQueryError, PeerError, ProofError
from datasov.model.release import Release
from datasov.model.series import SeriesRelease
from datasov.ngsi.broker import Broker, Unreachable, client
from datasov.ngsi.describe import describe
from datasov.ngsi.entity import Entity, normalized
from datasov.ngsi.outbox import Delivered, Outbox
from datasov.ngsi.projections import PEOPLE, crowd_flow, observation
from datasov.ngsi.receipts import proofs
from datasov.ngsi.statistic import By, DPStatistic, of_release, of_step
from datasov.tlog.log import LogReader

PROJECTIONS = ("CrowdFlowObserved", "Observation")


class Releases(Protocol):
    """What publishing asks of a city."""

    def releases(self) -> list[Release]: ...
    def standing(self) -> list[SeriesRelease]: ...
    @property
    def log(self) -> Logged: ...


class Logged(LogReader, Protocol):
    origin: str


@dataclass(frozen=True, slots=True)
class Piece:
    """The numbers of one release, or of one step of a series."""

    statistics: tuple[DPStatistic, ...]
    unlisted: bool = False
    """Whether the question had unknown keys: what shows differs from answer to answer."""

    @property
    def key(self) -> tuple[str, int | None]:
        source = self.statistics[0].source
        return source.release, source.step

    @property
    def order(self) -> tuple[int, int]:
        source = self.statistics[0].source
        return source.time, -1 if source.step is None else source.step


@dataclass(slots=True)
class Report:
    """What publishing did, as lists of (release, step).

    Attributes:
        known: were there already. superseded: never go out, since a newer answer went out under the same ids.
        failed: with the reason. left: were not tried. entities: delivered now.
    """

    delivered: list[tuple[str, int | None]] = field(default_factory=list)
    known: list[tuple[str, int | None]] = field(default_factory=list)
    superseded: list[tuple[str, int | None]] = field(default_factory=list)
    failed: list[tuple[tuple[str, int | None], str]] = field(default_factory=list)
    left: list[tuple[str, int | None]] = field(default_factory=list)
    entities: int = 0

    def check(self) -> None:
        """Raise PeerError unless everything is at the broker."""
        if self.failed:
            (release, step), reason = self.failed[0]
            which = release if step is None else f"{release}, step {step}"
            more = len(self.failed) + len(self.left)
            raise PeerError(f"{more} releases are not at the broker; the first, {which}: {reason}")


def pieces(city: Releases, *, confidence: float = 0.95, zone: str = "Asia/Tokyo") -> list[Piece]:
    """Everything that a city has released and still keeps, in order: releases, and the steps of its series.

    Raises:
        InvalidQueryError: a release of above 100,000 numbers, or no such confidence.
        ProofError: the log lacks a release.
    """
    releases, series = city.releases(), city.standing()
    told = proofs(city.log.leaves(), city.log.origin)
    found = []
    try:
        for release in releases:
            made = of_release(release, told[release.identifier.hex(), None], confidence=confidence, zone=zone)
            found.append(Piece(tuple(made), release.cells is not None))
        for each in series:
            found += [
                Piece(tuple(of_step(each, step, told[each.identifier.hex(), step], confidence=confidence)))
                for step in range(len(each.outputs))
            ]
    except KeyError:
        raise ProofError("a release that the log does not tell of: restore the city from a backup") from None
    return sorted((p for p in found if p.statistics), key=lambda p: p.order)


def entities(piece: Piece, by: By = "release", projections: Iterable[str] = ()) -> list[Entity]:
    """The entities of a piece: a DPStatistic for each number, and the projections that are asked for, where one fits.

    Raises:
        InvalidQueryError: no such projection; or `by` question where the keys that show may be others each time.
    """
    wanted = tuple(projections)
    if not set(wanted) <= set(PROJECTIONS):
        raise InvalidQueryError(f"projections are {', '.join(PROJECTIONS)}")
    if by == "question" and piece.unlisted:
        raise InvalidQueryError("a question for unknown keys shows others each time: publish it by release")
    return list(_entities(piece, by, wanted))


def _entities(piece: Piece, by: By, wanted: Sequence[str]) -> Iterator[Entity]:
    for found in piece.statistics:
        yield describe(found, by)
        if "CrowdFlowObserved" in wanted and found.kind in PEOPLE and (flow := crowd_flow(found, by)) is not None:
            yield flow
        if "Observation" in wanted:
            yield observation(found, by)


def publish(
    given: Iterable[Piece], broker: Broker, outbox: Outbox, *, by: By = "release", projections: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:  # fmt: skip
    """Deliver what a broker does not have yet. What failed is told, and tried again the next time.

    By release, every answer has entities of its own. By question, each answer takes the place of the one before it, and
    an older one is never sent after a newer one. A broker that does not answer ends the attempt; one that refuses a
    release is asked to take the others.

    Args:
        progress: called with the pieces done and all of them.

    Raises:
        InvalidQueryError: as :func:`entities`. MissingExtraError: httpx is not installed. StoreError: the outbox.
    """
    todo, report, wanted = list(given), Report(), tuple(projections)
    way = "+".join((by, *sorted(wanted)))
    before = {d.key: d for d in outbox.entries(broker.name)}
    newest: dict[str, tuple[int, int]] = {}
    for each in before.values():
        if each.by == way:
            newest[each.standing] = max(newest.get(each.standing, (-1, -1)), each.order)
    with contextlib.ExitStack() as kept:
        sender = None
        for place, piece in enumerate(todo):
            standing = piece.statistics[0].source.standing
            if (*piece.key, way) in before:
                report.known.append(piece.key)
            else:
                sent = by == "release" or piece.order > newest.get(standing, (-1, -1))
                made = entities(piece, by, wanted)
                try:
                    if sent:
                        sender = sender or kept.enter_context(client(broker))
                        broker.deliver(made, sender)
                except PeerError as fault:
                    report.failed.append((piece.key, str(fault)))
                    if isinstance(fault, Unreachable):
                        report.left += [p.key for p in todo[place + 1 :] if (*p.key, way) not in before]
                        return report
                    continue
                outbox.note(
                    broker.name, Delivered(*piece.key, way, standing, piece.order, len(made), _hash(made), sent)
                )
                (report.delivered if sent else report.superseded).append(piece.key)
                report.entities += len(made) if sent else 0
                newest[standing] = max(newest.get(standing, (-1, -1)), piece.order)
            if progress is not None:
                progress(place + 1, len(todo))
    return report


def _hash(made: Sequence[Entity]) -> str:
    told = [normalized(e) for e in made]
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
