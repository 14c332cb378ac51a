"""Residents under different trust models, who answer one question together."""

from __future__ import annotations

import json

import numpy as np
import pytest

import datasov as ds
from datasov.errors import ConsentError, InvalidQueryError, StoreError
from datasov.model.noise import Noise
from datasov.model.privacy import Trust, mixed
from datasov.model.programme import TRUSTS
from datasov.mpc.noised import NoisedReport
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from datasov.tlog.record import pack_release, unpack_release
from tests.helpers import PURPOSE, TRIPS
from tests.locals import ALL, COUNT, LARGE, MEAN, PURE, certain, city_of, person, read_task, send
from tests.servers import LONG, LOSS, TRUST, grant, opened, resident, silent

HOUR = 3600


@pytest.fixture
def world(tmp_path, clock):
    city, servers = city_of(tmp_path, clock, ALL)
    with city:
        yield city, servers


def closed(*people):
    for who in people:
        who.close()


def test_all_three_parts_add_to_one_release_that_says_who_is_trusted(tmp_path, clock, world, monkeypatch):
    city, servers = world
    silent(monkeypatch)
    certain(monkeypatch)
    clock.now += 2 * HOUR
    given = [("N", ds.central()), ("N", ds.central()), ("N", TRUST), ("E", TRUST), ("N", ds.local()), ("S", ds.local())]
    people = [person(tmp_path, clock, n, city, d, t) for n, (d, t) in enumerate(given)]
    before = city.remaining
    task = opened(city, COUNT, clock, LARGE)
    assert [who.part(task) for who in people] == [t for _, t in given]
    send(city, servers, people, task)
    with pytest.raises(InvalidQueryError, match="still open"):
        city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    clock.now += LONG
    release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    assert before.nano - city.remaining.nano == LARGE.nano, "each resident is in one part: the loss is spent once"
    assert release.values[0].tolist() == [3, 1, 0, 0]
    assert release.responses.tally.supports.tolist() == [1, 0, 1, 0]
    assert release.responses.tally.reports == 2
    frame = release.frame()
    assert np.allclose(frame["count"], np.array([3, 1, 0, 0]) + release.responses.tally.estimates())
    assert set(release.trust.trusted) == {"central", TRUST.text, "local"}
    assert release.mechanism == "discrete Laplace, randomised response"
    leaves = [decode_leaf(leaf) for leaf in city.log.leaves()]
    (told,) = [leaf for leaf in leaves if isinstance(leaf, ReleaseLeaf)]
    assert told.trust == city.trust.text == release.trust.text
    assert told.trust.partition("+")[0] == "mixed" in TRUSTS
    assert told.status
    assert unpack_release(pack_release(release)).digest == release.digest
    for who in people:
        assert len(who.receipts(city.log)) == 1
    closed(*people)


def test_the_pool_is_looked_at_when_the_task_is_opened(tmp_path, clock, world, monkeypatch):
    city, _ = world
    silent(monkeypatch)
    certain(monkeypatch)
    first = person(tmp_path, clock, 1, city, "N", ds.central())
    opened(city, COUNT, clock, LARGE)
    late = person(tmp_path, clock, 2, city, "N", ds.central())
    city.revoke(first.revoke(first.consents[0]))
    clock.now += LONG
    release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    assert release.values[0].tolist() == [1, 0, 0, 0]
    closed(first, late)


@pytest.mark.parametrize("trust", [TRUST, ds.local()], ids=["two servers", "local"])
@pytest.mark.parametrize("told", [False, True], ids=["not told", "told by the log"])
def test_who_changes_their_trust_is_never_in_two_parts(tmp_path, clock, world, monkeypatch, trust, told):
    city, servers = world
    silent(monkeypatch)
    certain(monkeypatch)
    who = person(tmp_path, clock, 1, city, "N", ds.central())
    letter = who.revoke(who.consents[0])
    clock.now += 86_400
    grant(who, city, loss=ds.pure(epsilon=1000), trust=trust)
    if told:
        city.revoke(letter)
        clock.now += 2 * HOUR
        city.tick()
        who.receipts(city.log)
        clock.now += 1
    task = opened(city, COUNT, clock, LARGE)
    assert who.part(task) == (trust if told else ds.central())
    send(city, servers, [who], task)
    clock.now += LONG
    release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    pooled = 0 if told else 1
    assert release.values[0].tolist() == [pooled + (told and trust == TRUST), 0, 0, 0]
    assert release.responses.tally.supports.tolist() == [int(told and trust == ds.local()), 0, 0, 0]
    assert (who.spent(LARGE, task).nano > 0) == told
    who.close()


@pytest.mark.parametrize(("first", "then"), [(TRUST, ds.local()), (ds.local(), TRUST)], ids=["servers", "local"])
def test_a_report_that_stands_goes_where_it_was_made_for(tmp_path, clock, world, first, then):
    city, servers = world
    who = person(tmp_path, clock, 1, city, "N", first)
    task = opened(city, COUNT, clock, LARGE)
    report = who.answer(task)
    clock.now += 60
    grant(who, city, loss=ds.pure(epsilon=1000), trust=then)
    assert who.answer(task) == report
    assert who.part(task) == first
    send(city, servers, [who], task)
    who.close()


def test_who_comes_to_the_pool_after_their_answer_is_in_one_part(tmp_path, clock, world, monkeypatch):
    city, servers = world
    silent(monkeypatch)
    who = person(tmp_path, clock, 1, city, "N", TRUST)
    task = opened(city, COUNT, clock, LARGE)
    send(city, servers, [who], task)
    clock.now += 60
    consent = grant(who, city, loss=ds.pure(epsilon=1000), trust=ds.central())
    city.admit(consent, who.contribute(consent))
    clock.now += LONG
    assert city.release(COUNT, loss=LARGE, purpose=PURPOSE).values[0].tolist() == [1, 0, 0, 0]
    who.close()


def test_the_lifetime_account_holds_both_accounts(tmp_path, clock, world):
    city, _ = world
    who = person(tmp_path, clock, 1, city, "N", ds.central(), loss=PURE)
    one = who.granted
    clock.now += 86_400
    grant(who, city, loss=PURE, trust=TRUST)
    assert who.granted.nano == 2 * one.nano
    clock.now += 86_400
    grant(who, city, loss=PURE, trust=ds.local())
    assert who.granted.nano == 2 * one.nano, "the vault charges these two to one account"
    who.close()


def test_no_token_is_taken_under_a_weaker_trust(tmp_path, clock, world):
    city, servers = world
    for name, trust in (("two", TRUST), ("local", ds.local())):
        who = person(tmp_path, clock, name, city, "N", trust)
        (consent,) = who.consents
        with pytest.raises(ConsentError):
            who.contribute(consent)
        pooled = grant(who, city, loss=PURE, trust=ds.central())
        with pytest.raises(ConsentError, match="another trust model"):
            city.admit(consent, who.contribute(pooled))
        who.close()
    swapped = ds.two_server(city=TRUST.aggregators[1], council=TRUST.aggregators[0])
    who = person(tmp_path, clock, "swapped", city, "N", swapped)
    task = opened(city, COUNT, clock, LARGE)
    servers.upload([who.answer(task)])
    assert who.spent(LARGE, task).nano == 0, "a null report: the aggregators are others"
    who.close()


def test_a_consent_names_one_model(tmp_path, clock, world):
    city, _ = world
    who = resident(tmp_path, clock, 1, {TRIPS: []})
    with pytest.raises(InvalidQueryError, match="one trust model"):
        grant(who, city, trust=city.trust)
    with pytest.raises(InvalidQueryError):
        Trust.parse(city.trust.text)
    who.close()


@pytest.mark.parametrize(
    "parts", [[ds.local()], [ds.local(), ds.local()], [mixed([ds.central(), ds.local()]), TRUST], []]
)
def test_what_is_no_mixture_is_refused(tmp_path, clock, parts):
    with pytest.raises(InvalidQueryError, match="several trust models"):
        ds.City.open(tmp_path / "c", budget=PURE, purposes=[PURPOSE], trust=parts, clock=clock)
    assert not (tmp_path / "c").exists()


def test_the_order_in_which_they_are_named_is_none(tmp_path, clock):
    trust = mixed(ALL[::-1])
    assert trust == mixed(ALL)
    assert Trust.from_document(json.loads(json.dumps(trust.document()))) == trust
    assert trust != mixed([ds.central(), ds.local()])
    assert (trust.draws, mixed([ds.central(), ds.local()]).draws, mixed([TRUST, ds.local()]).draws) == (3, 1, 2)
    city, _ = city_of(tmp_path, clock, ALL)
    city.close()
    with ds.City.open(tmp_path / "l.city", trust=list(ALL[::-1]), clock=clock) as again:
        assert again.trust == trust
        assert again.trust.aggregators == TRUST.aggregators
    with pytest.raises(StoreError):
        ds.City.open(tmp_path / "l.city", trust=[ds.central(), ds.local()], clock=clock)


def test_a_pool_and_two_servers_answer_in_zcdp_too_with_the_intervals_of_three_noises(tmp_path, clock, monkeypatch):
    city, servers = city_of(tmp_path, clock, [ds.central(), TRUST], budget=ds.zcdp(rho=1))
    servers.budgets = ds.zcdp(rho=1), ds.zcdp(rho=1)
    servers.stores = [type(s)() for s in servers.stores]
    servers.restart()
    people = [
        person(tmp_path, clock, n, city, d, t, loss=ds.zcdp(rho=1))
        for n, (d, t) in enumerate([("N", ds.central()), ("E", TRUST)])
    ]
    wide = ds.query(TRIPS).keys("district").bound(rows=4, keys=2).count().sum("km")
    task = opened(city, wide, clock, LOSS)
    assert read_task(task).asked is None
    send(city, servers, people, task)
    clock.now += LONG
    release = city.release(wide, loss=LOSS, purpose=PURPOSE)
    frame = release.frame()
    width = Noise(release.scales[0], "zcdp", 3).half_width(0.95)
    assert ((frame["count_high"] - frame["count_low"]) == 2 * width).all()
    preview = city.preview(wide, loss=LOSS)
    assert preview.frame["margin"][0] == width
    assert release.responses is None
    closed(*people)
    city.close()


def test_a_mean_of_all_three_lies_in_its_interval_which_is_a_box(tmp_path, clock, world, monkeypatch):
    city, servers = world
    silent(monkeypatch)
    certain(monkeypatch)
    people = [
        person(tmp_path, clock, n, city, "N", t, km=50) for n, t in enumerate([ds.central(), TRUST, ds.local(), TRUST])
    ]
    task = opened(city, MEAN, clock, LARGE)
    send(city, servers, people, task)
    clock.now += LONG
    frame = city.release(MEAN, loss=LARGE, purpose=PURPOSE).frame()
    top = TRIPS.column("km").high
    assert frame["km_mean"][0] == pytest.approx(50, abs=1)
    assert frame["km_mean_low"][0] <= 50 <= frame["km_mean_high"][0] <= top
    closed(*people)


def test_opened_again_it_is_the_same_task_and_nothing_is_drawn_twice(tmp_path, clock, world):
    city, servers = world
    who = person(tmp_path, clock, 1, city, "N", ds.central())
    servers.down.add(TRUST.aggregators[0].url)
    with pytest.raises(ds.PeerError):
        opened(city, COUNT, clock, LARGE)
    servers.down.clear()
    left = city.remaining
    task = opened(city, COUNT, clock, LARGE)
    assert opened(city, COUNT, clock, LARGE) == task
    assert city.remaining == left
    clock.now += LONG
    first = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    assert city.release(COUNT, loss=LARGE, purpose=PURPOSE).digest == first.digest
    assert city.remaining == left
    who.close()


def test_a_stranger_to_the_question_sends_a_null_report_to_two_servers(tmp_path, clock, world):
    city, servers = world
    who = resident(tmp_path, clock, 1, {TRIPS: [{"district": "N", "km": 7}]})
    task = opened(city, COUNT, clock, LARGE)
    assert who.part(task) == TRUST
    servers.upload([who.answer(task)])
    assert who.spent(LARGE, task).nano == 0
    with pytest.raises(ds.VerificationError):
        NoisedReport.from_bytes(who.answer(task))
    who.close()


def test_a_report_that_stands_is_not_sent_while_the_pool_counts(tmp_path, clock, world, monkeypatch):
    city, _ = world
    silent(monkeypatch)
    certain(monkeypatch)
    who = person(tmp_path, clock, 1, city, "N", ds.local())
    first = opened(city, COUNT, clock, LARGE)
    assert who.answer(first)
    clock.now += 86_400
    consent = grant(who, city, loss=ds.pure(epsilon=1000), trust=ds.central())
    city.admit(consent, who.contribute(consent))
    clock.now += 86_400
    grant(who, city, loss=ds.pure(epsilon=1000), trust=ds.local())
    second = opened(city, COUNT, clock, LARGE)
    assert who.answer(second) == b"", "the newest consent is local, and the pool still has the rows"
    clock.now += LONG
    release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
    assert (release.values[0].tolist(), release.responses.tally.reports) == ([1, 0, 0, 0], 0)
    who.close()
