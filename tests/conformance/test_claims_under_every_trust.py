"""One suite over the trust models: what the library claims of an answer holds whoever adds and noises.

Each claim has tests of its own under central trust (docs/proofs/conformance.md says which); here it is made under all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import DatasovError
from datasov.mpc.task import read_task
from datasov.tlog.bundle import verify_bundle
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from datasov.tlog.receipt import Receipt
from datasov.tlog.record import pack_release
from tests.governing import charter_for, programme_for, signed
from tests.helpers import NOW, PURPOSE, TRIPS, Clock, few_lists, instant
from tests.locals import ALL, COUNT, LARGE, PURE, certain, city_of, person, send
from tests.servers import LONG, TRUST, grant, opened, resident, silent

MODELS = {"central": ds.central(), "two servers": TRUST, "local": ds.local(), "all three": ALL}
DAY = 86_400


class World:
    """A city, and who answers it: at once where its pool does, and else through a task."""

    def __init__(self, folder: Path, clock: Clock, trust: object, **given: object) -> None:
        self.folder, self.clock, self._given = folder, clock, given
        self.city, self.servers = city_of(folder, clock, trust, **given)
        self.people: list[ds.Resident] = []

    @property
    def whole(self) -> ds.Trust:
        return self.city.trust

    def trust(self, number: int) -> ds.Trust:
        return self.whole.each[number % len(self.whole.each)]

    def person(self, district: str | None = "N", **given: object) -> ds.Resident:
        number = len(self.people)
        who = person(self.folder, self.clock, number, self.city, district, self.trust(number), **given)
        self.people.append(who)
        return who

    def open(self, query: ds.Query, loss: ds.Loss = LARGE, **given: object) -> bytes:
        """A question that is paid for: its task, or nothing where it is answered already."""
        if self.whole.name == "central":
            self.city.release(query, loss=loss, purpose=PURPOSE, **given)
            return b""
        return opened(self.city, query, self.clock, loss, **given)

    def ask(
        self, query: ds.Query, loss: ds.Loss = LARGE, people: Sequence[ds.Resident] | None = None, **given: object
    ) -> ds.Release:
        task = self.open(query, loss, **given)
        if task:
            send(self.city, self.servers, self.people if people is None else people, task)
            self.clock.now += LONG
        return self.city.release(query, loss=loss, purpose=PURPOSE, **given)

    def restart(self) -> None:
        path, post = self.city._path, self.city._post
        self.city.close()
        self.city = ds.City.open(path, clock=self.clock, post=post)
        self.servers.restart()

    def close(self) -> None:
        for who in self.people:
            who.close()
        self.city.close()


def counts(release: ds.Release) -> list[int]:
    """Of a release without noise: what the pool and the servers counted, and the devices' supports."""
    found = release.values[0].copy()
    if release.responses is not None:
        found += release.responses.tally.supports[: len(found)]
    return found.tolist()


@pytest.fixture(params=[*list(MODELS)[:3], pytest.param("all three", marks=pytest.mark.campaign)])
def model(request):
    return request.param


@pytest.fixture
def world(tmp_path, clock, model, monkeypatch):
    few_lists(monkeypatch)
    made = World(tmp_path, clock, MODELS[model])
    yield made
    made.close()


@pytest.fixture
def exact(monkeypatch):
    silent(monkeypatch)
    certain(monkeypatch)


def where(number: int) -> ds.Query:
    """One question of many, of everybody's row."""
    return COUNT.where(ds.col("km") > -number)


def test_a_stored_answer_is_given_again_byte_for_byte_whatever_happens(world):
    """With its noise as it was drawn: restarts, revocations, newcomers and other questions change nothing."""
    first, *_ = [world.person(d) for d in ("N", "N", "E", None)]
    given = pack_release(world.ask(COUNT, PURE))
    left = world.city.remaining
    world.person("N")
    with suppress(DatasovError):
        world.city.revoke(first.revoke(first.consents[0]))
    world.ask(where(1), PURE)
    for _ in range(2):
        world.restart()
        again = world.city.release(COUNT, loss=PURE, purpose=PURPOSE)
        assert pack_release(again) == given
    assert world.city.remaining.nano == left.nano - PURE.nano, "the other question alone"
    assert len(world.city.releases()) == 2


def test_whoever_asks_at_once_the_budget_holds_to_the_nano(tmp_path, clock, model, monkeypatch):
    few_lists(monkeypatch)
    world = World(tmp_path, clock, MODELS[model], budget=ds.pure(epsilon="2.999999999"))
    world.person("N")
    faults: list[Exception] = []

    def ask(number: int) -> None:
        try:
            world.open(where(number % 4), PURE)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(f) for f in faults} == {ds.BudgetExceededError}
    assert world.city.remaining == ds.Loss(PURE.nano - 1, "pure"), "two questions, each paid once"
    if TRUST in world.whole.each:
        left = {s.ledger.remaining().nano for s in world.servers.both}
        assert left == {ds.pure(epsilon=98).nano}, "each aggregator's own account"
    world.close()


def test_a_residents_cap_holds_and_a_renewal_refills_nothing(world, exact):
    """Everybody is in two answers and in no third one, whoever keeps the account: the city, or their own vault."""
    everybody = [world.person("N", loss=ds.Loss(2 * LARGE.nano, "pure")) for _ in world.whole.each]
    found = [counts(world.ask(where(n)))[0] for n in range(3)]
    assert found == [len(everybody), len(everybody), 0]
    world.clock.now += DAY
    for who in everybody:
        renewed = who.renew(who.consents[0], until="2028-12-31")
        if renewed.claims.trust.name == "central":
            world.city.admit(renewed, who.contribute(renewed))
    assert counts(world.ask(where(4)))[0] == 0


def test_what_is_sent_again_in_any_order_and_after_a_restart_counts_once(world, exact):
    everybody = [world.person("NE"[n % 2]) for n in range(6)]
    for who in everybody:
        if (consent := who.consents[0]).claims.trust.name == "central":
            newer = who.contribute(consent)
            world.city.admit(consent, newer)
            with pytest.raises(DatasovError):
                world.city.admit(consent, newer)
    task = world.open(COUNT)
    if task:
        send(world.city, world.servers, everybody, task)
        world.restart()
        send(world.city, world.servers, everybody[::-1], task)
        send(world.city, world.servers, everybody, task)
        world.clock.now += LONG
    assert counts(world.city.release(COUNT, loss=LARGE, purpose=PURPOSE)) == [3, 3, 0, 0]


KINDS = ("live", "revoked", "expired", "purpose", "columns", "version", "measure", "spent", "refuses", "none")
TABLE = ds.Schema("told", domain="mobility", columns={"kind": ds.Category(KINDS), "km": ds.Integer(0, 9)},
                  keys=[("kind",)])  # fmt: skip
OTHER = ds.Schema("told", domain="mobility", columns={"kind": ds.Category([*KINDS, "more"]), "km": ds.Integer(0, 9)},
                  keys=[("kind",)])  # fmt: skip
GIVEN = {
    "expired": {"until": instant(NOW + 2 * DAY)}, "purpose": {"purpose": "another"}, "columns": {"columns": ["kind"]},
    "measure": {"loss": ds.zcdp(rho=100)}, "spent": {"loss": ds.Loss(LARGE.nano - 1, "pure")},
}  # fmt: skip


def test_who_does_not_consent_to_the_very_question_is_not_in_it(tmp_path, clock, model, exact, monkeypatch):
    """Everybody sends what they have; the cell of each says whether it counted."""
    few_lists(monkeypatch)
    world = World(tmp_path, clock, MODELS[model], purposes=[PURPOSE, "another"])
    for number, kind in enumerate(KINDS):
        schema = OTHER if kind == "version" else TABLE
        for trust in world.whole.each if kind == "live" else [world.trust(number)]:
            who = resident(tmp_path, clock, f"{kind} {trust.name}", {schema: [{"kind": kind, "km": 5}]})
            world.people.append(who)
            if kind == "none":
                continue
            given = {"loss": ds.pure(epsilon=1000), "trust": trust, **GIVEN.get(kind, {})}
            consent = grant(who, world.city, schema, **given)
            if trust.name == "central":
                world.city.admit(consent, who.contribute(consent))
            if kind in ("revoked", "refuses"):
                letter = who.revoke(consent)
                if trust.name == "central":
                    world.city.revoke(letter)
    clock.now += 3 * DAY
    query = ds.query(TABLE).keys("kind").bound(rows=1, keys=1).count().where(ds.col("km") > 3)
    expected = [len(world.whole.each) * (kind == "live") for kind in KINDS]
    assert counts(world.ask(query)) == expected
    world.close()


def test_a_receipt_verifies_at_home_from_bytes_and_names_whom_to_trust(world):
    everybody = [world.person("N") for _ in world.whole.each]
    release = world.ask(COUNT, PURE)
    checkpoint = world.city.log.checkpoint()
    for who in everybody:
        (found,) = who.receipts(world.city.log)
        receipt = Receipt.from_bytes(found.to_bytes())
        receipt.verify(checkpoint.note)
        told = receipt.release
        assert (told.trust, told.result_digest, told.loss) == (release.trust.text, release.digest, PURE)
        assert set(release.trust.trusted) == {t.text for t in world.whole.each}
        at = found.to_bytes().index(b"extra ") + 60
        for place in range(at, at + 40, 7):
            changed = bytearray(found.to_bytes())
            changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
            with pytest.raises(DatasovError):
                Receipt.from_bytes(bytes(changed)).verify(checkpoint.note)
        bundle = verify_bundle(who.bundle(world.city.log), world.city.id)
        assert [r.release.result_digest for r in bundle.receipts] == [release.digest]


MECHANISMS = ("discrete Laplace", "randomised response", "discrete Laplace, randomised response")


def test_a_question_under_a_programme_keeps_to_it(world, exact, monkeypatch):
    city, name = world.city, world.whole.name
    world.person("N")
    city.adopt(signed(charter_for(city)))
    with pytest.raises(ds.ProgrammeError):
        world.open(COUNT)
    assert city.remaining == city.budget
    twice = ds.Loss(2 * LARGE.nano, "pure")
    programme = programme_for(
        city, trust=(name,), mechanisms=MECHANISMS, largest=LARGE, total=twice, period=twice, expires=NOW + 20 * DAY
    )
    identity = city.approve(signed(programme)).identity.hex()
    world.clock.now += 4 * DAY
    if name != "central":
        with pytest.raises(ds.ProgrammeError, match="ends before the collection"):
            city.collect(COUNT, loss=LARGE, purpose=PURPOSE, until=instant(NOW + 20 * DAY + 1), programme=identity)
        for until in (world.clock.now, world.clock.now + 367 * DAY):
            with pytest.raises(ds.InvalidQueryError, match="within a year"):
                city.collect(COUNT, loss=LARGE, purpose=PURPOSE, until=instant(until), programme=identity)
        assert city.remaining == city.budget
    release = world.ask(COUNT, programme=identity)
    assert counts(release) == [1, 0, 0, 0]
    assert release.programme == identity
    leaves = [decode_leaf(leaf) for leaf in city.log.leaves()]
    assert [leaf.programme.hex() for leaf in leaves if isinstance(leaf, ReleaseLeaf)] == [identity]
    (receipt,) = world.people[0].receipts(city.log)
    receipt.verify(city.log.checkpoint())
    assert receipt.approved.startswith("programme ")
    with pytest.raises(ds.ProgrammeError):
        world.open(COUNT.bound(rows=1, keys=1).mean("km"))
    world.open(where(1))
    with pytest.raises(ds.BudgetExceededError):
        world.open(where(2))
    world.clock.now += 20 * DAY
    with pytest.raises(ds.ProgrammeError):
        world.open(where(3))
    again = city.release(COUNT, loss=LARGE, purpose=PURPOSE, programme=identity, as_of=release.epoch)
    assert again.digest == release.digest


@pytest.mark.parametrize("trust", [ds.local(), ALL], ids=["local", "all three"])
def test_a_minimum_cohort_is_refused_where_devices_noise_before_anything_is_spent(tmp_path, clock, trust):
    world = World(tmp_path, clock, trust)
    world.city.adopt(signed(charter_for(world.city)))
    programme = programme_for(
        world.city, trust=(world.whole.name,), mechanisms=MECHANISMS, largest=LARGE, total=LARGE, period=LARGE, cohort=5
    )
    identity = world.city.approve(signed(programme)).identity
    clock.now += 4 * DAY
    query = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).distinct()
    with pytest.raises(ds.InvalidQueryError, match="minimum cohort"):
        world.open(query, programme=identity)
    assert world.city.remaining == world.city.budget
    world.close()


@pytest.mark.parametrize("trust", [TRUST, ds.local()], ids=["two servers", "local"])
def test_the_same_task_stands_however_often_it_is_opened_and_by_how_many(tmp_path, clock, trust):
    """Threads that open one collection at once, while others look at what is open."""
    world, found, seen, over = World(tmp_path, clock, trust), list[bytes](), list[list[bytes]](), threading.Event()
    reserve, both = world.city._ledger.reserve, threading.Barrier(2)

    def late(*given: object) -> object:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return reserve(*given)

    def look() -> None:
        while not over.is_set():
            seen.append(world.city.tasks())

    world.city._ledger.reserve = late
    lookers = [threading.Thread(target=look) for _ in range(3)]
    askers = [threading.Thread(target=lambda: found.append(world.open(COUNT))) for _ in range(4)]
    for thread in (*lookers, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    more = [world.open(where(n)) for n in range(3)]
    over.set()
    for thread in lookers:
        thread.join()
    assert len(set(found)) == 1
    assert world.city.tasks() == [found[0], *more], "each task once, and none is lost"
    assert all(len(set(each)) == len(each) for each in seen)
    assert world.city.remaining.nano == world.city.budget.nano - 4 * LARGE.nano
    assert len({read_task(t).id for t in world.city.tasks()}) == 4
    world.close()
