"""Simulated residents, each with a real vault, a real consent and a real contribution."""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from datasov.city import City
from datasov.crypto.kdf import random
from datasov.engine.spawned import spread
from datasov.errors import IndexTakenError, InternalError, InvalidQueryError
from datasov.model.consent import CityId, Consent
from datasov.model.privacy import Loss
from datasov.model.schema import Schema
from datasov.resident import Resident
from datasov.sim.simulation import MARK, Simulation

FEW = 250
"""Below so many residents the processes would take longer to start than to work."""

_SMALL = 64
"""Up to so many rows Polars takes longer to begin than plain values take to be read one by one."""

Tables = list[tuple[Schema, pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class Grant:
    """What residents of a simulation sign, as :meth:`datasov.Resident.grant` takes it.

    Attributes:
        residents: the numbers of those who sign it; everybody where None.
    """

    schema: Schema
    purpose: str
    loss: Loss
    columns: tuple[str, ...] | None = None
    join: tuple[Schema, ...] = ()
    reads: tuple[Schema, ...] = ()
    special: tuple[str, ...] = ()
    residents: frozenset[int] | None = None

    def sign(self, resident: Resident, city: CityId | str) -> Consent:
        """The consent of one resident, for a year."""
        until = dt.datetime.now(dt.UTC) + dt.timedelta(days=365)
        return resident.grant(
            city, self.schema, purpose=self.purpose, loss=self.loss, until=until, columns=self.columns, join=self.join,
            reads=self.reads, special=self.special,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The vaults of a simulation, and the keys that open them: right for a simulation, and nowhere else.

    Attributes:
        keys: of each resident the device key, 32 bytes. consents: of each resident those that they signed, in order.
    """

    folder: Path
    keys: tuple[bytes, ...]
    consents: tuple[tuple[Consent, ...], ...]

    def path(self, resident: int) -> Path:
        """Where a resident's vault lies."""
        return self.folder / f"{MARK}-{resident}.vault"

    def open(self, resident: int) -> Resident:
        """A resident's vault, opened with their key."""
        return Resident.open(self.path(resident), device_key=self.keys[resident])


def check_simulated(city: City) -> None:
    """Raise InvalidQueryError unless the city's name begins with "simulated": made-up people stay among themselves."""
    if not city.id.name.startswith(MARK):
        raise InvalidQueryError(f"a city of simulated residents says so in its name: City.open(..., name='{MARK} ...')")


def enrol(
    simulation: Simulation,
    city: City,
    grants: Iterable[Grant],
    folder: str | Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Enrolled:
    """Give every resident a vault with their rows, let them sign and contribute, and admit them.

    Keys, salts and ranks are drawn afresh each time, and so is the noise of what is asked then: the seed fixes the
    rows, and nothing that protects them.

    Args:
        folder: where the vaults go, `simulated-N.vault`; it is made where it is not there.
        progress: called with the residents done and how many there are.
        workers: processes; as many as processors where None, and one for few residents.

    Raises:
        InvalidQueryError: the city's name does not begin with "simulated".
        StoreError: a vault exists there, or the disk refuses.
    """
    check_simulated(city)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    agreed, keys, signed = tuple(grants), list[bytes](), list[tuple[Consent, ...]]()
    asked: list[tuple[int, int]] = []

    def sending() -> Iterator[tuple[Consent, bytes]]:
        for number, (key, sent) in enumerate(_all(simulation, city.id, agreed, path, workers)):
            keys.append(key)
            signed.append(tuple(consent for consent, _ in sent))
            asked.extend((number, at) for at in range(len(sent)))
            if progress:
                progress(number + 1, simulation.residents)
            yield from sent

    results = city.admit_many(sending())
    made = Enrolled(path, tuple(keys), ())
    for (number, at), refused in zip(asked, results, strict=True):
        while isinstance(refused, IndexTakenError):
            grant = _of(agreed, number)[at]
            with made.open(number) as resident:
                consent = grant.sign(resident, city.id)
                (refused,) = city.admit_many([(consent, resident.contribute(consent))])
            signed[number] = (*signed[number][:at], consent, *signed[number][at + 1 :])
        if refused is not None:
            raise InternalError("the city refused a simulated resident") from refused
    return Enrolled(path, tuple(keys), tuple(signed))


Made = tuple[bytes, list[tuple[Consent, bytes]]]


def _of(grants: Sequence[Grant], number: int) -> list[Grant]:
    return [g for g in grants if g.residents is None or number in g.residents]


def _one(job: tuple[int, Tables, list[Grant]], folder: Path, city: CityId) -> Made:
    number, tables, grants = job
    key = random(32)
    with Resident.create(folder / f"{MARK}-{number}.vault", device_key=key) as resident:
        resident.put_all([(s, rows.to_dicts() if rows.height <= _SMALL else rows) for s, rows in tables])
        consents = [g.sign(resident, city) for g in grants]
        return key, [(c, resident.contribute(c)) for c in consents]


def _all(
    simulation: Simulation, city: CityId, grants: Sequence[Grant], folder: Path, workers: int | None
) -> Iterator[Made]:
    none: dict[str, pl.DataFrame] = {s.name: rows.clear().drop("resident") for s, rows in simulation.tables}
    jobs: list[Any] = []
    for number, tables in enumerate(simulation.by_resident()):
        own = _of(grants, number)
        held = {s.name for s, _ in tables}
        missing = {s.name: s for g in own for s in (g.schema, *g.join, *g.reads) if s.name not in held}
        empty = [(s, none[name]) for name, s in missing.items() if s.kind == "events"]
        jobs.append((number, [*tables, *empty], [_bare(g) for g in own]))
    work = functools.partial(_one, folder=folder, city=city)
    many = (os.cpu_count() or 1) if workers is None else workers
    if many < 2 or len(jobs) < FEW:
        yield from map(work, jobs)
        return
    yield from spread(work, jobs, workers=many, chunk=8)


def _bare(grant: Grant) -> Grant:
    """Without the list of who signs, which need not travel to each process."""
    return replace(grant, residents=None)
