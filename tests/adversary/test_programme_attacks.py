"""Claim: no question escapes what its programme says, and no programme outlives or outspends itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov.errors import (
    BudgetExceededError,
    ProgrammeError,
)
from datasov.kernel.plan import compile
from datasov.model.charter import DAY
from datasov.model.consent import Coverage
from datasov.model.plan import Request
from datasov.model.template import Allowed
from datasov.notices import read_notices
from tests.adversary.asking import ask
from tests.adversary.test_kill import child
from tests.adversary.test_races import in_threads
from tests.audit import audit
from tests.governing import (
    BASE,
    COUNTS,
    TEMPLATE,
    charter_for,
    governed_city,
    programme_for,
    release,
    signed,
    unchanged,
    unchanged_but_ticks,
)
from tests.helpers import NOW, PEOPLE, PURPOSE, TRIPS, Clock, enrol


@pytest.fixture
def city(tmp_path: Path, clock: Clock):
    with governed_city(tmp_path, clock) as found:
        yield found


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory):
    """A city under a charter for tests that change nothing."""
    with governed_city(tmp_path_factory.mktemp("still"), Clock()) as found:
        yield found


@pytest.fixture(scope="module")
def still_running(tmp_path_factory: pytest.TempPathFactory):
    """A city with a programme that runs, for tests that change nothing."""
    clock = Clock()
    with governed_city(tmp_path_factory.mktemp("running"), clock) as found:
        found.approve(signed(programme_for(found)))
        clock.now += 3 * DAY
        yield found


@pytest.fixture
def running(city: ds.City, clock: Clock) -> ds.City:
    """A city with a programme that runs."""
    city.approve(signed(programme_for(city)))
    clock.now += 3 * DAY
    return city


# --- programmes


def test_a_programme_starts_after_its_notice_and_ends(city, clock):
    found = city.approve(signed(programme_for(city)))
    clock.now += 3 * DAY - 1
    unchanged_but_ticks(city, lambda: release(city), ProgrammeError)
    unchanged_but_ticks(city, lambda: release(city, programme=found.identity), ProgrammeError, "not started")
    clock.now += 1
    release(city)
    clock.now = found.programme.expires
    unchanged_but_ticks(city, lambda: release(city), ProgrammeError)
    unchanged_but_ticks(city, lambda: release(city, programme=found.identity), ProgrammeError, "over")


def test_a_later_version_takes_the_place_of_an_earlier_one(running, clock):
    first = running.programmes[0]
    second = running.approve(signed(programme_for(running, version=2, cohort=3, issued=NOW + 1, not_before=NOW + 2)))
    assert [p.identity for p in running.programmes] == [first.identity], "until it starts"
    clock.now += 3 * DAY
    assert [p.identity for p in running.programmes] == [second.identity]
    unchanged_but_ticks(running, lambda: release(running, programme=first.identity), ProgrammeError, "over")
    for version in (1, 2):
        again = signed(programme_for(running, version=version))
        unchanged(running, lambda again=again: running.approve(again), ProgrammeError, "version 2")


def test_a_charter_withdraws_a_programme_for_good(running, clock):
    (found,) = running.programmes
    running.adopt(signed(replace(charter_for(running), version=2, withdrawn=(found.identity,))))
    unchanged_but_ticks(running, lambda: release(running), ProgrammeError)
    running.adopt(signed(replace(charter_for(running), version=3)))
    unchanged_but_ticks(running, lambda: release(running, programme=found.identity), ProgrammeError, "over")


def asked(**changed: Any) -> dict[str, Any]:
    return {"query": COUNTS, "loss": ds.zcdp(rho="0.01"), **changed}


ESCAPES = {
    "a where on an unlisted column": asked(query=COUNTS.where(ds.col("district") == "N")),
    "the same beneath not and or": asked(query=COUNTS.where(~((ds.col("km") > 1) | ds.col("district").is_null()))),
    "an unlisted key": asked(query=ds.query(TRIPS).keys(ds.bin("km", [5])).bound(rows=5, keys=2).count()),
    "a listed key by other cuts": asked(query=ds.query(TRIPS).keys(ds.unknown("km")).bound(rows=5, keys=2).distinct(),
                                        loss=ds.zcdp(rho="0.01", delta=1e-9)),
    "an unlisted aggregate": asked(query=BASE.mean("km")),
    "a listed aggregate per item": asked(query=BASE.sum("km", low=0, high=9, per="km")),
    "a count of items of an unlisted column": asked(query=BASE.count(per="km")),
    "a quantile": asked(query=BASE.median("km")),
    "more rows": asked(query=ds.query(TRIPS).keys("district").bound(rows=6, keys=2).count()),
    "more keys": asked(query=ds.query(TRIPS).keys("district").bound(rows=5, keys=3).count()),
    "top": asked(query=BASE.count().top(1)),
    "a joined table": asked(query=ds.query(TRIPS).join(PEOPLE).keys("district").bound(rows=5, keys=2).count()),
    "a joined key": asked(query=ds.query(TRIPS).join(PEOPLE).keys("people.ward").bound(rows=5, keys=2).count()),
    "another measure": asked(loss=ds.pure(epsilon="0.01")),
    "a larger loss": asked(loss=ds.zcdp(rho="0.010000001")),
    "a larger pure loss": asked(loss=ds.pure(epsilon="0.2")),
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_no_question_escapes_the_template(still_running, name):
    given = ESCAPES[name]
    for programme in (None, still_running.programmes[0].identity):
        unchanged_but_ticks(
            still_running,
            lambda p=programme: release(still_running, given["query"], given["loss"], programme=p),
            ProgrammeError,
        )


NEAR = ds.Schema("visits", domain="health", columns={"dept": ds.Category(["a", "b"])})
DERIVED = ds.Schema("trips", domain="mobility", columns={
    "district": ds.Category("NESW"), "km": ds.Integer(0, 50), "ill": ds.Exists(NEAR, where=ds.col("dept") == "a"),
}, keys=[("district",)])  # fmt: skip


@pytest.mark.parametrize("query", [
    ds.query(DERIVED).keys("ill").bound(rows=5, keys=2).count(),
    ds.query(DERIVED).keys("district").bound(rows=5, keys=2).where(ds.col("ill").is_in([True])).count(),
    ds.query(DERIVED).keys("district").bound(rows=5, keys=2).count(per="ill"),
])  # fmt: skip
def test_a_derived_column_and_what_it_reads_must_be_named(city, clock, query):
    """Listed as a key, a where and an item, it is still no part of the programme: neither itself nor its sources."""
    template = replace(
        TEMPLATE, keys=(ds.Key("district"), ds.Key("ill")), where=("ill",),
        aggregates=(Allowed("count"), Allowed("count", "", ("ill", "value"))),
    )  # fmt: skip
    whole = Coverage("trips", DERIVED.digest, ("district", "km", "ill"))
    source = Coverage("visits", NEAR.digest, ("dept",))
    tables = ((replace(whole, columns=("district", "km")), source), (whole,), (whole, replace(source, columns=())))
    for n, named in enumerate(tables):
        allowed = replace(template, derived=("ill",))
        city.approve(signed(programme_for(city, name=f"{n}", tables=named, template=allowed)))
    city.approve(signed(programme_for(city, name="no derivation", tables=(whole, source), template=template)))
    clock.now += 3 * DAY
    assert len(city.programmes) == 4
    unchanged_but_ticks(city, lambda: release(city, query), ProgrammeError)
    city.approve(signed(programme_for(
        city, name="all", tables=(whole, source), template=replace(template, derived=("ill",)),
    )))  # fmt: skip
    clock.now += 3 * DAY
    release(city, query)


def test_a_table_of_the_same_name_under_another_schema_is_another_table(still_running):
    other = ds.Schema("trips", domain="mobility", columns={"district": ds.Category("NESW"), "km": ds.Integer(0, 51)})
    query = ds.query(other).keys("district").bound(rows=5, keys=2).count()
    unchanged_but_ticks(still_running, lambda: release(still_running, query), ProgrammeError, "schema")


def test_one_exact_question_and_no_other(city, clock):
    city.approve(signed(programme_for(city, template=None, question=COUNTS.document())))
    clock.now += 3 * DAY
    release(city)
    for query in (COUNTS.where(ds.col("km") >= 0), BASE.count(), COUNTS.bound(rows=4), BASE.distinct().count()):
        unchanged_but_ticks(city, lambda q=query: release(city, q), ProgrammeError, "another question")


def test_a_hand_made_request_under_a_programme_pays_its_purses(still_running):
    """The last gate looks at the request itself: cohort and purses must be the programme's."""
    found = still_running.programmes[0]
    plain = Request(compile(COUNTS), ds.zcdp(rho="0.01"), PURPOSE, still_running.trust, 0, time=NOW + 3 * DAY)
    purses = found.programme.purses(found.identity, NOW + 3 * DAY)
    named = replace(plain, programme=found.identity.hex(), purses=purses)
    still_running._authorise(named)
    for forged in (
        plain, replace(named, purses=purses[:1]), replace(named, cohort=1), replace(named, programme="00" * 32),
        replace(named, purses=[(n, ds.zcdp(rho=1)) for n, _ in purses]), replace(named, time=NOW),
    ):  # fmt: skip
        with pytest.raises(ProgrammeError):
            still_running._authorise(forged)


TIMED = ds.Schema("stops", domain="mobility", columns={"at": ds.Timestamp("2027-01-01", "2027-12-31")})


def test_a_series_needs_a_programme_that_lists_it_and_stops_with_it(city, clock):
    series = ds.series(ds.query(TIMED).count(), every="1d", rows=2, start="2027-01-15", steps=300)
    template = replace(TEMPLATE, keys=(), where=("at",), steps=300)
    tables = (Coverage("stops", TIMED.digest, ("at",)),)
    given = {"tables": tables, "template": template, "mechanisms": ("discrete Gaussian, binary tree",)}
    for n, few in enumerate((
        {"template": replace(template, steps=299)}, {"template": replace(template, where=())},
        {"mechanisms": ("discrete Gaussian",)}, {"cohort": 1}, {"tables": (replace(tables[0], columns=()),)},
    )):  # fmt: skip
        city.approve(signed(programme_for(city, name=f"{n}", **{**given, **few})))
    clock.now += 3 * DAY

    def follow() -> ds.SeriesRelease:
        return city.follow(series, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)

    unchanged_but_ticks(city, follow, ProgrammeError)
    found = city.approve(signed(programme_for(city, name="all", expires=NOW + 8 * DAY, **given)))
    clock.now += 3 * DAY
    before = follow()
    assert before.programme == found.identity.hex()
    done = len(before.outputs)
    city.approve(signed(programme_for(city, name="next", **given)))
    clock.now = NOW + 20 * DAY
    spent = city.remaining
    after = follow()
    assert len(after.outputs) == done, "no step is counted after the sunset, though another programme runs"
    assert after.programme == before.programme
    assert city.remaining == spent


def test_a_series_that_the_charter_left_open_is_not_paid_for_twice(tmp_path, clock):
    """A programme that covers it is approved later: it goes on as it was opened, and begins no second time."""
    series = ds.series(ds.query(TIMED).count(), every="1d", rows=2, start="2027-01-15", steps=300)
    loss = ds.zcdp(rho="0.01")
    with governed_city(tmp_path, clock, open=((PURPOSE, loss),)) as city:
        before = city.follow(series, loss=loss, purpose=PURPOSE)
        city.approve(signed(programme_for(
            city, tables=(Coverage("stops", TIMED.digest, ("at",)),), mechanisms=("discrete Gaussian, binary tree",),
            template=replace(TEMPLATE, keys=(), where=("at",), steps=300),
        )))  # fmt: skip
        clock.now += 5 * DAY
        left = city.remaining
        after = city.follow(series, loss=loss, purpose=PURPOSE)
        assert after.identifier == before.identifier
        assert len(after.outputs) == len(before.outputs) + 5
        assert city.remaining == left
        other = city.follow(replace(series, steps=299), loss=loss, purpose=PURPOSE)
        assert (before.programme, bool(other.programme)) == ("", True)


def test_the_total_and_the_period_of_a_programme_hold(running, clock):
    for day in range(2):
        clock.now += DAY * day
        release(running)
    clock.now += DAY
    unchanged_but_ticks(running, lambda: release(running), BudgetExceededError, "period 0")
    clock.now = NOW + 30 * DAY
    for _ in range(2):
        release(running)
        clock.now += DAY
    clock.now = NOW + 60 * DAY
    unchanged_but_ticks(running, lambda: release(running), BudgetExceededError, "the total")
    assert running.remaining_under(running.programmes[0].identity) == ds.Loss(0)
    assert running.remaining == ds.zcdp(rho="0.96")


def test_a_stored_answer_outlives_its_programme_until_its_retention_is_over(running, clock):
    answer = release(running)
    (found,) = running.programmes
    epoch = running.epoch
    clock.now = found.programme.expires
    again = {"programme": found.identity, "as_of": epoch}
    with pytest.raises(ProgrammeError, match="retention"):
        release(running, **again)
    assert running.releases() == []
    clock.now = answer.time + 100 * DAY - 1
    assert release(running, **again).digest == answer.digest
    running.adopt(signed(replace(charter_for(running), version=2, withdrawn=(found.identity,))))
    assert release(running, **again).digest == answer.digest, "post-processing, within its retention"
    assert [r.digest for r in running.releases()] == [answer.digest]
    unchanged_but_ticks(running, lambda: release(running, programme=found.identity), ProgrammeError, "over")
    clock.now += 1
    unchanged_but_ticks(running, lambda: release(running, **again), ProgrammeError, "retention")
    assert running.releases() == []


@pytest.mark.parametrize(("changed", "match"), [
    ({"purpose": "undeclared"}, "purpose"), ({"processing": "JP-26"}, "JP-26"), ({"processing": "FR"}, "processes in"),
    ({"largest": ds.pure(epsilon="0.1"), "total": ds.pure(epsilon="0.5"), "period": None, "period_days": 0}, "zcdp"),
])  # fmt: skip
def test_a_programme_that_does_not_fit_the_city_is_not_approved(still, changed, match):
    unchanged(still, lambda: still.approve(signed(programme_for(still, **changed))), ProgrammeError, match)


# --- races


@pytest.mark.parametrize("same", [False, True])
def test_four_processes_race_for_the_last_of_a_programme(tmp_path, same):
    """The budget holds a hundred of their questions, the programme's period two."""
    with governed_city(tmp_path, lambda: NOW, notice_days=0) as city:
        path = city._path
        enrol(city, range(6), lambda n: [{"district": "NESW"[n % 4], "km": n}] * 3, loss=ds.zcdp(rho="0.5"))
        found = city.approve(signed(programme_for(city)))
    children = [child("once", path, "1" if same else str(i)) for i in range(4)]
    for process in children:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    path.with_name(path.name + ".go").touch()
    results = [(p.communicate(), p.returncode) for p in children]
    assert all(code == 0 for _, code in results), results
    answers = [out.strip() for (out, _), _ in results]
    with ds.City.open(path, clock=lambda: NOW) as city:
        reserved = audit(city)
        entries = [json.loads(body) for body in city._store.read("ledger")]
        charged = [e for e in entries if e["op"] == "reserve"]
        assert all(sum(found.identity.hex() in name for name in e["purses"]) == 2 for e in charged)
        assert reserved <= 2, "the period holds two"
        assert city.remaining_under(found.identity) == ds.zcdp(rho="0.02") - ds.Loss(10_000_000 * reserved)
        if same:
            assert len(set(answers) - {"refused"}) == 1
            assert len(city.releases()) == 1
        else:
            assert sorted(answers).count("refused") == 2
            assert len(set(answers) - {"refused"}) == 2


def test_fifty_threads_race_for_the_last_of_a_programme(tmp_path):
    with governed_city(tmp_path, lambda: NOW, notice_days=0) as city:
        city.approve(signed(programme_for(city)))
        results = in_threads(50, lambda i: ask(city, i))
        assert len([r for r in results if isinstance(r, str)]) == 2, results
        assert len([r for r in results if isinstance(r, BudgetExceededError)]) == 48
        assert city.remaining == ds.zcdp(rho="0.98")


def test_two_processes_that_adopt_or_approve_at_once_do_it_once(tmp_path):
    with governed_city(tmp_path, lambda: NOW) as city, ds.City.open(city._path, clock=lambda: NOW) as other:
        second, programme = signed(replace(charter_for(city), version=2)), signed(programme_for(city))
        approved = in_threads(8, lambda i: (city, other)[i % 2].approve(programme))
        assert len([r for r in approved if isinstance(r, ProgrammeError)]) == 7, approved
        adopted = in_threads(8, lambda i: (city, other)[i % 2].adopt(second))
        assert len([r for r in adopted if isinstance(r, ProgrammeError)]) == 7, adopted
        assert [n.subject for n in read_notices(city.log.leaves(), city.log.checkpoint(), city.id)] == [
            "charter", "programme", "charter",
        ]  # fmt: skip
        assert city.charter == other.charter
