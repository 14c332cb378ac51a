"""Claims of the two-server trust model, each with who tries to break it. docs/proofs/two-server.md

A device or a network that damages, replays, moves or invents reports; an aggregator that looks at all that it ever saw;
a city that asks again; a crash at every write.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.aggregator import leader, noising
from datasov.aggregator.messages import open_share
from datasov.aggregator.state import keys
from datasov.crypto.kdf import sha256
from datasov.crypto.seal import seal
from datasov.errors import DatasovError, VerificationError
from datasov.kernel import noise
from datasov.mpc import circuits
from datasov.mpc.report import Columns, Report, info, make_reports, open_shares
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.helpers import COUNT, PURPOSE, TRIPS, Clock, MemoryStore, found_city, outputs
from tests.servers import (
    IDS,
    LONG,
    LOSS,
    SECRETS,
    TRUST,
    Crash,
    FailingStore,
    Servers,
    grant,
    made_task,
    opened,
    resident,
    silent,
    two_server_city,
)
from tests.statistical.significance import Share, discrete_laplace, fits

SHARE = Share("servers")
CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
SUMS = ds.query(TRIPS).keys("district").bound(rows=2, keys=2).mean("km")
QUESTIONS = {"histogram": CELL, "multihot": COUNT.distinct(), "signed sums": SUMS}
FEW = CELL.where(ds.col("km") > 3)


@pytest.fixture
def pair(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    yield city, servers
    city.close()


def honest(task, count, seed=1):
    """Reports of random valid vectors, and what they sum to."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        vectors = []
        for fit in task.fits:
            vector = np.zeros(fit.entries, dtype=np.int64)
            if rng.random() < 0.8:
                vector[rng.integers(fit.entries)] = 1 if fit.maximum == 1 else rng.integers(-fit.offset or 1, 2)
            vectors.append(vector)
        made.append(vectors)
    return make_reports(task, made), [np.sum([m[i] for m in made], axis=0).tolist() for i in range(len(task.fits))]


def answer(city, clock, query, loss=LOSS):
    clock.now += LONG
    return city.release(query, loss=loss, purpose=PURPOSE)


def counted(city, servers, task):
    """How many reports are in the answer, as both aggregators say."""
    shares = cbor.decode(servers.leader.handle("collect", task.id))
    return {city._who.take(lambda _, key, r=r, s=s: open_share(s, task, r, key)).reports for r, s in enumerate(shares)}


def sent(servers, reports):
    """Upload one by one; which were taken in."""
    taken = []
    for report in reports:
        try:
            servers.upload([report])
        except DatasovError:
            taken.append(False)
        else:
            taken.append(True)
    return taken


# --- a device or a network


def flipped(pair, clock, query, bits):
    city, servers = pair
    task = read_task(opened(city, query, clock))
    good, expected = honest(task, 20)
    (size,) = {len(r) for r in good}
    places = [b for b in range(8 * size) if bits is None or b in bits(8 * size)]
    bad, _ = honest(task, len(places), seed=2)
    for i, bit in enumerate(places):
        damaged = bytearray(bad[i])
        damaged[bit // 8] ^= 1 << bit % 8
        bad[i] = bytes(damaged)
    servers.upload(good[:10])
    sent(servers, bad)
    servers.upload(good[10:])
    release = answer(city, clock, query)
    assert [v.tolist() for v in release.values] == expected
    assert counted(city, servers, task) == {20}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_report_with_a_flipped_bit_is_refused_and_the_rest_stands(pair, clock, question, monkeypatch):
    silent(monkeypatch)
    flipped(pair, clock, QUESTIONS[question], lambda size: set(range(0, size, size // 150)))


@pytest.mark.campaign
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_bit_of_a_report(pair, clock, question, monkeypatch):
    silent(monkeypatch)
    flipped(pair, clock, QUESTIONS[question], None)


def not_one_hot(rng):
    """An encoding of vectors of small numbers that are not one-hot: nothing, two cells, a two, and the like."""

    def encoded(circuit, measurements):
        shape = circuit.length, len(measurements)
        found = rng.integers(0, 3, shape) * (rng.random(shape) < 0.4)
        one = (found.sum(axis=0) == 1) & (found.max(axis=0) == 1)
        found[0, one] += 1 + (found[0, one] == 0)
        return found

    return encoded


def test_vectors_that_are_not_one_hot_are_refused(pair, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    good, expected = honest(task, 30)
    servers.upload(good)
    with monkeypatch.context() as patch:
        patch.setattr(circuits, "encode", not_one_hot(np.random.default_rng(3)))
        for _ in range(6):
            servers.upload(make_reports(task, [[np.zeros(4, dtype=np.int64)]] * 250))
            servers.leader.work()
    release = answer(city, clock, CELL)
    assert [v.tolist() for v in release.values] == expected
    assert counted(city, servers, task) == {30}


@pytest.mark.parametrize("part", [0, 1])
def test_a_report_of_which_one_statistic_is_invalid_counts_in_none(pair, clock, part, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    query = CELL.sum("km")
    task = read_task(opened(city, query, clock))
    assert len(task.fits) == 2
    good, expected = honest(task, 5)
    real, one = circuits.encode, [np.eye(4, dtype=np.int64)[0]] * 2
    with monkeypatch.context() as patch:
        spoilt = task.fits[part].vdaf.circuit
        patch.setattr(
            circuits, "encode",
            lambda circuit, measured: real(circuit, measured) + (2 if circuit == spoilt else 0)
        )  # fmt: skip
        bad = make_reports(task, [one] * 3)
    servers.upload([*good[:2], *bad, *good[2:]])
    release = answer(city, clock, query)
    assert [v.tolist() for v in release.values] == expected
    assert counted(city, servers, task) == {5}


@pytest.mark.campaign
def test_a_hundred_thousand_invented_vectors(clock, monkeypatch):
    """What both aggregators run on a report, without its seals."""
    task = read_task(made_task(CELL, clock)[0])
    vdaf, ctx, key = task.fits[0].vdaf, task.context(0), secrets.token_bytes(32)
    for valid in (True, *[False] * 100):
        with monkeypatch.context() as patch:
            if not valid:
                patch.setattr(circuits, "encode", not_one_hot(np.random.default_rng()))
            made = vdaf.shard(ctx, [0] * 1000, [secrets.token_bytes(16) for _ in range(1000)])
        begun = [
            vdaf.verify_init(
                key, ctx, role, [r.nonce for r in made], [r.public_share for r in made],
                [r.input_shares[role] for r in made],
            )
            for role in (0, 1)
        ]  # fmt: skip
        messages = vdaf.verifier_shares_to_message(ctx, [shares for _, shares in begun])
        for state, _ in begun:
            assert vdaf.verify_next(state, messages).valid.tolist() == [valid] * 1000


def test_replays_moves_and_mixtures_are_refused(pair, clock, monkeypatch):
    silent(monkeypatch)
    monkeypatch.setattr(leader, "BATCH", 256)
    city, servers = pair
    task, other = read_task(opened(city, CELL, clock)), read_task(opened(city, FEW, clock))
    good, expected = honest(task, 300)
    servers.upload([*good[:10], *good[:10]])  # within a batch
    servers.upload(good[:250])
    assert servers.leader.work() > 0
    servers.upload(good[:250])  # and across batches
    servers.restart()
    servers.upload(good[:250])  # and after a restart
    one, two = Report.from_bytes(good[0]), Report.from_bytes(honest(task, 1, seed=9)[0][0])
    moved = [
        replace(one, task=other.id),
        replace(one, nonce=secrets.token_bytes(16)),
        replace(one, sealed=(one.sealed[1], one.sealed[0])),
        replace(two, sealed=(two.sealed[0], one.sealed[1])),
        replace(two, public=one.public),
    ]
    sent(servers, [m.to_bytes() for m in moved])
    # A share for the helper that was made for the leader's number, and one under another task's context.
    vdaf = task.fits[0].vdaf
    for context, roles in ((task.context(0), (1, 0)), (other.context(0), (0, 1)), (task.context(1), (0, 1))):
        nonce = secrets.token_bytes(16)
        (made,) = vdaf.shard(context, [2], [nonce])
        sealed = tuple(
            seal(IDS[i].seal_key, made.input_shares[i], info(task, roles[i], nonce, [made.public_share]))
            for i in (0, 1)
        )
        sent(servers, [Report(task.id, nonce, (made.public_share,), sealed).to_bytes()])
    servers.upload(good[250:])
    release = answer(city, clock, CELL)
    assert [v.tolist() for v in release.values] == expected
    assert counted(city, servers, task) == {300}
    assert city.release(FEW, loss=LOSS, purpose=PURPOSE).values[0].tolist() == [0, 0, 0, 0]


def opens(task, role, key, report):
    columns = Columns([report.nonce], [[part] for part in report.public], ([report.sealed[0]], [report.sealed[1]]))
    (found,) = open_shares(task, role, key, columns)
    return found is not None and len(found[0]) == 1


def test_a_sealed_share_opens_for_its_task_aggregator_nonce_and_public_shares_alone(clock):
    """By itself: the proofs would refuse most of these too."""
    task, other = (read_task(made_task(CELL, clock)[0]) for _ in range(2))
    report = Report.from_bytes(honest(task, 1)[0][0])
    for role, secret in enumerate(SECRETS):
        key = keys(secret)[1]
        assert opens(task, role, key, report)
        for changed, of in (
            (report, other),
            (replace(report, nonce=bytes(16)), task),
            (replace(report, public=(report.public[0][::-1],)), task),
            (replace(report, public=(*report.public, b"")), task),
            (replace(report, sealed=report.sealed[::-1]), task),
        ):
            assert not opens(of, role, key, changed)


# --- a city


def test_no_silent_downgrade_and_no_other_pair(pair, tmp_path, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    (tmp_path / "central").mkdir()
    with found_city(tmp_path / "central", clock) as plain, pytest.raises(ds.InvalidQueryError, match="adds by itself"):
        opened(plain, CELL, clock)
    rows = {TRIPS: [{"district": "N", "km": 9}]}
    swapped = ds.two_server(city=IDS[1], council=IDS[0])
    whole = resident(tmp_path, clock, "whole", rows)
    consent = grant(whole, city)
    with pytest.raises(ds.ConsentError, match="no row leaves"):
        whole.contribute(consent)
    reports, task = [], opened(city, CELL, clock)
    for name, trust in (("central", ds.central()), ("swapped", swapped), ("right", city.trust)):
        who = resident(tmp_path, clock, name, rows)
        held = grant(who, city, trust=trust)
        if name == "central":
            with pytest.raises(ds.ConsentError, match="takes no rows"):
                city.admit(held, who.contribute(held))
        reports.append(who.answer(task))
        assert (who.spent(LOSS, task).nano > 0) is (name == "right")
        who.close()
    servers.upload(reports)
    whole.close()
    assert answer(city, clock, CELL).values[0].tolist() == [1, 0, 0, 0]
    path = tmp_path / "two.city"
    city.close()
    for other in (ds.central(), swapped):
        with pytest.raises(ds.StoreError, match="founded with"):
            ds.City.open(path, trust=other, clock=clock)


def test_a_central_city_admits_no_token_for_two_servers(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        who = resident(tmp_path, clock, "a", {TRIPS: [{"district": "N", "km": 9}]})
        consent = who.grant(city.id, TRIPS, purpose=PURPOSE, loss=LOSS, until="2028-12-31", trust=TRUST)
        central = who.grant(city.id, TRIPS, purpose=PURPOSE, loss=LOSS, until="2028-12-31")
        with pytest.raises(ds.ConsentError, match="another trust model"):
            city.admit(consent, who.contribute(central))
        who.close()


def test_each_aggregator_keeps_its_own_budget_whatever_the_city_asks(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    servers.stores, servers.budgets = [MemoryStore(), MemoryStore()], (ds.zcdp(rho="0.06"), ds.zcdp(rho="0.2"))
    servers.restart()
    opened(city, CELL, clock)
    with pytest.raises(ds.BudgetExceededError):
        opened(city, FEW, clock)
    assert [a.remaining for a in servers.both] == [ds.zcdp(rho="0.01"), ds.zcdp(rho="0.15")]
    assert opened(city, CELL, clock) == opened(city, CELL, clock)
    assert servers.leader.remaining == ds.zcdp(rho="0.01"), "one task, one loss"
    city.close()


def test_an_aggregator_takes_no_task_of_a_city_that_it_does_not_serve_or_that_was_changed(pair, clock):
    city, servers = pair
    signed = opened(city, CELL, clock)
    servers.leader.cities = frozenset()
    with pytest.raises(ds.ConsentError, match="serves"):
        servers.leader.handle("tasks", signed)
    for at in range(0, len(signed), max(1, len(signed) // 200)):
        changed = bytearray(signed)
        changed[at] ^= 1
        with pytest.raises(VerificationError):
            read_task(bytes(changed))


def test_the_helper_answers_its_leader_alone_and_no_batch_twice(pair, clock, monkeypatch):
    monkeypatch.setattr(leader, "BATCH", 256)
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    servers.upload(honest(task, 256)[0])
    servers.leader.work()
    jobs = [(path, body, answer) for url, path, body, answer in servers.said if path in ("jobs", "keys")]
    assert [path for path, *_ in jobs] == ["keys", "jobs"]
    before = servers.helper.store.streams["jobs/" + task.id.hex()][:]
    for path, body, answered in jobs:
        assert servers.helper.handle(path, body) == answered, "asked again, the same bytes"
        changed = bytearray(body)
        changed[-1] ^= 1
        with pytest.raises(VerificationError):
            servers.helper.handle(path, bytes(changed))
        with pytest.raises(DatasovError):
            servers.helper.handle("close", body)
    assert servers.helper.store.streams["jobs/" + task.id.hex()] == before


# --- an aggregator that looks


def test_the_view_of_either_aggregator_alone_is_uniform_and_says_nothing_of_a_report(pair, clock):
    """Null reports and one and the same cell, thousands of times: shares as they are opened, by their lowest octets."""
    city, _ = pair
    task = read_task(opened(city, CELL, clock))
    fit = task.fits[0]
    size, length = fit.vdaf.circuit.field.size, fit.vdaf.circuit.length
    for measurement in (fit.entries, 1):
        made = fit.vdaf.shard(task.context(0), [measurement] * 4000, [secrets.token_bytes(16) for _ in range(4000)])
        for role in (0, 1):
            shares = np.frombuffer(b"".join(r.input_shares[role] for r in made), np.uint8).reshape(4000, -1)
            seen = shares[:, : length * size].reshape(4000, length, size)[:, :, :8] if role == 0 else shares[:, :32]
            chance = stats.chisquare(np.bincount(seen.ravel(), minlength=256)).pvalue
            assert chance > SHARE.take(), (measurement, role)


def test_neither_server_can_tell_a_null_report(pair, clock, tmp_path):
    """All that a server keeps or is told: the same numbers, names and lengths, whether everybody refuses or nobody."""
    seen = []
    for world in ("refuse", "answer"):
        folder, now = tmp_path / world, Clock()
        folder.mkdir()
        city, servers = two_server_city(folder, now)
        signed = opened(city, CELL, now)
        task = read_task(signed)
        reports = []
        for n in range(6):
            who = resident(folder, now, n, {TRIPS: [{"district": "N", "km": n}] * (1 + n)})
            if world == "answer" or n % 2:
                grant(who, city, loss=ds.Loss(1) if world == "refuse" else ds.zcdp(rho=1))  # none, or spent
            reports.append(who.answer(signed, refuse=world == "refuse" and n == 5))
            who.close()
        servers.upload(reports)
        total = answer(city, now, CELL, LOSS).values[0]
        assert abs(int(total[0]) - (0 if world == "refuse" else 6)) < 60
        kept = [
            (name.replace(task.id.hex(), ""), [len(b) for b in bodies])
            for store in servers.stores for name, bodies in sorted(store.streams.items())
        ]  # fmt: skip
        kept += [(n.replace(task.id.hex(), ""), [len(b)]) for s in servers.stores for n, b in sorted(s.blobs.items())]
        told = [(path, len(body), len(answered)) for _, path, body, answered in servers.said]
        seen.append((kept, told, counted(city, servers, task)))
        city.close()
    assert seen[0] == seen[1]
    assert seen[0][2] == {6}


# --- noise


def test_one_partys_noise_taken_off_the_rest_still_has_the_whole_noise_of_the_other(pair, clock, monkeypatch):
    """Whoever runs one aggregator knows its noise: what is left must be discrete Gaussian of the full scale."""
    city, servers = pair
    schema = ds.Schema("cells", domain="mobility", columns={"x": ds.Integer(0, 1999)})
    query = ds.query(schema).keys(ds.bin("x", list(range(1, 2000)))).bound(rows=1, keys=1).count()
    drawn, draw = [], noise.draw
    monkeypatch.setattr(noising, "draw", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    for loss, law in ((ds.zcdp(rho="0.05"), None), (ds.pure(epsilon="0.5"), discrete_laplace)):
        made, drawn[:] = opened(city, query, clock, loss), []
        task = read_task(made)
        release = answer(city, clock, query, loss)
        (helper, leader), scale = drawn, task.plan.scales(loss)[0]
        for mine in (helper, leader):
            rest = release.values[0] - mine.values[0]
            assert fits(rest, scale, *([law] if law else [])) > SHARE.take()
        assert (release.values[0] == helper.values[0] + leader.values[0]).all()
        servers.restart()
        servers.leader.handle("collect", task.id)
        assert len(drawn) == 2, "asked again, nobody draws"


def crashing(clock, which, late, at):
    """A whole task in which one aggregator's process ends at its `at`-th write; whether it did."""
    crashes = []

    def insist(call):
        while True:
            try:
                return call()
            except Crash as crash:
                crashes.append(crash)
                servers.restart()

    signed, key = made_task(CELL, clock)
    task = read_task(signed)
    servers = Servers(clock, task.city)
    aggregator = servers.both[which]
    aggregator.store = aggregator.ledger.store = FailingStore(servers.stores[which], at, late)
    insist(lambda: servers.leader.handle("tasks", signed))
    good, expected = honest(task, 4, seed=at)
    insist(lambda: servers.upload(good))
    clock.now += LONG
    shares = insist(lambda: servers.leader.handle("collect", task.id))
    servers.restart()
    assert servers.leader.handle("collect", task.id) == shares
    found = [open_share(s, task, role, key) for role, s in enumerate(cbor.decode(shares))]
    assert {f.reports for f in found} == {4}
    assert [len(outputs(a.ledger)) for a in servers.both] == [2, 2], "a task and a share"
    noised = task.fits[0].joined(found[0].shares[0], found[1].shares[0], 4)
    assert (np.abs(noised - expected[0]) < 100).all()
    return bool(crashes)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("which", [0, 1], ids=["leader", "helper"])
def test_a_crash_at_any_write_draws_no_second_noise_that_leaves(clock, which, late):
    """At each write in turn: the same batch is aggregated in the end, and there is one pair of shares for ever."""
    crashed = [crashing(clock, which, late, at) for at in range(1, 14)]
    assert crashed[:5] == [True] * 5, "there was something to crash"
    assert not crashed[-1], "all writes were tried"


def test_no_sum_without_noise_and_no_report_is_left_once_the_noised_share_stands(pair, clock, monkeypatch):
    """Whoever gets hold of both stores later has the two noised shares, as the city had, and nothing more exact."""
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    reports, _ = honest(task, 5)
    servers.upload(reports)
    clock.now += LONG
    while servers.leader.work():
        pass
    sums = [cbor.decode(s.blobs["sum/" + task.id.hex()])[4] for s in servers.stores]
    assert all(len(each) == 1 for each in sums)
    shares = servers.leader.handle("collect", task.id)
    for store, (exact,) in zip(servers.stores, sums, strict=True):
        kept = [*store.blobs.values(), *(body for bodies in store.streams.values() for body in bodies)]
        assert not any(exact[:16] in each for each in kept)
        assert not any(report[60:90] in each for each in kept for report in reports)
    for store, (exact,) in zip(servers.stores, sums, strict=True):  # as after a crash before they were deleted
        name = "sum/" + task.id.hex()
        kept = cbor.decode(store.blobs[name])
        store.blobs[name] = cbor.encode([*kept[:4], [exact], *kept[5:]])
    servers.restart()
    assert servers.leader.handle("collect", task.id) == shares
    assert [cbor.decode(s.blobs["sum/" + task.id.hex()])[4] for s in servers.stores] == [[], []]
    assert servers.leader.work() == 0
    with pytest.raises(DatasovError, match="no reports now"):
        servers.upload(reports)


def test_the_hashes_that_the_stores_keep_do_not_tell_the_exact_share_to_who_knows_the_noised_one(clock):
    """A store's chain keeps the hash of each blob for good, and the city opens the noised share: it tries all noise."""
    signed, opening = made_task(ds.query(TRIPS).bound(rows=1, keys=1).count(), clock)
    task, servers = read_task(signed), Servers(clock, read_task(signed).city)
    servers.leader.handle("tasks", signed)
    servers.upload(honest(task, 5)[0])
    clock.now += LONG
    while servers.leader.work():
        pass
    name, size = "sum/" + task.id.hex(), task.fits[0].vdaf.circuit.field.size
    exact = [store.blobs[name] for store in servers.stores]
    parts = cbor.decode(servers.leader.handle("collect", task.id))
    for role, (before, store, part) in enumerate(zip(exact, servers.stores, parts, strict=True)):
        start, _, end = (cbor.decode(store.blobs[name])[s] for s in (slice(4), 4, slice(5, None)))
        (noised,) = open_share(part, task, role, opening).shares
        modulus, told = task.fits[0].vdaf.circuit.field.modulus, int.from_bytes(noised, "little")
        tried = [((told - n) % modulus).to_bytes(size, "little") for n in range(-2000, 2001)]
        assert cbor.decode(before)[4][0] in tried, "the right one is among them"
        assert sha256(before) not in {sha256(cbor.encode([*start, [share], *end])) for share in tried}


# --- bias


@pytest.mark.parametrize("question", QUESTIONS)
def test_half_the_devices_drop_out_without_bias(pair, clock, question, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    query = QUESTIONS[question]
    task = read_task(opened(city, query, clock))
    reports, _ = honest(task, 300)
    half, expected = honest(task, 150, seed=4)
    del reports  # made, and never sent
    servers.upload(half)
    release = answer(city, clock, query)
    assert [v.tolist() for v in release.values] == expected
    assert servers.leader.handle("collect", task.id) == servers.leader.handle("collect", task.id)
