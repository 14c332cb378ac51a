"""Laplace noise, noisy max and thresholds: their distributions, the loss between neighbours, and planted faults."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.errors import InternalError
from datasov.kernel import noise
from datasov.kernel.contribute import Exact, add
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import Plan, compile
from datasov.model.noise import threshold
from datasov.model.preview import preview
from datasov.model.privacy import ATTO, Loss
from tests.statistical.significance import Share, agrees, discrete_laplace, fits, least_probability, most_probability
from tests.statistical.test_privacy_loss import delta as delta_of

CELLS = 20_000
WIDE = ds.Schema("wide", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(CELLS)]), "num": ds.Integer(-10, 30),
}, keys=[("cell",)])  # fmt: skip
SHOPS = ds.Schema("shops", domain="payments", columns={"shop": ds.Integer(0, 10**9)}, keys=[(ds.unknown("shop"),)])
BASE = ds.query(WIDE).keys("cell")
SHARE = Share("mechanisms")


def reserved(loss: Loss) -> Reservation:
    return Reservation(bytes(16), loss)


# --- Laplace


@pytest.mark.parametrize("epsilon", ["4", "0.7", "0.05"])
def test_the_noise_under_pure_epsilon_is_the_discrete_laplace(epsilon):
    query, loss = BASE.bound(rows=3, keys=4).count().sum("num"), ds.pure(epsilon=epsilon)
    plan = compile(query)
    drawn = noise.draw(add([], plan), plan, reserved(loss)).values
    for reach, scale, vector in zip((3 * 4, 3 * 4 * 30), plan.scales(loss), drawn, strict=True):
        assert scale == pytest.approx(reach / (float(epsilon) / 2), rel=1e-9)
        assert fits(vector, scale, discrete_laplace) > SHARE.take()
        assert fits(vector, scale * 2, discrete_laplace) < 1e-12, "half the noise would not be noticed"


def test_every_piece_of_a_vector_has_noise_of_its_own(monkeypatch):
    """Long vectors are noised in pieces at once: no two of them may draw alike."""
    monkeypatch.setattr(noise, "_AT_ONCE", 50)
    plan = compile(BASE.bound(rows=1, keys=1).count())
    for loss in (ds.zcdp(rho="0.0005"), ds.pure(epsilon="0.02")):
        (vector,) = noise.draw(add([], plan), plan, reserved(loss)).values
        pieces = vector.reshape(-1, 50) / plan.scales(loss)[0]
        assert len(np.unique(pieces, axis=0)) == len(pieces)
        for lag in (1, 2):
            products = (pieces[lag:] * pieces[:-lag]).ravel()
            z = abs(products.sum()) / (math.sqrt(len(products)) * np.square(pieces).mean())
            assert math.erfc(z / math.sqrt(2)) > SHARE.take()


def pure_violation(plan: Plan, epsilon: float, step: np.ndarray, significance: float) -> bool:
    """Whether some event is likelier, at this significance, than exp(epsilon) times its chance without the resident."""
    runs = 15_000
    cells = np.zeros((2, runs, len(step)), dtype=np.int64)
    cells[1] = step
    drawn = [noise.draw(Exact([c.ravel()]), plan, reserved(ds.pure(epsilon=epsilon))).values[0] for c in cells]
    low, high = (d.reshape(runs, -1) for d in drawn)
    found = False
    for cut in (step, step + 1, step - 1):
        p = least_probability(int((high >= cut).all(axis=1).sum()), runs, significance / 2)
        q = most_probability(int((low >= cut).all(axis=1).sum()), runs, significance / 2)
        found |= p > math.exp(epsilon) * q
    return found


@pytest.mark.parametrize(("rows", "keys"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.campaign)])
def test_the_pure_loss_between_neighbours_stays_below_the_claim_and_one_off_by_two_is_noticed(rows, keys):
    plan, step = compile(BASE.bound(rows=rows, keys=keys).count()), np.full(keys, rows)
    assert np.abs(step).sum() == plan.statistics[0].l1_sensitivity, "the worst resident is not as bad as allowed"
    significance = min(SHARE.take() for _ in range(3))
    assert not pure_violation(plan, 1.0, step, significance)
    assert pure_violation(plan, 1.0, 2 * step, 1e-6), "planted: a resident moves twice as much as is claimed"


# --- noisy max


def gumbel(scores: list[int], scale: float, k: int) -> dict[tuple[int, ...], float]:
    """Probabilities of the ordered picks: the exponential mechanism k times, without replacement."""
    found = {}
    for picks in itertools.permutations(range(len(scores)), k):
        left, chance = list(range(len(scores))), 1.0
        for pick in picks:
            weights = {i: math.exp((scores[i] - max(scores[j] for j in left)) / scale) for i in left}
            chance *= weights[pick] / sum(weights.values())
            left.remove(pick)
        found[picks] = chance
    return found


def flips(scores: list[int], scale: float, k: int) -> dict[tuple[int, ...], float]:
    """Probabilities of the ordered picks of permute-and-flip (McKenna and Sheldon 2020), k times without replacement.

    It is the largest of scores with exponential noise (Ding et al. 2021): each pick is drawn with noise anew.
    """

    def once(left: list[int]) -> dict[int, float]:
        top = max(scores[i] for i in left)
        keep = {i: math.exp((scores[i] - top) / scale) for i in left}
        chance = dict.fromkeys(left, 0.0)
        for order in itertools.permutations(left):
            missed = 1.0
            for i in order:
                chance[i] += missed * keep[i]
                missed *= 1 - keep[i]
        return {i: c / math.factorial(len(left)) for i, c in chance.items()}

    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(k):
        longer = {}
        for picks, chance in found.items():
            for i, c in once([j for j in range(len(scores)) if j not in picks]).items():
                longer[*picks, i] = chance * c
        found = longer
    return found


def picked(scores: list[int], k: int, loss: Loss, runs: int) -> list[tuple[int, ...]]:
    """What `_top` draws, so many times; its mechanism is made once."""
    plan = compile(ASKED.top(k))
    ((part,), (scale,)), make = (plan.losses(loss), plan.scales(loss)), noise.dp.m.make_noisy_top_k
    made: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise.dp.m, "make_noisy_top_k", lambda *a, **b: made[0] if made else made.append(make(*a, **b)))
        patch.setattr(noise, "_checked", lambda mechanism, *_: lambda _: [])
        noise._top(np.array(scores), k, plan.statistics[0], part, scale)
    mechanism: Any = made[0]
    return [tuple(mechanism(scores)) for _ in range(runs)]


TOP = ds.Schema("top", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(30)]), "num": ds.Integer(0, 4),
}, keys=[("cell",)])  # fmt: skip
ASKED = ds.query(TOP).keys("cell").bound(rows=1, keys=1).count()
SCORES = [[0, 0, 0, 0], [3, 2, 2, 0], [0, 2, 1, 1], [10**12, 10**12 - 1, 10**12 - 3, 10**12 - 4]]


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.campaign), 2])
@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_the_top_is_drawn_as_the_mechanism_says_in_ties_and_huge_scores_too(scores, k, measure):
    loss = Loss(3 * 10**8 * k) if measure == "zcdp" else Loss(10**9 * k, "pure")
    (scale,) = compile(ASKED.top(k)).scales(loss)
    expected = (gumbel if measure == "zcdp" else flips)(scores, scale, k)
    sample = picked(scores, k, loss, 3_000)
    assert agrees(sample, expected) > SHARE.take()
    half = (gumbel if measure == "zcdp" else flips)(scores, scale / 2, k)
    if len(set(scores)) > 1:
        assert agrees(sample, half) < 1e-12, "half the noise would not be noticed"


@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_the_loss_of_the_top_between_neighbours_stays_below_the_claim_and_one_off_by_two_is_noticed(measure):
    """All cells are equal, and the resident moves one of them up as far as the bounds allow."""
    runs, cells = 1_200, 30
    loss = Loss(10**9 * 9 // 32) if measure == "zcdp" else Loss(15 * 10**8, "pure")  # epsilon 1.5 a pick
    low, high = [0] * cells, [1] + [0] * (cells - 1)

    def chances(step: int, significance: float) -> tuple[float, float]:
        p, q = (sum(a == (0,) for a in picked(s, 1, loss, runs)) for s in ([step * h for h in high], low))
        return least_probability(p, runs, significance / 2), most_probability(q, runs, significance / 2)

    def allowed(q: float) -> float:
        if measure == "pure":
            return math.exp(1.5) * q
        return min(math.exp(e) * q + delta_of(loss.nano / 1e9, e) for e in np.linspace(0.1, 4, 40))

    p, q = chances(1, SHARE.take())
    assert p <= allowed(q)
    p, q = chances(2, 1e-6)
    assert p > allowed(q), "planted: a resident moves twice as much as is claimed"


@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_picks_fall_short_of_the_true_ones_by_at_most_the_margin_of_the_preview(measure):
    """The j-th pick against the j-th highest score; all but one cell are just further below than the margin."""
    k, runs, loss = 3, 800, Loss(10**8, "zcdp") if measure == "zcdp" else Loss(10**9, "pure")
    plan = compile(ASKED.top(k))
    shown = preview(plan.query, plan.statistics, plan.parts, plan.scales(loss), plan.cells, loss, 0.9, ()).frame
    margin, scores = shown["margin"][0], [int(shown["margin"][0])] + [0] * 29
    true = sorted(scores, reverse=True)[:k]
    held = sum(
        all(t - scores[i] <= margin for t, i in zip(true, p, strict=True)) for p in picked(scores, k, loss, runs)
    )
    assert stats.binom.cdf(held, runs, 0.9) > SHARE.take()
    assert shown["sigma"][0] == pytest.approx(
        plan.scales(loss)[0] * (math.pi / math.sqrt(6) if measure == "zcdp" else 1)
    )


def test_the_top_of_too_little_noise_is_refused_by_the_map_of_opendp():
    plan = compile(ASKED.top(2))
    for loss in (ds.zcdp(rho="0.1"), ds.pure(epsilon="0.1")):
        (part,), (scale,) = plan.losses(loss), plan.scales(loss)
        with pytest.raises(InternalError, match="privacy map"):
            noise._top(np.zeros(30, dtype=np.int64), 2, plan.statistics[0], part, scale * 0.999)


# --- thresholds


def shown(keys: int, query: ds.Query, loss: Loss, count: int = 1) -> tuple[int, Plan]:
    """How many of so many keys, each with `count` residents, show."""
    plan = compile(query)
    total = Exact([np.full(keys, count, dtype=np.int64) for _ in plan.statistics], np.arange(keys, dtype=np.int64))
    cells = noise.draw(total, plan, reserved(loss)).cells
    assert cells is not None
    assert (np.diff(cells) > 0).all(), "what shows comes in ascending order"
    return len(cells), plan


RARE = [(1, "2", "0.01"), (4, "8", "0.01"), (2, "0.05", "0.005")]
QUERY = ds.query(SHOPS).keys(ds.unknown("shop"))


@pytest.mark.parametrize(("keys", "rho", "delta"), RARE)
def test_a_key_that_one_resident_has_shows_at_most_delta_often(keys, rho, delta):
    runs, loss = 20_000, ds.zcdp(rho=rho, delta=delta)
    count, plan = shown(runs, QUERY.bound(rows=1, keys=keys).distinct(), loss)
    assert plan.statistics[plan.found].touched == keys
    assert stats.binom.sf(count - 1, runs, loss.delta / ATTO / keys) > SHARE.take()


@pytest.mark.parametrize(("keys", "rho", "delta"), RARE)
def test_a_threshold_that_is_too_low_is_noticed(monkeypatch, keys, rho, delta):
    """Planted: the threshold of a delta 300 times as large, and one less."""
    runs, loss = 20_000, ds.zcdp(rho=rho, delta=delta)
    monkeypatch.setattr(noise, "threshold", lambda scale, d: threshold(scale, min(300 * d, 0.9)) - 1)
    monkeypatch.setattr(noise, "_checked", lambda mechanism, *_: mechanism)
    count, _ = shown(runs, QUERY.bound(rows=1, keys=keys).distinct(), loss)
    assert stats.binom.sf(count - 1, runs, loss.delta / ATTO / keys) < 1e-6


def test_a_threshold_that_is_too_low_is_refused_by_the_map_of_opendp(monkeypatch):
    monkeypatch.setattr(noise, "threshold", lambda scale, d: threshold(scale, min(300 * d, 0.9)) - 1)
    with pytest.raises(InternalError, match="privacy map"):
        shown(10, QUERY.bound(rows=1, keys=2).distinct(), ds.zcdp(rho="0.1", delta="1e-6"))


def exact_tail(sigma: float, z: int) -> float:
    """P(Z >= z) of the discrete Gaussian, summed from its smallest terms on."""
    last = int(45 * sigma) + 45
    mass = np.exp(-(np.arange(last + 1, dtype=np.longdouble) ** 2) / (2 * np.longdouble(sigma) ** 2))
    return float(math.fsum(mass[z:][::-1]) / (mass[0] + 2 * math.fsum(mass[1:][::-1])))


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.2, 0.35, 0.5, 0.8, 1.0, 1.7, 3.3, 7.07, 22.4, 70.7, 223.6, 3000.0])
@pytest.mark.parametrize("delta", [0.01, 1e-4, 1e-9, 1e-14, 1e-18, 1.5e-23])
def test_thresholds_are_never_too_low_and_little_too_high(sigma, delta):
    at = threshold(sigma, delta)
    assert exact_tail(sigma, at - 1) <= delta * (1 + 1e-12)
    step = max(1, int(sigma / 64))
    assert at == 2 or exact_tail(sigma, at - 2 - step) > delta * 0.9


def test_the_other_statistics_are_aligned_to_the_keys_that_show():
    """Huge losses: what shows is nearly exact, key by key."""
    plan = compile(QUERY.bound(rows=40, keys=1).distinct().count())
    cells = np.array([3, 10**6, 10**9], dtype=np.int64)
    total = Exact([np.array([2_000_000, 1, 1_000_000]), np.array([70_000_000, 5, 30_000_000])], cells)
    made = noise.draw(total, plan, reserved(Loss(10**14, delta=10**12)))
    assert made.cells is not None
    assert made.cells.tolist() == [3, 10**9]
    assert np.abs(made.values[0] - [2_000_000, 1_000_000]).max() < 10
    assert np.abs(made.values[1] - [70_000_000, 30_000_000]).max() < 400


@pytest.mark.parametrize("count", [5, 40])
def test_the_loss_between_neighbours_under_a_threshold_stays_below_the_claim(count):
    """One key with so many residents, and one more: that it shows, and with how much."""
    runs, loss = 12_000, ds.zcdp(rho="0.5", delta="1e-3")
    plan = compile(QUERY.bound(rows=1, keys=1).distinct())

    def values(n: int) -> np.ndarray:
        return noise.draw(Exact([np.full(runs, n)], np.arange(runs)), plan, reserved(loss)).values[0]

    def violated(step: int, significance: float) -> bool:
        low, high = values(count), values(count + step)
        found = False
        for epsilon, cut in itertools.product((0.5, 1.0, 1.5), (0, count + 1, count + 2)):
            p = least_probability(int((high >= cut).sum()), runs, significance / 18)
            q = most_probability(int((low >= cut).sum()), runs, significance / 18)
            found |= p > math.exp(epsilon) * q + delta_of(0.5, epsilon) + loss.delta / ATTO
        return found

    assert not violated(1, SHARE.take())
    assert count == 5 or violated(4, 1e-6), "planted: a resident moves four times as much as is claimed"
