"""Intervals of quantiles, and of every statistic under both measures, cover what they claim in the worst cases too."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import datasov as ds
from datasov.kernel import noise
from datasov.kernel.contribute import Exact
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import Plan, compile
from datasov.model import estimates
from datasov.model.aggregate import equal_cuts
from datasov.model.noise import Noise
from datasov.model.privacy import Loss
from datasov.model.quantiles import estimate, levels
from tests.statistical.significance import Share, discrete_gaussian, discrete_laplace, too_rare

SHARE = Share("quantiles")
CONFIDENCES = (0.5, 0.9, 0.95, 0.99)
HIGH = 1000
DATA = {
    "one": [HIGH // 2], "equal": [HIGH] * 40, "lowest": [0] * 7, "two": [0, HIGH], "few": [1, 2, 3, 500, 999],
    "half and half": [0] * 50 + [HIGH] * 50, "many": list(range(0, HIGH + 1, 2)),
}  # fmt: skip


def drawn(noise: Noise, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    support, mass = (discrete_gaussian if noise.measure == "zcdp" else discrete_laplace)(noise.scale)
    return rng.choice(support, size=size, p=mass)


def quantile(data: list[int], q: str) -> int:
    """The least value that at least a share q of the data do not exceed."""
    return sorted(data)[math.ceil(Fraction(q) * len(data)) - 1]


def check(data: list[int], bins: int, noises: list[Noise], q: str, runs: int, seed: int) -> None:
    cuts, rng = equal_cuts(0, HIGH, bins), np.random.default_rng(seed)
    parts = levels(cuts)
    noises = (noises * len(parts))[: len(parts)]
    exact = [np.bincount(np.searchsorted(p, data, side="right"), minlength=len(p) + 1) for p in parts]
    vectors = [(e + drawn(n, (runs, len(e)), rng)).ravel() for e, n in zip(exact, noises, strict=True)]
    truth, significance = quantile(data, q), SHARE.take() / len(CONFIDENCES)
    for confidence in CONFIDENCES:
        value, low, high = estimate(parts, vectors, noises, float(q), (0, HIGH), confidence)
        assert ((low <= value) & (value <= high)).all()
        covered = int(((low <= truth) & (truth <= high)).sum())
        assert too_rare(covered, runs, confidence) > significance, (q, confidence, covered / runs)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("q", ["0.01", "0.5", "0.99"])
@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_intervals_of_quantiles_cover(name, q, measure):
    check(DATA[name], 16, [Noise(0.6, measure), Noise(1.7, measure)], q, 1_000, len(name))


@pytest.mark.parametrize("bins", [2, 64, pytest.param(1024, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("scale", [0.25, 6.0])
@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_intervals_of_quantiles_cover_with_few_bins_and_many(bins, scale, measure):
    check(DATA["few"], bins, [Noise(scale, measure)], "0.9", 400, bins)


def test_an_interval_of_nobody_is_an_interval_and_nothing_fails():
    parts = levels(equal_cuts(0, HIGH, 64))
    vectors = [np.zeros(len(p) + 1, dtype=np.int64) for p in parts]
    value, low, high = estimate(parts, vectors, [Noise(3.0, "pure")] * len(parts), 0.5, (0, HIGH), 0.95)
    assert low[0] == 0 <= value[0] <= high[0] == HIGH


def test_too_narrow_intervals_would_be_noticed(monkeypatch):
    """Planted: the width of one noisy count alone, whatever adds up to a rank."""
    monkeypatch.setattr("datasov.model.quantiles.rank_half_width", lambda parts, *_: np.zeros(len(parts[-1])))
    with pytest.raises(AssertionError):
        check(DATA["few"], 64, [Noise(6.0, "zcdp")], "0.9", 400, 1)
    SHARE.take()


# --- every statistic through the kernel's own draw


CELLS = 700
WIDE = ds.Schema("wide", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(CELLS)]), "num": ds.Decimal(0, 20, scale=1),
    "at": ds.Integer(0, 10**6),
}, keys=[("cell",)])  # fmt: skip
BASE = ds.query(WIDE).keys("cell").bound(rows=4, keys=3)
ROWS = [0.0, 0.1, 3.3, 3.3, 19.9, 20.0, 7.5]
"""What each cell holds, each row of another resident and with another `at`."""
BY_AGGREGATE = {
    "count": (lambda q: q.count(), len(ROWS)),
    "distinct": (lambda q: q.distinct(), len(ROWS)),
    "sum": (lambda q: q.sum("num"), sum(ROWS)),
    "clipped sum": (lambda q: q.sum("num", low=1, high=10), sum(min(max(v, 1), 10) for v in ROWS)),
    "mean": (lambda q: q.mean("num"), float(np.mean(ROWS))),
    "variance": (lambda q: q.variance("num"), float(np.var(ROWS))),
    "std": (lambda q: q.std("num"), float(np.std(ROWS))),
    "median": (lambda q: q.median("num", bins=20), 3.3),
    "quantile": (lambda q: q.quantile("num", "0.99", bins=40), 20.0),
    "count per": (lambda q: q.count(per="at"), len(ROWS)),
    "mean per": (lambda q: q.mean("num", per="at", low=0, high=20), float(np.mean(ROWS))),
    "median per": (lambda q: q.median("num", per="resident", low=0, high=20, bins=32), 3.3),
}


LOSSES = [
    pytest.param(Loss(30 * 10**9), marks=pytest.mark.campaign), Loss(5 * 10**7),
    pytest.param(Loss(10**11, "pure"), marks=pytest.mark.campaign), Loss(5 * 10**8, "pure"),
]  # fmt: skip


def exact_totals(plan: Plan) -> Exact:
    """The totals of a pool in which every cell holds ROWS."""
    codes = np.array([round(v * 10) for v in ROWS])
    vectors = []
    for s in plan.statistics:
        if s.cuts:
            one = np.bincount(np.searchsorted(s.cuts, codes, side="right"), minlength=s.width)
        else:
            part = np.clip(codes, s.low, s.high) - s.centre
            one = np.array([{"sum": part.sum(), "square": (part * part).sum()}.get(s.kind, len(codes))])
        vectors.append(np.tile(one, CELLS))
    return Exact(vectors)


@pytest.mark.parametrize("name", BY_AGGREGATE)
@pytest.mark.parametrize("loss", LOSSES)
def test_intervals_of_every_statistic_cover_under_both_measures(name, loss):
    build, truth = BY_AGGREGATE[name]
    query = build(BASE)
    plan = compile(query)
    values = noise.draw(exact_totals(plan), plan, Reservation(bytes(16), loss)).values
    ((aggregate,), (part,)) = query.aggregates, plan.parts
    pieces = [(plan.statistics[i], values[i], Noise(plan.scales(loss)[i], loss.measure)) for i in part]
    significance = SHARE.take() / 3
    for confidence in CONFIDENCES[1:]:
        value, low, high = (c.to_numpy() for c in estimates.columns(query, aggregate, pieces, confidence))
        assert ((low <= value + 1e-9) & (value - 1e-9 <= high)).all()
        covered = int(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).sum())
        assert too_rare(covered, CELLS, confidence) > significance, (name, confidence, covered / CELLS)


@pytest.mark.parametrize("loss", [ds.zcdp(rho="0.3"), ds.pure(epsilon="0.5")])
@pytest.mark.parametrize("name", ["coverage", "rows_per_key", "keys_per_resident"])
def test_intervals_of_numbers_about_the_whole_question_cover(name, loss):
    """Each run is a question of its own: 12 residents with 1, 2, 3 ... rows in one key, or in as many keys."""
    query = BASE.coverage() if name == "coverage" else getattr(BASE, name)("0.5", high=15)
    plan, runs = compile(query), 300
    own = [np.bincount(np.searchsorted(s.cuts, np.arange(1, 13), side="right"), minlength=s.width)
           for s in plan.statistics]  # fmt: skip
    truth, ((aggregate,), (part,)) = 12 if name == "coverage" else 6, (query.aggregates, plan.parts)
    covered = 0
    for _ in range(runs):
        values = noise.draw(Exact(own), plan, Reservation(bytes(16), loss)).values
        pieces = [(plan.statistics[i], values[i], Noise(plan.scales(loss)[i], loss.measure)) for i in part]
        _, low, high = (c[0] for c in estimates.columns(query, aggregate, pieces, 0.95))
        covered += low <= truth <= high
    assert too_rare(covered, runs, 0.95) > SHARE.take()
