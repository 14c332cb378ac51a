"""Claim: whoever holds two domains' pools, opened, cannot join them by any column but the rows' own values.

The adversary is the operator, with every key: tokens, events, blobs, shards, ledgers, revocations and the log of two
domains, and for each of the residents both are the same person. Whatever rule joins them, if nothing of what it looks
at depends on who is who, at least k of its pairs are right with a probability of at most 1/k!: the expected number of
k-tuples of right pairs is at most N (N-1) ... (N-k+1) tuples times (N-k)!/N! for each.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.authority import events, held, messages, token
from datasov.authority.registry import partition_name
from datasov.city import admitting as city_module
from datasov.model.shard import RESIDENT
from datasov.vault import Vault
from tests.helpers import NOW, PURPOSE, TRIPS
from tests.statistical.significance import CHECKS, TOTAL

PEOPLE = 40
POWER = ds.Schema("power", domain="energy", columns={"hour": ds.Integer(0, 23), "wh": ds.Integer(0, 9_000)})
ASKED = {TRIPS: ds.query(TRIPS).bound(rows=9).sum("km"), POWER: ds.query(POWER).bound(rows=9).sum("wh")}
LEAST = next(k for k in range(1, PEOPLE) if 1 / math.factorial(k) <= TOTAL / sum(CHECKS.values()))
"""So many right pairs come by chance less often than the significance of one statistical check."""


class Time:
    """A clock to the microsecond that goes on by some milliseconds each time that somebody looks."""

    def __init__(self, rng: random.Random) -> None:
        self.now, self._rng = float(NOW), rng

    def __call__(self) -> float:
        self.now += self._rng.uniform(0.001, 0.02)
        return self.now


class Town:
    """People who, each at an hour of their own, grant and contribute in two domains, and again on another day."""

    def __init__(self, folder: Path, seed: int, *, together: bool) -> None:
        self.rng, self.together = random.Random(seed), together
        self.clock, self.issuers = Time(self.rng), list[dict[ds.Schema, bytes]]()
        self.city = ds.City.open(
            folder / "lake.city", budget=ds.zcdp(rho=9), purposes=[PURPOSE], clock=self.clock, operator_key=bytes(32)
        )
        self.people = [
            ds.Resident.create(folder / str(i), device_key=bytes(32), clock=self.clock) for i in range(PEOPLE)
        ]
        self.ended: dict[bytes, messages.Revocation] = {}

    def live(self) -> None:
        consents = self.session(NOW, self.first)
        self.session(NOW + 3 * 86_400, lambda i, _: [(c, self.people[i].contribute(c)) for c in consents[i]])
        for query in ASKED.values():
            self.city.release(query, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        self.session(NOW + 5 * 86_400, lambda i, _: [self.end(i, c) for c in consents[i]][:0])
        self.city.tick()

    def first(self, i: int, consents: list[ds.Consent]) -> list[tuple[ds.Consent, bytes]]:
        rows = {
            TRIPS: [{"district": self.rng.choice("NESW"), "km": self.rng.randint(0, 50)}],
            POWER: [{"hour": self.rng.randint(0, 23), "wh": self.rng.randint(0, 9_000)}],
        }
        for schema, row in rows.items():
            self.people[i].put(schema, row * self.rng.randint(1, 40))
            consents.append(
                self.people[i].grant(self.city.id, schema, purpose=PURPOSE, loss=ds.zcdp(rho=1), until="2030-01-01")
            )
        self.issuers.append({s: c.claims.issuer for s, c in zip(rows, consents, strict=True)})
        return [(c, self.people[i].contribute(c)) for c in consents]

    def end(self, i: int, consent: ds.Consent) -> None:
        """Both of one person end one after the other."""
        sent = self.people[i].revoke(consent)
        self.ended[consent.claims.issuer] = messages.open_revocation(sent, self.city._who.opening, self.city.id)[1]
        self.city.revoke(sent)

    def session(
        self, day: int, act: Callable[[int, list[ds.Consent]], list[tuple[ds.Consent, bytes]]]
    ) -> list[list[ds.Consent]]:
        """Everybody acts at a random time of the day, in the order of these times; what they send is admitted."""
        starts = sorted((day + self.rng.uniform(0, 43_000), i) for i in range(PEOPLE))
        made = [list[ds.Consent]() for _ in range(PEOPLE)]
        order = [i for _, i in starts] if self.issuers else list(range(PEOPLE))
        sent = []
        for (start, _), i in zip(starts, order, strict=True):
            self.clock.now = max(self.clock.now, start)
            pairs = act(i, made[i])
            sent += pairs
            for pair in [] if self.together else pairs:
                self.admit([pair])
        if self.together:
            self.admit(sent)
        return made

    def admit(self, pairs: list[tuple[ds.Consent, bytes]]) -> None:
        if pairs:
            assert self.city.admit_many(pairs) == [None] * len(pairs)

    # --- what the operator sees

    def features(self, schema: ds.Schema) -> dict[bytes, dict[str, float]]:
        """For each issuer of a domain, everything about them that can be put in an order, but the rows' values."""
        name = partition_name(schema, PURPOSE)
        partition, found = self.city._registry.partition(name), dict[bytes, dict[str, float]]()
        spent = self.city._ledger.spent(name, len(partition))[0]
        rows = [self.city._pool._shard(schema, partition, n).rows for n in sorted(partition.shards)]
        held_rows = rows[0].with_row_index("at").group_by(RESIDENT).agg(pl.col("at").min(), many=pl.len())
        at = {place: (first, many) for place, first, many in held_rows.select(RESIDENT, "at", "many").iter_rows()}
        admissions = self.admissions(partition.stream)
        heads = self.heads(partition.stream)
        for issuer in (issuers[schema] for issuers in self.issuers):
            place = partition.places.get(issuer)
            mine = [(n, head) for n, head, _ in admissions if head["place"] == place]
            consent = next(token.reread(signed) for n, _, signed in admissions if n == mine[-1][0])
            claims, ended = consent.claims, self.ended[issuer]
            found[issuer] = {
                "place": place, "issuer": number(issuer), "token": number(claims.token_id),
                "digest": number(consent.digest), "issued": claims.issued,
                "from": claims.not_before, "until": claims.expires, "status": claims.status, "loss": claims.loss.nano,
                "columns": len(claims.coverage[0].columns), "length": len(consent.token),
                "sequence": int(mine[0][1]["sequence"]), "last sequence": int(mine[-1][1]["sequence"]),
                "between sequences": int(mine[-1][1]["sequence"]) - int(mine[0][1]["sequence"]),
                "terms": int(mine[0][1]["terms"]), "admitted": int(mine[0][1]["admitted"]),
                "last admitted": int(mine[-1][1]["admitted"]), "erasure": number(mine[0][1]["erasure"].tobytes()),
                "record": number(claims.record),
                "event": mine[0][0], "last event": mine[-1][0],
                "transaction": heads[mine[0][0]], "last transaction": heads[mine[-1][0]],
                "place in the transaction": mine[0][0] - min(n for n in heads if heads[n] == heads[mine[0][0]]),
                "revoked": ended.time, "revocation": number(ended.commitment), "spent": int(spent[place]),
                "first row": at[place][0], "rows": at[place][1],
            }  # fmt: skip
        return found

    def admissions(self, stream: str) -> list[tuple[int, np.void, bytes]]:
        """Place in the stream, fields and token of each admission."""
        bodies = [(n, e) for n, e in enumerate(self.city._store.read(stream)) if e[:1] == events.ADMIT]
        heads = events.admissions([e for _, e in bodies])
        return [(n, head, events.token_of(e)) for (n, e), head in zip(bodies, heads, strict=True)]

    def heads(self, stream: str) -> dict[int, int]:
        """For each entry of a stream the number of the transaction that wrote it."""
        found = {}
        for position, appended in self.city._store._db.execute("SELECT position, appended FROM heads"):
            for name, first, many in json.loads(appended)[0]:
                found.update({n: position for n in range(first, first + many) if name == stream})
        return found


def number(data: bytes) -> float:
    return float(int.from_bytes(data[:6], "big"))


def columns(town: Town) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Each feature in both domains: the i-th entry on either side is the same person's."""
    sides = []
    for schema in ASKED:
        seen = town.features(schema)
        mine = [seen[issuers[schema]] for issuers in town.issuers]
        sides.append({name: np.array([m[name] for m in mine], dtype=float) for name in mine[0]})
    return sides[0], sides[1]


def scaled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ranks from 0 to 1, equal values in a drawn order."""
    order = np.lexsort((rng.random(len(values)), values))
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values)) / (len(values) - 1)
    return ranks


def joins(town: Town, seed: int = 1) -> dict[str, int]:
    """How many people each rule joins rightly: by rank, by the nearest value, and by all features together."""
    rng = np.random.default_rng(seed)
    one, two = columns(town)
    found, everything = dict[str, int](), np.zeros((PEOPLE, PEOPLE))
    right = np.arange(PEOPLE)
    for name in one:
        a, b = scaled(one[name], rng), scaled(two[name], rng)
        partner = np.empty(PEOPLE, dtype=int)
        partner[np.argsort(a)] = np.argsort(b)
        found[name + ", by rank"] = int((partner == right).sum())
        far = np.abs(one[name][:, None] - two[name][None, :])
        found[name + ", nearest"] = int(((far + rng.random(far.shape) * 1e-9).argmin(axis=1) == right).sum())
        if len(set(one[name])) > 1 and len(set(two[name])) > 1:
            everything += np.minimum(np.abs(a[:, None] - b[None, :]), 0.1)
    found["all together"] = int((everything.argmin(axis=1) == right).sum())
    return found


def better_than_chance(town: Town) -> dict[str, int]:
    return {rule: right for rule, right in joins(town).items() if right >= LEAST}


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("met")) as built:
        yield built


@contextmanager
def town(folder: Path, **given: bool) -> Iterator[Town]:
    """A town that has lived. These many small vaults need not survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        built = Town(folder, 11, **{"together": True, **given})
        built.live()
        yield built
        for resident in built.people:
            resident.close()
        built.city.close()


def test_two_domains_are_joined_no_better_than_by_chance(met):
    assert better_than_chance(met) == {}


def test_no_bytes_of_a_persons_tokens_are_in_both_domains(met):
    """Sixteen bytes on end that no other token of the domain has."""
    sides = []
    for schema in ASKED:
        stream = met.city._registry.partition(partition_name(schema, PURPOSE)).stream
        found = {t: token.reread(t).claims.issuer for _, _, t in met.admissions(stream)}
        tokens = [next(t for t, issuer in found.items() if issuer == i[schema]) for i in met.issuers]
        windows = [{t[i : i + 16] for i in range(len(t) - 15)} for t in tokens]
        often = Counter(w for own in windows for w in own)
        sides.append([{w for w in own if often[w] == 1} for own in windows])
    assert all(len(own) > 100 for side in sides for own in side)
    assert sum(bool(one & two) for one, two in zip(*sides, strict=True)) < LEAST


# --- what would join them, and what does


def test_times_order_and_keys_that_tell_are_noticed(tmp_path, monkeypatch):
    """Planted: seconds in consents and revocations, microseconds in sequences, order of arrival, one key for all."""
    real, key = Vault.derive, b"datasov consent key v1 "
    monkeypatch.setattr("datasov.resident.granting.day", int)
    monkeypatch.setattr(held, "next_sequence", lambda last, now: int(now * 1e6))
    monkeypatch.setattr(city_module, "mixed", lambda verified: list(range(len(verified))))
    monkeypatch.setattr(
        Vault, "derive", lambda self, info: real(self, key + info[-32:] if info.startswith(key) else info)
    )
    with town(tmp_path) as met:
        found = better_than_chance(met)
    assert {"issued, nearest", "from, nearest", "revoked, nearest", "between sequences, nearest"} <= found.keys()
    assert min(found["sequence, nearest"], found["last sequence, nearest"]) > PEOPLE * 0.8
    assert found["place, by rank"] == found["event, by rank"] == found["issuer, nearest"] == PEOPLE


def test_the_limit_admitted_one_by_one_the_order_joins_everybody(tmp_path):
    """The limit that docs/identity.md states: what a registry keeps of the order is then the order of arrival."""
    with town(tmp_path, together=False) as met:
        found = better_than_chance(met)
    assert found["place, by rank"] == found["transaction, by rank"] == PEOPLE
    order = (
        "place",
        "event",
        "last event",
        "transaction",
        "last transaction",
        "first row",
        "admitted",
        "last admitted",
        "all together",
    )
    assert all(rule.split(",")[0] in order for rule in found)
