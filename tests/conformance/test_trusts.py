"""One suite over the trust models: without noise devices and two servers give what the central pool gives."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import datasov as ds
from datasov.authority.registry import partition_name
from datasov.crypto.kdf import hkdf
from datasov.kernel.contribute import contribute, shares
from datasov.kernel.plan import compile
from datasov.model import responses
from datasov.model.charges import amounts
from datasov.model.plan import Request
from datasov.mpc import local
from datasov.mpc.task import read_task
from datasov.pool.ranks import ranked
from datasov.resident import answering
from tests.helpers import COUNT, PEOPLE, PURPOSE, TRIPS, Clock, Harness, key_of, padded
from tests.locals import Way
from tests.servers import LONG, grant, opened, resident, silent, two_server_city

LOSS = ds.zcdp(rho="0.001")
NAMES = range(10)
RIDES = {n: [{"district": "NESW"[(n * k) % 4], "km": (7 * n * k) % 51} for k in range(n % 7)] for n in NAMES}
AGES = {n: {"age": 20 + 3 * n, "ward": (None, "a", "b", "c")[n % 4]} for n in NAMES if n % 2 == 0}

ONE = ds.query(TRIPS).keys("district").bound(rows=1, keys=1)
QUESTIONS = {
    "one cell": (ONE.count(), ["histogram"]),
    "residents": (ds.query(TRIPS).keys("district").bound(rows=5, keys=2).distinct(), ["multihot"]),
    "counts": (COUNT, ["sum-vec"]),
    "sums that bind": (ONE.count().sum("km"), ["histogram", "sum-vec"]),
    "sums in two keys": (ds.query(TRIPS).keys("district").bound(rows=2, keys=2).count().sum("km"), ["sum-vec"] * 2),
    "means": (COUNT.mean("km"), ["sum-vec", "sum-vec"]),
    "variances": (COUNT.variance("km"), ["sum-vec"] * 3),
    "medians": (COUNT.median("km"), None),
    "medians of one row": (ONE.median("km"), None),
    "of all": (ds.query(TRIPS).bound(rows=1, keys=1).count(), ["count"]),
    "rows of all": (ds.query(TRIPS).bound(rows=4, keys=1).count().mean("km"), ["sum", "sum"]),
    "where": (COUNT.where(ds.col("km") > 10).sum("km"), ["sum-vec", "sum-vec"]),
    "blind": (ds.query(TRIPS).keys(ds.bin("km", [10, 20])).bound(rows=3, keys=2).count().distinct(), None),
    "joined": (COUNT.join(PEOPLE).keys("people.ward").where(ds.col("people.age") >= 30), ["sum-vec"]),
    "rows in a key": (COUNT.rows_per_key("0.9", high=7).keys_per_resident("0.9", high=3), None),
    "within the person": (COUNT.sum("km", low=0, high=99, per="district"), None),
    "coverage": (COUNT.coverage(), ["sum-vec", "count"]),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The same residents in a pool, and with vaults of their own under a city of two servers."""
    folder, clock = tmp_path_factory.mktemp("both"), Clock()
    harness = Harness(folder / "pool")
    harness.admit(TRIPS, RIDES, {PEOPLE: AGES})
    city, servers = two_server_city(folder, clock)
    people = []
    for n in NAMES:
        who = resident(folder, clock, n, {TRIPS: RIDES[n], **({PEOPLE: [AGES[n]]} if n in AGES else {})})
        grant(who, city, join=[PEOPLE] if n in AGES else [])
        people.append(who)
    yield harness, city, servers, people, clock
    for who in people:
        who.close()
    city.close()


def as_the_pool(harness: Harness, patch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let devices choose the rows that the pool chooses: its rank secret, and the name that it knows each one by."""
    pool = hkdf(bytes(range(32)), salt=b"", info=b"datasov pool rank secret v1")
    secret = hkdf(pool, salt=b"", info=bytes.fromhex(partition_name(TRIPS, PURPOSE)))
    now = {"name": 0}

    def same(rows, schema, _, __):
        who = np.frombuffer(hashlib.sha256(key_of(now["name"]).public).digest()[:8], dtype="<u8").astype(np.uint64)
        return ranked(rows, schema, secret, who)

    patch.setattr(answering, "ranked", same)
    return now


@pytest.mark.parametrize("question", QUESTIONS)
def test_two_servers_without_noise_are_the_central_pool(world, question, monkeypatch):
    harness, city, servers, people, clock = world
    query, kinds = QUESTIONS[question]
    silent(monkeypatch)
    expected = harness.totals(query)
    now = as_the_pool(harness, monkeypatch)
    signed = opened(city, query, clock, LOSS)
    task = read_task(signed)
    if kinds is not None:
        assert [f.kind for f in task.fits] == kinds
    reports, prices = [], []
    for n, who in zip(NAMES, people, strict=True):
        now["name"] = n
        before = who.spent(LOSS, signed)
        reports.append(who.answer(signed))
        prices.append((who.spent(LOSS, signed) - before).nano)
    servers.upload(reports)
    clock.now += LONG
    release = city.release(query, loss=LOSS, purpose=PURPOSE)
    assert padded(release.values).tolist() == expected.tolist()
    plan = compile(query)
    snapshot = harness.pool.snapshot(Request(plan, LOSS, PURPOSE, ds.central(), 0))
    owed = np.zeros(len(NAMES), dtype=np.int64)
    for shard in snapshot.shards:
        here = slice(shard.first, shard.first + shard.residents)
        part = contribute(plan, shard, snapshot.eligible[here])
        owed[here] = amounts(shares(plan, part, LOSS), LOSS.nano)
    assert prices == owed.tolist()


@pytest.mark.parametrize(
    "query",
    [COUNT.top(2), ds.query(TRIPS).keys(ds.unknown("km")).bound(rows=3, keys=2).distinct()],
    ids=["top", "unknown"],
)
def test_what_two_servers_cannot_add_is_refused_with_the_trust_that_can(world, query):
    _, city, _, _, clock = world
    loss = ds.zcdp(rho="0.001", delta="1e-9") if query.highest is None else LOSS
    for ask in (lambda: opened(city, query, clock, loss), lambda: city.preview(query, loss=loss)):
        before = city.remaining
        with pytest.raises(ds.InvalidQueryError, match="central trust"):
            ask()
        assert city.remaining == before


FREQUENCIES = {
    "one cell": ONE.count(), "residents": ds.query(TRIPS).keys("district").bound(rows=1, keys=1).distinct(),
    "of all": ds.query(TRIPS).bound(rows=1, keys=1).count(), "where": ONE.where(ds.col("km") > 10).count(),
    "by age": ONE.join(PEOPLE).keys("people.ward").where(ds.col("people.age") >= 30).count(),
    "means": ONE.mean("km"), "sums that bind": ONE.count().sum("km"),
}  # fmt: skip


@pytest.mark.parametrize("enrol", [False, True], ids=["tags", "tokens"])
@pytest.mark.parametrize("question", FREQUENCIES)
def test_devices_without_noise_are_the_central_pool(world, question, enrol, monkeypatch, tmp_path):
    harness, _, _, people, clock = world
    query, loss = FREQUENCIES[question], ds.pure(epsilon=1)
    silent(monkeypatch)
    monkeypatch.setattr(local, "respond", lambda data, chance, _: b"\x01" * len(data) if chance == 0.5 else data)
    monkeypatch.setattr(responses.secrets, "randbelow", lambda width: width // 2)
    now = as_the_pool(harness, monkeypatch)
    founded = {"budget": loss, "purposes": [PURPOSE], "trust": ds.local(), "enrol": enrol}
    with ds.City.open(tmp_path / "c", clock=clock, **founded) as city:
        if enrol:
            city.enrol([(str(n), who.enrolment_key(city.id)) for n, who in zip(NAMES, people, strict=True)])
        for n, who in zip(NAMES, people, strict=True):
            grant(who, city, loss=loss, join=[PEOPLE] if n in AGES else [])
        task = opened(city, query, clock, loss)
        found, exact = read_task(task).asked.fit, harness.totals(query)
        for n, who in zip(NAMES, people, strict=True):
            now["name"] = n
            city.take(who.answer(task, post=Way(city)))
            covered = n in AGES or not query.profiles
            assert who.spent(loss, task) == (loss if covered else ds.Loss(0, "pure"))
        clock.now += LONG
        release = city.release(query, loss=loss, purpose=PURPOSE)
    assert release.responses.tally.reports == len(NAMES)
    supports = release.responses.tally.supports
    if found.total is None:
        assert supports.tolist() == padded(exact)[0][: len(supports)].tolist()
    else:
        assert supports.reshape(-1, 2).sum(axis=1).tolist() == padded(exact)[found.count][: len(supports) // 2].tolist()


@pytest.mark.parametrize("question", ["counts", "variances", "medians", "sums in two keys", "coverage", "of two rows"])
def test_what_devices_cannot_say_is_refused_with_the_trusts_that_can(clock, tmp_path, question):
    query = QUESTIONS[question][0] if question in QUESTIONS else ds.query(TRIPS).bound(rows=2, keys=1).count()
    with ds.City.open(tmp_path / "c", clock=clock, budget=LOSS, purposes=[PURPOSE], trust=ds.local()) as city:
        with pytest.raises(ds.InvalidQueryError, match="two servers or central trust"):
            opened(city, query, clock, ds.pure(epsilon="0.01"))
        assert city.remaining == LOSS
