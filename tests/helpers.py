"""What many tests share: a clock, signed residents without a vault, a pool without a city, and a store in memory."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.authority import messages, token
from datasov.authority.admission import Admission, pack_table
from datasov.authority.coverage import coverage
from datasov.authority.registry import Registry
from datasov.crypto.sign import SigningKey
from datasov.errors import ConflictError, StoreError
from datasov.kernel.contribute import Exact, add, contribute, total
from datasov.kernel.ledger import Ledger
from datasov.kernel.plan import compile
from datasov.model import frames
from datasov.model.consent import Claims, Consent
from datasov.model.derived import sources
from datasov.model.plan import Plan, Request
from datasov.model.privacy import Loss
from datasov.model.shard import Part
from datasov.pool.draft import Draft
from datasov.pool.pool import Pool

NOW = 1_800_000_000
PURPOSE = "bus-planning"
TRIPS = ds.Schema(
    "trips", domain="mobility", columns={"district": ds.Category("NESW"), "km": ds.Integer(0, 50)}, keys=[("district",)]
)
PEOPLE = ds.Schema(
    "people", domain="administration", kind="attributes",
    columns={"age": ds.Integer(0, 120), "ward": ds.Category(["a", "b", "c"], nullable=True)},
)  # fmt: skip
COUNT = ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count()
RHO = ds.zcdp(rho="0.1")
_fresh = itertools.count(1)


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return float(self.now)


def key_of(name: object) -> SigningKey:
    """A signing key of its own for each name."""
    return SigningKey(hashlib.sha256(repr(name).encode()).digest())


def claims_for(
    city: ds.City | ds.CityId, schema: ds.Schema, name: object, *, purpose: str = PURPOSE, loss: Loss = RHO,
    columns: Iterable[str] | None = None, join: Mapping[ds.Schema, Iterable[str] | None] | Sequence[ds.Schema] = (),
    reads: Iterable[ds.Schema] = (),
    issued: int = NOW - 100, expires: int = NOW + 10**8, **changed: Any,
) -> Claims:  # fmt: skip
    """The claims of a consent that a test signs itself."""
    serial = next(_fresh).to_bytes(16, "big")
    values: dict[str, Any] = {
        "issuer": key_of(name).public, "audience": str(city.id if isinstance(city, ds.City) else city),
        "token_id": serial, "issued": issued, "not_before": issued, "expires": expires,
        "coverage": coverage(schema, columns, join, reads), "purpose": purpose,
        "trust": ds.central(), "loss": loss, "jurisdiction": "JP", "status": next(_fresh),
    }  # fmt: skip
    return Claims(**{**values, **changed})


def consent_for(city: ds.City | ds.CityId, schema: ds.Schema, name: object, **given: Any) -> Consent:
    return token.issue(claims_for(city, schema, name, **given), key_of(name))


def packed(schema: ds.Schema, rows: frames.Rows, columns: Sequence[str] | None = None) -> bytes:
    codes = frames.encode(schema, rows)
    return pack_table(schema, codes if columns is None else codes.select(columns))


def signed(
    city: ds.City | ds.CityId, consent: Consent, name: object, sequence: int, rows: bytes,
    profiles: Sequence[tuple[str, bytes]] = (), commitment: bytes | None = None,
) -> bytes:  # fmt: skip
    """A contribution of packed tables, signed by `name` and sealed to the city."""
    body = messages.Contribution(
        consent.digest, sequence, commitment or hashlib.sha256(consent.digest + sequence.to_bytes(8, "big")).digest(),
        rows, tuple(profiles),
    )  # fmt: skip
    return messages.sign_contribution(body, key_of(name), city.id if isinstance(city, ds.City) else city)


def contribution(
    city: ds.City, consent: Consent, name: object, sequence: int, schema: ds.Schema, rows: frames.Rows,
    profiles: Mapping[ds.Schema, frames.Rows] | None = None,
) -> bytes:  # fmt: skip
    """What the consent covers of logical rows."""
    base, *joined = consent.claims.coverage
    tables = {s.name: (s, r) for s, r in (profiles or {}).items()}
    sent = [(c.table, packed(*tables[c.table], c.columns)) for c in joined]
    return signed(city, consent, name, sequence, packed(schema, rows, base.columns), sent)


def revocation(consent: Consent, name: object, time: int = NOW) -> bytes:
    signed = messages.sign_revocation(
        messages.Revocation(consent.digest, time, hashlib.sha256(consent.digest).digest()), key_of(name)
    )
    return messages.seal_revocation(signed, consent, ds.CityId.parse(consent.claims.audience))


def instant(seconds: int) -> dt.datetime:
    """A time of the tests' clocks, as `until=` takes it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def few_lists(patch: pytest.MonkeyPatch) -> None:
    """Let ticks publish 16 status lists and marks and not 256, where lists are not the point: they take a while."""
    patch.setattr("datasov.authority.lists.padded", lambda real: 16 * (1 + real // 16))


def enrol(
    city: ds.City, names: Iterable[object], rows: Callable[[Any], frames.Rows], *, schema: ds.Schema = TRIPS,
    sequence: int = 1, profiles: Callable[[Any], Mapping[ds.Schema, frames.Rows]] | None = None, **given: Any,
) -> list[Consent]:  # fmt: skip
    """Admit a resident for each name, in this order; the consents."""
    found = [consent_for(city, schema, n, **given) for n in names]
    pairs = [
        (c, contribution(city, c, n, sequence, schema, rows(n), profiles(n) if profiles else None))
        for c, n in zip(found, names, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasov.city.admitting.mixed", lambda verified: list(range(len(verified))))
        refused = [r for r in city.admit_many(pairs) if r is not None]
    assert not refused, refused
    return found


def found_city(folder: Path, clock: Callable[[], float], **given: Any) -> ds.City:
    """A small city: budget 1, one purpose."""
    return ds.City.open(folder / "lake.city", clock=clock, **{"budget": ds.zcdp(rho=1), "purposes": [PURPOSE], **given})


def outputs(ledger: Ledger) -> list[bytes]:
    """All persisted outputs of a ledger, in order, without their keys."""
    return [bytes(body[32:]) for body in ledger.store.read("releases")]


class MemoryStore:
    """Streams and blobs in memory, under the contract of tests/conformance/test_stores.py."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.streams: dict[str, list[bytes]] = {}
        self.blobs: dict[str, bytes] = {}

    def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
        with self._lock:
            return self.streams.get(stream, [])[after : None if limit < 0 else after + limit]

    def append(
        self, batch: Mapping[str, tuple[int, Sequence[bytes]]], blobs: Mapping[str, bytes | None] | None = None
    ) -> None:
        with self._lock:
            for stream, (expected, _) in batch.items():
                if self.length(stream) != expected:
                    raise ConflictError(f"stream {stream} moved on")
            for stream, (_, bodies) in batch.items():
                self.streams.setdefault(stream, []).extend(bodies)
            for name, blob in (blobs or {}).items():
                if blob is None:
                    self.blobs.pop(name, None)
                else:
                    self.blobs[name] = blob

    def length(self, stream: str) -> int:
        with self._lock:
            return len(self.streams.get(stream, []))

    def blob(self, name: str) -> bytes:
        with self._lock:
            if name not in self.blobs:
                raise StoreError("no such blob")
            return self.blobs[name]


CITY_ID = ds.CityId("lake", key_of("city").public, bytes(range(32)))
Row = dict[str, object]


class Harness:
    """A registry and a pool, without a city and without noise: what the exact totals of a question are."""

    def __init__(self, folder: Path, *, per_shard: int = 8192, key: bytes = bytes(range(32))) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store)
        self.pool = Pool(folder, self.store, self.registry, key, lambda: NOW, per_shard)  # type: ignore[arg-type]
        self._serial = itertools.count(1)

    def admit(
        self, schema: ds.Schema, batch: Mapping[object, Sequence[Row]], profiles: Mapping[ds.Schema, Mapping[Any, Row]],
        columns: Mapping[object, Sequence[str]] | None = None, reads: Sequence[ds.Schema] = (),
    ) -> None:  # fmt: skip
        """Admit each resident's rows, derived columns as they are given, as one draft, under consents of their own."""
        serial = next(self._serial)
        draft = Draft(self.registry, self.store, self.pool, NOW)  # type: ignore[arg-type]
        for name, rows in batch.items():
            covered = (columns or {}).get(name, list(schema.columns))
            consent = consent_for(
                CITY_ID, schema, name, join=list(profiles), columns=covered, issued=NOW - 10**6 + serial,
                reads=[s for s in reads if sources(schema.column(c) for c in covered)],
            )  # fmt: skip
            codes = codes_of(schema, rows)
            joined = {
                s.name: frames.encode(s, [of[name]]) if name in of else frames.empty_codes(s)
                for s, of in profiles.items()
            }
            admission = Admission(
                consent, serial, hashlib.sha256(consent.token).digest(),
                codes.select(consent.claims.coverage[0].columns), joined, (schema, *profiles),
            )  # fmt: skip
            assert draft.add(admission)
        draft.write()

    def totals(self, query: ds.Query, *, shuffle: np.random.Generator | None = None) -> np.ndarray:
        """Exact totals of a question over everybody eligible, as :func:`summed`, as the monitor adds them."""
        plan = compile(query)
        snapshot = self.pool.snapshot(Request(plan, Loss(10**6), PURPOSE, ds.central(), 0))
        shards = list(snapshot.shards)
        if shuffle is not None:
            shuffle.shuffle(shards)
        parts = [contribute(plan, s, snapshot.eligible[s.first : s.first + s.residents]) for s in shards]
        return summed(plan, parts)


def summed(plan: Plan, parts: Sequence[Part]) -> np.ndarray:
    """The totals of parts in which everybody pays, as :func:`padded`; unknown keys at the places of their cells."""
    added = add([total(plan, p, np.ones(p.residents, dtype=np.bool_)) for p in parts], plan)
    if not plan.unknown:
        return values(added)
    dense = np.zeros((len(plan.statistics), plan.cells), dtype=np.int64)
    dense[:, added._cells] = added._values
    return dense


def values(exact: Exact) -> np.ndarray:
    """The numbers in exact totals, as :func:`padded`: tests alone look."""
    return padded(exact._values)


def padded(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors as rows of one array, shorter ones with zeros at their end."""
    out = np.zeros((len(vectors), max(map(len, vectors))), dtype=np.int64)
    for row, vector in zip(out, vectors, strict=True):
        row[: len(vector)] = vector
    return out


def within(plan: Plan, difference: np.ndarray) -> bool:
    """Whether a difference of totals stays within the claimed sensitivities: L2 (squared), L1 and the largest entry."""
    return all(
        sum(int(v) ** 2 for v in row) <= s.squared_sensitivity
        and sum(abs(int(v)) for v in row) <= s.l1_sensitivity
        and max(abs(int(v)) for v in row) <= s.most
        for row, s in zip(difference, plan.statistics, strict=True)
    )


def codes_of(schema: ds.Schema, rows: Sequence[Row]) -> pl.DataFrame:
    """Codes of rows, in which derived columns are given like any other: what a vault would have computed."""
    given = {n: ds.Boolean() if isinstance(c, ds.Exists) else c for n, c in schema.items}
    plain = ds.Schema(schema.name, domain=schema.domain, kind=schema.kind, columns=given)
    return frames.encode(plain, list(rows)) if rows else frames.empty_codes(plain)
