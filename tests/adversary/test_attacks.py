"""Published attacks on differential privacy: floating point, overflow and order, differencing, reconstruction."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.errors import BudgetExceededError, InvalidQueryError
from datasov.kernel import ledger, monitor, noise
from datasov.kernel.contribute import Exact
from datasov.kernel.ledger import Reservation
from datasov.kernel.monitor import Request
from datasov.kernel.plan import compile
from datasov.model.privacy import Loss
from tests.helpers import (
    COUNT,
    NOW,
    PURPOSE,
    TRIPS,
    Harness,
    consent_for,
    contribution,
    enrol,
    found_city,
    revocation,
    values,
)  # fmt: skip
from tests.statistical.significance import Share

SHARE = Share("attacks")


@pytest.fixture
def exact(monkeypatch) -> list[int]:
    """The sum of what reaches each draw; the noise stays."""
    seen, real = [], monitor.draw

    def draw(total, plan, reservation):
        seen.append(int(values(total).sum()))
        return real(total, plan, reservation)

    monkeypatch.setattr(monitor, "draw", draw)
    return seen


# --- floating point (Mironov 2012; Haney et al. 2022): no output tells which neighbour it came from


FINE = ds.Schema("fine", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(6_000)]), "num": ds.Decimal(0, 1000, scale=6),
}, keys=[("cell",)])  # fmt: skip


@pytest.mark.parametrize("loss", [ds.zcdp(rho="0.01"), ds.pure(epsilon="0.05")])
@pytest.mark.parametrize("total", [0, 1, 3**20, 2**53 + 1, 2**61])
def test_outputs_lie_on_the_whole_lattice_whatever_the_total(loss, total):
    """All outputs are whole numbers, and the lowest digits of each are as likely as any other's, in bases 2 and 3."""
    plan = compile(ds.query(FINE).keys("cell").bound(rows=1, keys=1).sum("num", low=0, high=1))
    (vector,) = noise.draw(Exact([np.full(6_000, total)]), plan, Reservation(bytes(16), loss)).values
    assert vector.dtype == np.int64
    assert abs(float(np.median(vector.astype(object) - total))) < 10 * plan.scales(loss)[0]
    for base in (2, 3, 8, 64):
        assert stats.chisquare(np.bincount(vector % base, minlength=base)).pvalue > SHARE.take(), base


def test_released_numbers_are_functions_of_whole_numbers(city):
    enrol(city, range(5), lambda n: [{"district": "N", "km": n}])
    found = city.release(COUNT.sum("km").mean("km").median("km"), loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)
    assert all(v.dtype == np.int64 for v in found.values)


# --- sensitivity (Casacuberta, Shoemate, Vadhan and Wagaman 2022): order, overflow, large and then tiny values


HUGE = ds.Schema("huge", domain="energy", columns={
    "num": ds.Integer(-(2**53), 2**53, "Wh"), "basket": ds.Integer(0, 3), "cell": ds.Category("ab"),
}, keys=[("cell",)])  # fmt: skip


def totals(folder, query: ds.Query, people: dict[int, list[dict[str, object]]], per_shard: int) -> list[int]:
    harness = Harness(folder, per_shard=per_shard)
    harness.admit(HUGE, people, {})
    return [int(v) for v in harness.totals(query).ravel()]


@pytest.mark.parametrize(("low", "high"), [(-(2**20), 2**20), (0, 3), (-(2**35) // 4, 2**35 // 4)])
def test_large_and_tiny_values_in_any_order_add_up_as_whole_numbers_do(tmp_path, low, high):
    """In floating point 2^53 + 1 + 1 ... depends on the order, and a neighbour moves a sum by more than a value."""
    rng = np.random.default_rng(3)
    column = [2**53, 1, -(2**53), 1, 2**53 - 1, -1, 3, 2**52 + 1] if high < 2**30 else [2**53, 1]
    orders = [rng.permutation(column).tolist() for _ in range(40)]
    people = {n: [{"num": v, "basket": 0, "cell": "a"} for v in order] for n, order in enumerate(orders)}
    query = ds.query(HUGE).bound(rows=len(column)).sum("num", low=low, high=high)
    for i, (order, per_shard) in enumerate([(people.items(), 64), (reversed(people.items()), 7)]):
        exact_sum = 40 * sum(min(max(v, low), high) for v in column)
        assert totals(tmp_path / str(i), query, dict(order), per_shard) == [exact_sum]


def test_totals_within_the_person_do_not_wrap_at_the_ends_of_64_bits(tmp_path):
    """512 rows of 2^53 are 2^62: the most that the plan lets a resident's items reach."""
    query = ds.query(HUGE).bound(rows=512).sum("num", per="resident", low=-(10**6), high=10**6)
    for sign in (1, -1):
        rows = [{"num": sign * 2**53, "basket": 0, "cell": "a"}] * 600
        assert totals(tmp_path / str(sign), query, {0: rows, 1: rows[:1]}, 9) == [2 * sign * 10**6]
    with pytest.raises(InvalidQueryError, match="overflow"):
        compile(query.bound(rows=513))


def test_an_unknown_key_at_the_ends_of_52_bits_of_cells_is_itself(tmp_path):
    """Cells of unknown keys times 2^20 others: each row is in its own, none wraps into another's."""
    schema = ds.Schema("far", domain="energy", columns={
        "shop": ds.Integer(-(2**31), 2**31 - 1), "cell": ds.Category([str(i) for i in range(1024)]),
    }, keys=[(ds.unknown("shop"), "cell")])  # fmt: skip
    rows = [{"shop": s, "cell": str(c)} for s in (-(2**31), -1, 0, 2**31 - 1) for c in (0, 1023)]
    harness = Harness(tmp_path)
    harness.admit(schema, {0: rows, 1: rows[::-1]}, {})
    for query in (ds.query(schema).keys(ds.unknown("shop"), "cell"), ds.query(schema).keys("cell", ds.unknown("shop"))):
        plan = compile(query.bound(rows=9, keys=8).distinct())
        snapshot = harness.pool.snapshot(Request(plan, Loss(10**6), PURPOSE, ds.central(), 0))
        parts = [monitor.contribute(plan, s, snapshot.eligible) for s in snapshot.shards]
        total = monitor.total(plan, parts[0], np.ones(2, dtype=np.bool_))
        assert total._cells.tolist() == sorted(total._cells.tolist())
        assert total._values[0].tolist() == [2] * len(rows)
        sizes = [a.size for a in plan.axes]
        places = {tuple(int(c) // math.prod(sizes[i + 1 :]) % sizes[i] for i in (0, 1)) for c in total._cells}
        expected = {(r["shop"] + 2**31, int(r["cell"])) for r in rows}
        assert places == (expected if plan.axes[0].key.kind == "unknown" else {(b, a) for a, b in expected})


# --- differencing and reconstruction (Dinur and Nissim 2003), up to a resident's cap


GROUPS = 250
MARKS = ds.Schema("marks", domain="health", columns={
    "group": ds.Category([str(i) for i in range(GROUPS)]), "who": ds.Integer(0, 2),
}, keys=[("group",)])  # fmt: skip
CAP = ds.zcdp(rho="0.1")
ASKED = ds.zcdp(rho="0.1")


def advantage(cap: Loss) -> float:
    """The most that any test tells two neighbours apart, as total variation: Pinsker, since KL is at most rho."""
    return math.sqrt(cap.nano / 1e9 / 2)


def attacked(folder, clock, questions: list[ds.Query], guess, used: int) -> np.ndarray:
    """For each group and each of its three members, whether a guess of their secret was right.

    The secret is whether a member has a row at all, a fair coin. Each group is a cell with noise of its own, so the
    groups are independent trials of one attack. The first `used` answers go into the guess.
    """
    rng = np.random.default_rng(11)
    secret = rng.integers(0, 2, (GROUPS, 3))
    with found_city(folder, clock, budget=ds.zcdp(rho=100)) as city:
        enrol(city, list(itertools.product(range(GROUPS), range(3))), lambda n: (
            [{"group": str(n[0]), "who": n[1]}] if secret[n] else []
        ), schema=MARKS, loss=CAP)  # fmt: skip
        answers = [city.release(q, loss=ASKED, purpose=PURPOSE).values[0] for q in questions]
    return guess(np.array(answers[:used]), secret) == secret


COUNTED = ds.query(MARKS).keys("group").bound(rows=1, keys=1).count()


def differencing() -> tuple[list[ds.Query], object]:
    """Ask again and again in other words; all others of the group are known."""
    asked = [COUNTED.where(ds.col("who") > -1 - i) for i in range(30)]

    def guess(answers: np.ndarray, secret: np.ndarray) -> np.ndarray:
        others = secret.sum(axis=1, keepdims=True) - secret
        return ((answers[:, :, None] - others).mean(axis=0) > 0.5).astype(int)

    return asked, guess


def reconstruction() -> tuple[list[ds.Query], object]:
    """Ask for random subsets, and solve for everybody at once by least squares."""
    rng = np.random.default_rng(5)
    subsets = [s for s in rng.integers(0, 2, (96, 3)) if s.any()]
    asked = [COUNTED.where(ds.col("who").is_in([*np.flatnonzero(s).tolist()]) & (ds.col("who") > -1 - i))
             for i, s in enumerate(subsets)]  # fmt: skip

    def guess(answers: np.ndarray, _: np.ndarray) -> np.ndarray:
        return (np.linalg.lstsq(np.array(subsets[: len(answers)]), answers, rcond=None)[0].T > 0.5).astype(int)

    return asked, guess


@pytest.mark.parametrize("attack", [differencing, pytest.param(reconstruction, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("guarded", [True, pytest.param(False, marks=pytest.mark.campaign)])
def test_no_attack_guesses_better_than_chance_and_the_bound(tmp_path, clock, monkeypatch, attack, guarded):
    """However often somebody asks; and where residents were never charged, the same attack would be noticed."""
    if not guarded:
        monkeypatch.setattr(ledger.Ledger, "spent", lambda self, account, n: np.zeros((2, n), dtype=np.int64))
        monkeypatch.setattr(ledger.Ledger, "charge", uncharged)
    used = {differencing: 1, reconstruction: 4}[attack] if guarded else 99  # what the caps pay for, or everything
    right = attacked(tmp_path, clock, *attack(), used)
    most = 0.5 + advantage(CAP) / 2
    if guarded:
        for member in range(3):
            assert stats.binom.sf(right[:, member].sum() - 1, GROUPS, most) > SHARE.take()
    else:
        assert all(stats.binom.sf(right[:, member].sum() - 1, GROUPS, most) < 1e-4 for member in range(3))


def uncharged(self, reservation, account, shares, caps, fence, beside=None):
    """Planted: everybody takes part in everything."""
    at = self.store.length("accounts/" + account)
    body = ledger.pack(reservation.identifier, reservation.loss.nano, 0, shares)
    self.store.append({"accounts/" + account: (at, [body])})
    return np.ones(len(shares), dtype=np.bool_)


# --- residents' accounts: every way around a cap


def full(i: int) -> ds.Query:
    return ds.query(TRIPS).keys("district").bound(rows=1, keys=1).where(ds.col("km") > -1 - i).count()


def test_measures_in_turn_renewals_and_revocations_refill_neither_account(city, clock, exact):
    """One account a measure: what one resident loses in all is at most the two caps that they signed."""
    step = itertools.count(1)
    losses = {"zcdp": ds.zcdp(rho="0.002"), "pure": ds.pure(epsilon="0.05")}
    asked = {"zcdp": ds.zcdp(rho="0.001"), "pure": ds.pure(epsilon="0.025")}
    took_part = dict.fromkeys(losses, 0)
    for turn in range(4):
        for measure, cap in losses.items():
            i = next(step)
            consent = consent_for(city, TRIPS, "ann", loss=cap, issued=NOW - 1000 + i)
            city.admit(consent, contribution(city, consent, "ann", i, TRIPS, [{"district": "N", "km": 3}]))
            for wrong, loss in asked.items():
                for _ in range(3):
                    city.release(full(next(step)), loss=loss, purpose=PURPOSE)
                    took_part[wrong] += exact[-1]
                    assert exact[-1] == 0 or wrong == measure, "took part under a measure without consent"
            if turn % 2:
                city.revoke(revocation(consent, "ann"))
            clock.now += 86_400
    assert took_part == {"zcdp": 2, "pure": 2}


def test_delta_is_spent_like_rho_and_a_consent_without_one_never_takes_part(tmp_path, clock, exact):
    schema = ds.Schema("shops", domain="payments", columns={"shop": ds.Integer(0, 99)}, keys=[(ds.unknown("shop"),)])
    query = ds.query(schema).keys(ds.unknown("shop")).bound(rows=1, keys=1).distinct()
    loss = ds.zcdp(rho="0.0001", delta="1e-9")
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=1, delta="4e-9")) as city:
        enrol(city, ["none"], lambda _: [{"shop": 1}], schema=schema, loss=ds.zcdp(rho=1))
        enrol(city, ["two"], lambda _: [{"shop": 1}], schema=schema, loss=ds.zcdp(rho=1, delta="2e-9"))
        enrol(city, ["poor"], lambda _: [{"shop": 1}], schema=schema, loss=ds.zcdp(rho="0.0001", delta="1e-6"))
        for i in range(4):
            city.release(query.where(ds.col("shop") > -1 - i), loss=loss, purpose=PURPOSE)
        assert exact == [2, 1, 0, 0]
        with pytest.raises(BudgetExceededError):
            city.release(query.where(ds.col("shop") > -9), loss=loss, purpose=PURPOSE)
        assert city.remaining == ds.Loss(ds.zcdp(rho=1).nano - 4 * loss.nano)


def test_a_budget_in_pure_epsilon_is_exact_and_takes_no_other_loss(tmp_path, clock):
    with found_city(tmp_path, clock, budget=Loss(10, "pure")) as city:
        with pytest.raises(InvalidQueryError, match="pure"):
            city.release(COUNT, loss=Loss(1), purpose=PURPOSE)
        city.release(COUNT, loss=Loss(7, "pure"), purpose=PURPOSE)
        with pytest.raises(BudgetExceededError):
            city.release(COUNT, loss=Loss(4, "pure"), purpose=PURPOSE)
        city.release(COUNT, loss=Loss(3, "pure"), purpose=PURPOSE)
        assert city.remaining == Loss(0, "pure")


@pytest.mark.parametrize("loss", [ds.zcdp(rho="0.0001"), ds.pure(epsilon="0.001")])
@pytest.mark.parametrize("query", [
    COUNT, COUNT.median("km"), ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count().top(2),
    COUNT.coverage().rows_per_key("0.9", high=9),
])  # fmt: skip
def test_one_who_is_spent_is_as_if_they_were_not_there(tmp_path, clock, exact, query, loss):
    """Neighbours: a city where somebody is spent, and the same city without them. Same totals, same reply."""
    replies = []
    for spent in (True, False):
        (tmp_path / str(spent)).mkdir()
        with found_city(tmp_path / str(spent), clock) as city:
            rich = Loss(10**9, loss.measure)
            enrol(city, range(4), lambda n: [{"district": "NE"[n % 2], "km": n}] * 3, loss=rich)
            if spent:
                enrol(city, ["spent"], lambda _: [{"district": "S", "km": 50}] * 5, loss=Loss(1, loss.measure))
            found = city.release(query, loss=loss, purpose=PURPOSE)
            document = {k: v for k, v in found.document().items() if k not in ("id", "city")}
            leaf = max(len(leaf) for leaf in city.log.leaves())
            replies.append((document, [len(v) for v in found.values], found.frame().schema, city.remaining, leaf))
    assert exact[0] == exact[1]
    assert replies[0] == replies[1]


# --- the key of a stored answer


def test_whatever_changes_an_answer_changes_the_key_of_its_stored_release():
    base = ds.query(TRIPS).keys("district").bound(rows=5, keys=2)
    questions = [
        base.count(), base.count(per="km"), base.count(per="resident"), base.count(per=ds.bin("km", [3])),
        base.count(per=ds.bin("km", [4])), base.sum("km"), base.sum("km", low=1), base.sum("km", high=49),
        base.sum("km", per="resident", low=0, high=50), base.sum("km", per="resident", low=0, high=51),
        base.mean("km"), base.variance("km"), base.std("km"), base.distinct(), base.coverage(),
        base.median("km"), base.quantile("km", "0.51"), base.median("km", bins=32), base.median("km", low=1),
        base.quantile("km", "0.5", edges=[10, 20]), base.quantile("km", "0.5", edges=[10, 21]),
        base.median("km", per="resident", low=0, high=50), base.rows_per_key("0.9"), base.rows_per_key("0.8"),
        base.rows_per_key("0.9", high=254), base.keys_per_resident("0.9"), base.count().top(1), base.count().top(2),
        base.distinct().top(1), base.sum("km").top(1), base.count().where(ds.col("km") > 3),
        base.count().where(ds.col("km") >= 3), base.bound(rows=4).count(), base.bound(keys=1).count(),
        ds.query(TRIPS).keys(ds.bin("km", [3])).bound(rows=5, keys=2).count(),
        ds.query(TRIPS).keys(ds.bin("km", [4])).bound(rows=5, keys=2).count(),
    ]  # fmt: skip
    one = Request(compile(questions[0]), Loss(40), PURPOSE, ds.central(), 7)
    requests = [replace(one, plan=compile(q)) for q in questions]
    requests += [replace(one, loss=Loss(41)), replace(one, loss=Loss(40, "pure")), replace(one, loss=Loss(40, delta=1)),
                 replace(one, epoch=8), replace(one, purpose="other"), replace(one, programme="x")]  # fmt: skip
    keys = [r.key for r in requests]
    assert len(set(keys)) == len(keys)


# --- losses that nothing can be drawn with


@pytest.mark.parametrize(("keys", "delta"), [(10, "1e-15"), (1, "1e-17")])
def test_a_delta_too_small_to_be_drawn_with_is_refused_before_anything_is_spent(tmp_path, clock, keys, delta):
    schema = ds.Schema("shops", domain="payments", columns={"shop": ds.Integer(0, 99)}, keys=[(ds.unknown("shop"),)])
    query = ds.query(schema).keys(ds.unknown("shop")).bound(rows=1, keys=keys).distinct()
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=1, delta="1e-9")) as city:
        with pytest.raises(InvalidQueryError):
            city.release(query, loss=ds.zcdp(rho="0.01", delta=delta), purpose=PURPOSE)
        assert city.remaining == city.budget
