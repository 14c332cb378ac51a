"""The ledger: reserve, charge, commit, over any store; and what a restart or another process finds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import BudgetExceededError, ConflictError, InternalError, InvalidQueryError, StoreError
from datasov.kernel.ledger import Ledger, Reservation
from datasov.model.charges import SHARES
from datasov.model.privacy import Loss
from datasov.store.sqlite import SQLiteStore
from tests.helpers import MemoryStore, outputs

KEY = bytes(32)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    made = SQLiteStore(tmp_path / "s.db", create=True)
    yield made
    made.close()


@pytest.fixture
def ledger(store):
    return Ledger(store, Loss(100))


def everybody(count: int, cap: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(count, dtype=np.bool_), np.full(count, cap, dtype=np.int64)


def full(ledger: Ledger, reservation: Reservation, account: str, eligible, caps, fence) -> np.ndarray:
    """Charge the whole loss to each who is eligible; who of them pays."""
    return ledger.charge(reservation, account, np.where(eligible, SHARES, 0), both(caps), fence) & eligible


def both(caps: np.ndarray) -> np.ndarray:
    """Caps in nano and delta, of which these losses have none."""
    return np.stack([caps, np.zeros_like(caps)])


def test_the_whole_budget_can_be_reserved_and_not_one_nano_more(ledger):
    ledger.reserve(Loss(60))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Loss(41))
    assert ledger.remaining() == Loss(40)
    ledger.reserve(Loss(40))
    assert ledger.remaining() == Loss(0)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Loss(1))


@pytest.mark.parametrize("nano", [0, -1, -(10**30)])
def test_a_loss_that_gives_something_back_is_refused(ledger, nano):
    with pytest.raises(InvalidQueryError):
        ledger.reserve(Loss(nano))
    assert ledger.remaining() == Loss(100)


def test_a_budget_is_written_once(store, ledger):
    assert Ledger(store).budget == Loss(100)
    assert Ledger(store, Loss(100)).budget == Loss(100)
    with pytest.raises(StoreError):
        Ledger(store, Loss(101))
    with pytest.raises(StoreError):
        Ledger(MemoryStore())


def test_two_ledgers_on_one_store_share_one_account(store, ledger):
    other = Ledger(store)
    ledger.reserve(Loss(60))
    assert other.remaining() == Loss(40)
    with pytest.raises(BudgetExceededError):
        other.reserve(Loss(41))
    other.reserve(Loss(40))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Loss(1))


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=12))
def test_what_is_left_is_always_exact(steps):
    store = MemoryStore()
    ledgers, left = [Ledger(store, Loss(100)), Ledger(store)], 100
    for nano, which in steps:
        try:
            ledgers[which].reserve(Loss(nano))
            left -= nano
        except BudgetExceededError:
            assert nano > left
        assert [x.remaining().nano for x in (*ledgers, Ledger(store))] == [left] * 3
        assert left >= 0


# --- residents


def test_residents_pay_until_their_cap_and_then_drop_out(store, ledger):
    eligible, caps = np.array([True, True, False, True]), np.array([10, 20, 100, 9], dtype=np.int64)
    paid = [full(ledger, ledger.reserve(Loss(10)), "a", eligible, caps, {}).tolist() for _ in range(3)]
    assert paid == [[True, True, False, False], [False, True, False, False], [False] * 4]
    for one in (ledger, Ledger(store)):
        assert one.spent("a", 4)[0].tolist() == [10, 20, 0, 0]
        assert one.spent("a", 6)[0].tolist() == [10, 20, 0, 0, 0, 0], "who came later has spent nothing"
        assert one.spent("b", 2)[0].tolist() == [0, 0]


def test_a_list_that_grew_keeps_what_was_spent(ledger):
    full(ledger, ledger.reserve(Loss(5)), "a", *everybody(2), {})
    full(ledger, ledger.reserve(Loss(7)), "a", *everybody(9), {})
    assert ledger.spent("a", 9)[0].tolist() == [12, 12, *[7] * 7]
    assert ledger.spent("a", 1)[0].tolist() == [12], "asking for fewer forgets nobody"
    assert ledger.spent("a", 9)[0].tolist() == [12, 12, *[7] * 7]


def test_what_spent_returns_is_a_copy(ledger):
    full(ledger, ledger.reserve(Loss(5)), "a", *everybody(3), {})
    ledger.spent("a", 3)[:] = 0
    assert ledger.spent("a", 3)[0].tolist() == [5, 5, 5]


def test_nobody_is_a_list_too(ledger):
    assert full(ledger, ledger.reserve(Loss(5)), "a", *everybody(0), {"registry/a": 0}).tolist() == []


def test_a_fence_that_moved_charges_nobody(store, ledger):
    reservation = ledger.reserve(Loss(5))
    store.append({"registry/a": (0, [b"somebody left"])})
    with pytest.raises(ConflictError):
        full(ledger, reservation, "a", *everybody(3), {"registry/a": 0})
    assert ledger.spent("a", 3)[0].tolist() == [0, 0, 0]
    full(ledger, reservation, "a", *everybody(3), {"registry/a": 1})
    assert ledger.spent("a", 3)[0].tolist() == [5, 5, 5]


def test_charges_of_two_ledgers_are_never_made_on_an_old_account(store, ledger):
    """The other one charges between the look and the append: a conflict, and a new look."""
    other, real = Ledger(store), store.append
    cap = everybody(1, cap=5)

    def late(batch, blobs=None):
        store.append = real
        full(other, other.reserve(Loss(5)), "a", *cap, {})
        return real(batch, blobs)

    reservation = ledger.reserve(Loss(5))
    store.append = late
    with pytest.raises(ConflictError):
        full(ledger, reservation, "a", *cap, {})
    assert full(ledger, reservation, "a", *cap, {}).tolist() == [False]
    assert ledger.spent("a", 1)[0].tolist() == [5]


@given(st.integers(0, 3000), st.integers(0, 2**32 - 1))
def test_any_set_of_payers_is_kept_exactly(count, seed):
    ledger = Ledger(MemoryStore(), Loss(10))
    eligible = np.random.default_rng(seed).random(count) < 0.3
    payers = full(ledger, ledger.reserve(Loss(3)), "a", eligible, everybody(count)[1], {})
    assert (payers == eligible).all()
    assert (ledger.spent("a", count)[0] == 3 * eligible).all()


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=40), st.integers(1, 10**6))
def test_each_pays_what_they_owe_rounded_up_a_little_and_never_above_their_cap(residents, loss):
    ledger = Ledger(MemoryStore(), Loss(3 * 10**6))
    shares = np.array([o % (SHARES + 1) for o, _ in residents], dtype=np.int64)
    owed = np.array([math.ceil(Fraction(int(s) * loss, SHARES)) for s in shares], dtype=np.int64)
    caps = np.array([c for _, c in residents], dtype=np.int64)
    for _ in range(3):
        before = ledger.spent("a", len(owed))[0]
        pays = ledger.charge(ledger.reserve(Loss(loss)), "a", shares, both(caps), {})
        paid = ledger.spent("a", len(owed))[0] - before
        assert (paid[~pays] == 0).all()
        assert (paid[pays] == owed[pays]).all()
        assert (before + paid <= np.maximum(caps, before)).all()
        assert pays[(owed == 0) & (before <= caps)].all(), "who owes nothing takes part"
    assert (Ledger(ledger.store).spent("a", len(owed)) == ledger.spent("a", len(owed))).all()


def test_losses_of_any_size_are_charged_exactly_in_full(ledger):
    for nano in (1, 65_534, 65_535, 65_536, 2**46, 10**15):
        store = MemoryStore()
        one = Ledger(store, Loss(10**15))
        assert full(one, one.reserve(Loss(nano)), "a", *everybody(2, 10**16), {}).all()
        assert Ledger(store).spent("a", 2)[0].tolist() == [nano, nano]


# --- answers


def test_an_answer_is_stored_with_its_leaf_and_found_byte_for_byte(store, ledger):
    body = bytes(range(256))
    assert ledger.stored(KEY) is None
    assert ledger.commit(ledger.reserve(Loss(5)), KEY, body, b"leaf") == body
    for one in (ledger, Ledger(store)):
        assert one.stored(KEY) == body
        assert one.stored(b"\x01" * 32) is None
        assert outputs(one) == [body]
    assert store.read("log") == [b"leaf"]


def test_of_two_answers_to_one_question_the_first_stands(store, ledger):
    other = Ledger(store)
    mine, theirs = ledger.reserve(Loss(5)), other.reserve(Loss(5))
    assert other.commit(theirs, KEY, b"theirs", b"leaf 1") == b"theirs"
    assert ledger.commit(mine, KEY, b"mine", b"leaf 2") == b"theirs"
    assert store.read("log") == [b"leaf 1"]
    assert outputs(ledger) == [b"theirs"]
    assert ledger.remaining() == Loss(90), "what was reserved stays spent"


def test_answers_of_two_ledgers_are_not_mixed_up(store, ledger):
    other = Ledger(store)
    keys = [bytes([i]) * 32 for i in range(6)]
    for i, key in enumerate(keys):
        one = (ledger, other)[i % 2]
        one.commit(one.reserve(Loss(1)), key, b"answer %d" % i, b"leaf")
    for one in (ledger, other, Ledger(store)):
        assert [one.stored(k) for k in keys] == [b"answer %d" % i for i in range(6)]


def test_a_reservation_that_nobody_made_or_that_was_used_stores_nothing(store, ledger):
    with pytest.raises(InternalError):
        ledger.commit(Reservation(bytes(16), Loss(1)), KEY, b"free", b"leaf")
    reservation = ledger.reserve(Loss(1))
    ledger.commit(reservation, KEY, b"paid", b"leaf")
    with pytest.raises(InternalError):
        ledger.commit(reservation, b"\x01" * 32, b"twice", b"leaf")
    assert outputs(ledger) == [b"paid"]
    assert store.read("log") == [b"leaf"]


def test_a_reservation_is_drawn_from_once():
    reservation = Reservation(bytes(16), Loss(1))
    reservation.use()
    with pytest.raises(InternalError):
        reservation.use()


# --- composition


@given(st.lists(st.integers(1, 10**15), max_size=20))
def test_losses_compose_exactly(nanos):
    assert sum(map(Loss, nanos), Loss(0)) == Loss(sum(nanos))


@pytest.mark.parametrize("rho", ["0.0001", "0.01", "0.5", "10"])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 0.01])
def test_epsilon_is_at_most_the_simple_bound_and_falls_with_delta(rho, delta):
    loss = ds.zcdp(rho=rho)
    assert 0 <= loss.epsilon(delta) <= loss.rho + 2 * math.sqrt(loss.rho * math.log(1 / delta))
    assert loss.epsilon(delta) >= loss.epsilon(delta * 10)


@pytest.mark.parametrize(("rho", "delta"), [("0.5", 1e-6), ("0.02", 1e-6), ("2", 1e-3)])
def test_epsilon_is_never_below_what_a_gaussian_of_that_rho_has(rho, delta):
    """The exact curve of the Gaussian mechanism (Balle and Wang 2018, theorem 8) at the epsilon given."""
    from statistics import NormalDist

    normal, mu = NormalDist(), (2 * float(rho)) ** 0.5
    epsilon = ds.zcdp(rho=rho).epsilon(delta)
    exact = normal.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * normal.cdf(-mu / 2 - epsilon / mu)
    assert exact <= delta


@pytest.mark.parametrize("delta", [0, 1, -1, float("nan")])
def test_epsilon_needs_a_delta(delta):
    with pytest.raises(InvalidQueryError):
        ds.zcdp(rho=1).epsilon(delta)


# --- purses


def test_all_purses_hold_a_loss_or_nothing_is_charged(store, ledger):
    year, programme = ("year", Loss(50)), ("programme", Loss(30))
    ledger.reserve(Loss(20), [year])
    ledger.reserve(Loss(20), [year, programme])
    before = store.length("ledger")
    for purses, who in (([year, programme], "year"), ([programme, year], "programme"), ([programme], "programme")):
        with pytest.raises(BudgetExceededError, match=f"^{who} does not cover"):
            ledger.reserve(Loss(11), purses)
    assert store.length("ledger") == before
    for one in (ledger, Ledger(store)):
        assert one.remaining() == Loss(60)
        assert one.remaining([year]) == one.remaining([year, programme]) == Loss(10)
        assert one.remaining([("new", Loss(99))]) == Loss(60), "at most what the budget has"
    ledger.reserve(Loss(10), [year, programme])
    assert ledger.remaining([programme]) == ledger.remaining([year]) == Loss(0)
    ledger.reserve(Loss(50))
    with pytest.raises(BudgetExceededError, match="budget"):
        ledger.reserve(Loss(1), [("new", Loss(99))])


def test_the_budget_is_charged_once_under_any_name(ledger):
    ledger.reserve(Loss(60), [("the city's budget", Loss(1000))])
    assert ledger.remaining() == Loss(40)


def test_a_purse_holds_delta_too():
    store = MemoryStore()
    ledger = Ledger(store, Loss(100, delta=100))
    purse = [("p", Loss(50, delta=10))]
    ledger.reserve(Loss(1, delta=10), purse)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Loss(1, delta=1), purse)
    ledger.reserve(Loss(49), purse)
    assert ledger.remaining(purse) == Loss(0)


@given(st.lists(st.tuples(st.integers(1, 40), st.sets(st.sampled_from("abc")), st.booleans()), max_size=15))
def test_no_purse_is_ever_overspent_by_two_ledgers_in_turn(steps):
    store, caps = MemoryStore(), {"a": 30, "b": 60, "c": 90}
    ledgers, left = [Ledger(store, Loss(100)), Ledger(store)], {"": 100, **caps}
    for nano, names, which in steps:
        try:
            ledgers[which].reserve(Loss(nano), [(n, Loss(caps[n])) for n in sorted(names)])
        except BudgetExceededError:
            assert any(nano > left[n] for n in ("", *names))
        else:
            for n in ("", *names):
                left[n] -= nano
        assert min(left.values()) >= 0
        for one in (*ledgers, Ledger(store)):
            assert [one.remaining([(n, Loss(c))]).nano for n, c in caps.items()] == [
                min(left[""], left[n]) for n in caps
            ]


def test_a_purse_that_another_process_empties_between_two_looks_is_not_overspent(store):
    """The other ledger reserves between this one's checks: what is appended was checked as it then stood."""
    mine, other = Ledger(store, Loss(100)), Ledger(store)
    purses, looks = [("a", Loss(30)), ("b", Loss(30))], []
    real = mine.remaining

    def looking(given=()):
        found = real(given)
        looks.append(len(given))
        if len(looks) == 2:
            other.reserve(Loss(20), purses)
        return found

    mine.remaining = looking
    with pytest.raises(BudgetExceededError):
        mine.reserve(Loss(20), purses)
    assert Ledger(store).remaining(purses) == Loss(10)
