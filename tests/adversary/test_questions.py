"""Claim: what analysts see depends on the data through paid noise alone, whatever they ask and however often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import datasov as ds
from datasov.errors import BudgetExceededError, ConsentError, InvalidQueryError
from datasov.kernel import monitor
from datasov.model.aggregate import Aggregate
from datasov.model.privacy import Loss
from tests.audit import audit
from tests.helpers import (
    COUNT,
    NOW,
    PEOPLE,
    PURPOSE,
    RHO,
    TRIPS,
    consent_for,
    contribution,
    enrol,
    found_city,
    revocation,
    values,
)  # fmt: skip

SMALL = ds.zcdp(rho="0.001")
Q = ds.query(TRIPS).bound(rows=5, keys=2)


def answer(release: ds.Release) -> bytes:
    return release.identifier + b"".join(v.tobytes() for v in release.values)


def ask(city: ds.City, query: ds.Query = COUNT, loss: ds.Loss = SMALL, **given: object) -> bytes:
    return answer(city.release(query, **{"loss": loss, "purpose": PURPOSE, **given}))


def full(i: int) -> ds.Query:
    """The i-th of many questions that cost whoever sent `rows` their full loss: three rows in one key."""
    return ds.query(TRIPS).keys("district").bound(rows=3, keys=1).where(ds.col("km") > -1 - i).count()


def rows(n: int) -> list[dict[str, object]]:
    return [{"district": "NESW"[n % 4], "km": n % 51}] * 3


@pytest.fixture
def exact(monkeypatch) -> list[np.ndarray]:
    """What reaches the noise, recorded; the noise stays."""
    seen, real = [], monitor.draw

    def draw(total, plan, reservation):
        seen.append(values(total).copy())
        return real(total, plan, reservation)

    monkeypatch.setattr(monitor, "draw", draw)
    return seen


# --- averaging and differencing


def test_a_thousand_repeats_cost_one_charge_and_give_one_value(city, exact):
    enrol(city, range(8), rows)
    assert len({ask(city) for _ in range(1_000)}) == 1
    assert len(exact) == 1
    assert city.remaining == city.budget - SMALL
    assert audit(city) == 1


def test_no_change_of_the_pool_changes_a_stored_answer_within_an_epoch(city, exact):
    """Differencing: the same question before and after somebody comes, sends more, leaves."""
    (ann, *_) = enrol(city, ["ann", "bob"], lambda n: rows(1))
    first = ask(city)
    enrol(city, ["cem"], lambda n: rows(2))
    assert ask(city) == first
    city.admit(ann, contribution(city, ann, "ann", 2, TRIPS, rows(3)))
    assert ask(city) == first
    city.revoke(revocation(ann, "ann"))
    assert ask(city) == first
    city.compact(TRIPS, PURPOSE)
    assert ask(city) == first
    assert len(exact) == 1


def test_a_new_epoch_is_a_new_paid_question(city, clock, exact):
    enrol(city, range(3), rows)
    first = ask(city)
    clock.now += 86_400
    second = ask(city)
    assert first != second
    assert len(exact) == 2
    assert city.remaining == city.budget - Loss(2 * SMALL.nano)
    assert ask(city, as_of=city.epoch - 1) == first, "what was asked then is still found, at no charge"
    assert ask(city, as_of=city.epoch) == second
    assert len(exact) == 2


def test_admissions_and_revocations_do_not_move_the_epoch(city):
    before = city.epoch
    (ann,) = enrol(city, ["ann"], rows_of_one)
    city.revoke(revocation(ann, "ann"))
    assert city.epoch == before == NOW // 86_400


def rows_of_one(_: object) -> list[dict[str, object]]:
    return rows(1)


@pytest.mark.parametrize("as_of", [-1, 10**9, 1.5, True, "1", float("nan")])
def test_what_is_no_past_epoch_is_refused(city, as_of):
    with pytest.raises(InvalidQueryError):
        ask(city, as_of=as_of)
    assert city.remaining == city.budget


def test_a_past_epoch_is_never_asked_anew(city, clock):
    enrol(city, range(3), rows)
    ask(city)
    clock.now += 10 * 86_400
    for query, loss in ((Q.count(), SMALL), (COUNT, RHO)):
        with pytest.raises(InvalidQueryError, match="not asked in that epoch"):
            ask(city, query, loss, as_of=NOW // 86_400)
    with pytest.raises(ConsentError):
        ask(city, as_of=NOW // 86_400, purpose="other")
    assert city.remaining == city.budget - SMALL


def test_questions_that_differ_in_anything_are_paid_apart(city, exact):
    enrol(city, range(3), rows)
    questions = [(COUNT, SMALL), (COUNT, RHO), (COUNT.bound(rows=4), SMALL), (COUNT.bound(keys=1), SMALL),
                 (COUNT.where(ds.col("km") >= 0), SMALL), (COUNT.distinct(), SMALL),
                 (Q.keys("district").distinct(), SMALL),
                 (Q.sum("km"), SMALL), (Q.sum("km", high=49), SMALL)]  # fmt: skip
    answers = [ask(city, *q) for q in questions]
    assert len(set(answers)) == len(questions) == len(exact)
    assert [ask(city, *q) for q in questions] == answers
    assert city.budget.nano - city.remaining.nano == sum(loss.nano for _, loss in questions)


# --- refusals


def refusals(city: ds.City) -> list[str]:
    """Type and text of everything that can be refused."""
    attempts = [
        lambda: ask(city, purpose="advertising"), lambda: ask(city, purpose=""), lambda: ask(city, purpose=None),
        lambda: ask(city, loss=ds.zcdp(rho=900)), lambda: ask(city, loss=Loss(0)), lambda: ask(city, loss=Loss(-5)),
        lambda: ask(city, loss=0.1), lambda: ask(city, loss=None), lambda: ask(city, ds.query(TRIPS).count()),
        lambda: ask(city, ds.query(TRIPS).keys("district").count()), lambda: ask(city, ds.query(TRIPS)),
        lambda: ask(city, None), lambda: ask(city, Q.sum("km", high=10**9)), lambda: ask(city, Q.keys("none").count()),
        lambda: ask(city, Q.join(PEOPLE).keys("people.none").count()), lambda: ask(city, as_of=0),
        lambda: ask(city, Q.where(ds.col("km") > 1e309).count()), lambda: ask(city, Q.bound(rows=0).count()),
    ]  # fmt: skip
    found = []
    for attempt in attempts:
        with pytest.raises(ds.DatasovError) as why:
            attempt()
        found.append(f"{type(why.value).__name__}: {why.value}")
    return found


def test_refusals_are_the_same_for_an_empty_pool_and_a_full_one(tmp_path, clock):
    found = []
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
        with found_city(tmp_path / name, clock) as city:
            if name == "full":
                enrol(city, range(30), rows)
            found.append(refusals(city))
            assert city.remaining == city.budget, "a refusal cost something"
    assert found[0] == found[1]


def test_whether_anybody_consented_to_a_purpose_never_shows(tmp_path, clock):
    with found_city(tmp_path, clock, purposes=[PURPOSE, "nobody"]) as city:
        enrol(city, range(5), rows)
        taken, untaken = (city.release(COUNT, loss=SMALL, purpose=p) for p in (PURPOSE, "nobody"))
        shape = [(r.frame().schema, r.frame().height, r.scales, r.loss, r.epoch) for r in (taken, untaken)]
        assert shape[0] == shape[1]


def test_an_empty_pool_answers_with_noise(city):
    frame = city.release(COUNT, loss=Loss(1000), purpose=PURPOSE).frame()
    assert frame["district"].to_list() == list("NESW")
    assert (frame["count"] != 0).any()
    assert city.remaining == city.budget - Loss(1000)


def test_residents_whose_loss_is_spent_drop_out_and_nothing_shows_it(city, exact):
    enrol(city, ["poor", "rich"], lambda n: rows(1) if n == "poor" else rows(2), loss=Loss(2 * SMALL.nano))
    enrol(city, ["richer"], lambda n: rows(3))
    found = [city.release(full(i), loss=SMALL, purpose=PURPOSE) for i in range(4)]
    assert [int(e.sum()) for e in exact] == [9, 9, 3, 3]
    shape = {(r.frame().height, tuple(r.frame().columns), len(r.scales), r.loss.nano) for r in found}
    assert len(shape) == 1
    leaves = [len(leaf) for leaf in city.log.leaves()]
    assert max(leaves) - min(leaves) <= 2
    assert city.remaining == city.budget - Loss(4 * SMALL.nano)
    audit(city)


def test_renewing_does_not_refill_a_residents_account(city, exact):
    for i in range(4):
        consent = consent_for(city, TRIPS, "ann", loss=SMALL, issued=NOW - 50 + i)
        city.admit(consent, contribution(city, consent, "ann", i + 1, TRIPS, rows(1)))
        ask(city, full(i))
    assert [int(e.sum()) for e in exact] == [3, 0, 0, 0]
    city.revoke(revocation(consent, "ann"))
    consent = consent_for(city, TRIPS, "ann", loss=SMALL, issued=NOW - 5)
    city.admit(consent, contribution(city, consent, "ann", 9, TRIPS, rows(1)))
    ask(city, full(50))
    assert int(exact[-1].sum()) == 0
    wider = consent_for(city, TRIPS, "ann", loss=Loss(2 * SMALL.nano), issued=NOW - 4)
    city.admit(wider, contribution(city, wider, "ann", 10, TRIPS, rows(1)))
    ask(city, full(51))
    ask(city, full(52))
    assert [int(e.sum()) for e in exact[-2:]] == [3, 0]


def test_the_last_of_a_budget_is_exact(tmp_path, clock):
    with found_city(tmp_path, clock, budget=Loss(10)) as city:
        ask(city, loss=Loss(7))
        with pytest.raises(BudgetExceededError):
            ask(city, loss=Loss(4))
        ask(city, loss=Loss(3))
        assert city.remaining == Loss(0)
        with pytest.raises(BudgetExceededError):
            ask(city, loss=Loss(1))
        ask(city, loss=Loss(7))
        assert [r.loss.nano for r in city.releases()] == [7, 3]


# --- odd names and sizes


@pytest.mark.parametrize("purpose", ["'; DROP TABLE entries; --", "交通計画", "a/b\\c", "%s{0}", "x" * 128])
def test_odd_purposes_are_only_names(tmp_path, clock, purpose):
    with found_city(tmp_path, clock, purposes=[purpose]) as city:
        enrol(city, range(3), rows, purpose=purpose)
        found = city.release(COUNT, loss=SMALL, purpose=purpose)
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        assert city.purposes == (purpose,)
        assert [answer(r) for r in city.releases()] == [answer(found)]


def test_many_cells_are_answered_and_each_has_noise(city):
    wide = ds.Schema("wide", domain="energy", columns={"c": ds.Category([str(i) for i in range(60_000)])}, keys=["c"])
    enrol(city, range(2), lambda n: [{"c": str(n)}], schema=wide)
    found = city.release(ds.query(wide).keys("c").bound(rows=1, keys=1).count(), loss=Loss(100), purpose=PURPOSE)
    assert len(found.values[0]) == 60_000
    assert (found.values[0] == 0).mean() < 0.01


BY_HAND = {
    "half a row": {"rows": 2.5}, "half a key": {"keys_bound": 1.5}, "no rows": {"rows": 0}, "fewer": {"rows": -3},
    "true": {"rows": True}, "many": {"rows": 10**9}, "no top": {"highest": 0}, "below the top": {"highest": -1},
    "empty clip": {"aggregates": (Aggregate("sum", "km", 40, 3),)},
    "clip beyond the column": {"aggregates": (Aggregate("sum", "km", -(10**9), 10**9),)},
    "cuts that fall": {"aggregates": (Aggregate("quantile", "km", 0, 50, (), "0.5", (30, 20)),)},
    "no share": {"aggregates": (Aggregate("quantile", "km", 0, 50, (), "2", (10,)),)},
    "no aggregate": {"aggregates": (Aggregate("square", "km", 0, 50),)},
    "no number": {"aggregates": (Aggregate("sum", "district", 0, 3),)},
    "no column": {"aggregates": (Aggregate("mean", "", 0, 50),)},
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_a_query_changed_by_hand_costs_nothing_and_breaks_nothing(city, name):
    """Its answer would be stored, and could not be read again: by nobody, and with it all the others."""
    enrol(city, range(3), rows)
    with pytest.raises(ds.DatasovError):
        ask(city, replace(COUNT, **BY_HAND[name]))
    assert city.remaining == city.budget
    ask(city)
    assert len(city.releases()) == 1


def test_a_spent_neighbour_changes_nothing_in_the_work_that_a_question_does(tmp_path, clock):
    """Latency is measured in `benches kernel` (`spent_ratio`); here each write, its size and each map are the same."""
    traces = []
    for name, cap in (("rich", 10 * SMALL.nano), ("spent", 1)):
        (tmp_path / name).mkdir()
        with found_city(tmp_path / name, clock) as city:
            enrol(city, range(200), lambda n: [{"district": "N", "km": 9}] * 5)
            enrol(city, ["ann"], lambda _: [{"district": "N", "km": 9}] * 5, loss=Loss(cap))
            trace: list[object] = []
            append, engine = city._store.append, city._engine

            def recorded(batch, blobs=None, *, trace=trace, append=append):
                trace.append(sorted((s, at, [len(b) for b in bodies]) for s, (at, bodies) in batch.items()))
                append(batch, blobs)

            def mapped(function, items, *, trace=trace, engine=engine):
                items = list(items)
                trace.append(len(items))
                return engine(function, items)

            city._store.append, city._engine = recorded, mapped
            city.release(COUNT, loss=SMALL, purpose=PURPOSE)
            (partition,) = city._registry.refresh()
            paid = city._ledger.spent(partition.name, 201)[0, -1]
            traces.append((bool(paid > 1), trace))
    (rich, one), (spent, other) = traces
    assert (rich, spent) == (True, False), "the neighbours do not differ"
    assert one == other
