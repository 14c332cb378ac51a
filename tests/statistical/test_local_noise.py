"""Local trust through OpenDP's real draws: what is estimated is unbiased, and intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.kernel.plan import compile
from datasov.mpc.local import Encoding, Tally, encoding, fit, frame, randomise, tally
from tests.helpers import TRIPS
from tests.local_reports import exact_tally, of_one
from tests.statistical.significance import Share, too_rare

share = Share("local")
ONE = ds.pure(epsilon=1)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("kind", ["unary", "hadamard"])
def test_supports_follow_their_binomials(kind):
    """1,200 residents: 600 of one category, 200 of another, 400 null reports; a third category is nobody's."""
    how = Encoding(kind, 3, encoding(3, ONE).flip)
    reports = [randomise(c, how, ONE) for c in [0] * 600 + [1] * 200 + [None] * 400]
    added = tally(how, reports)
    for seen, true in zip(added.supports.tolist(), (600, 200, 0), strict=True):
        mean = true * how.own + (1200 - true) * how.other
        spread = np.sqrt(true * how.own * (1 - how.own) + (1200 - true) * how.other * (1 - how.other))
        assert 2 * stats.norm.sf(abs(seen - mean) / spread) > share.take()
    own = tally(how, reports[:600]).supports
    assert stats.binomtest(int(own[0]), 600, how.own).pvalue > share.take()
    assert stats.binomtest(int(own[2]), 600, how.other).pvalue > share.take()


@pytest.mark.parametrize("kind", ["unary", "hadamard"])
@pytest.mark.parametrize(("true", "n"), [(0, 3), (3, 3), (5, 40), (100, 5000), (5000, 5000)])
def test_intervals_cover(kind, true, n, rng):
    """2,000 tallies drawn from their law, at two confidences."""
    how = Encoding(kind, 1, encoding(1, ONE).flip)
    supports = rng.binomial(true, how.own, 2000) + rng.binomial(n - true, how.other, 2000)
    for confidence in (0.5, 0.95):
        low, high = Tally(how, supports, n).intervals(confidence)
        inside = int(((low - 1e-6 <= true) & (true <= high + 1e-6)).sum())
        assert too_rare(inside, 2000, confidence) > share.take()
    estimates = Tally(how, supports, n).estimates()
    assert 2 * stats.norm.sf(abs(estimates.mean() - true) / (how.deviation(n, true / n) / np.sqrt(2000))) > share.take()


def test_intervals_are_not_wide_for_nothing(rng):
    """At a million residents within 5 parts in 100 of the normal's: chances that differ count as their mean."""
    how = encoding(4, ONE)
    low, high = exact_tally(how, [250_000] * 4, 10**6, rng).intervals(0.95)
    assert np.allclose((high - low) / 2, 1.96 * how.deviation(10**6, 0.25), rtol=0.05)


def test_means_and_sums_cover(rng):
    """Values of 400 residents in two cells, each rounded by their device; the supports from their law, 60 times."""
    query = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count().mean("km")
    plan = compile(query)
    found = fit(plan, ds.pure(epsilon=4))
    values = [(0, 10), (0, 50), (1, 0), (1, 20)] * 100
    inside = {"km_mean": 0, "count": 0}
    for _ in range(60):
        categories = [found.category(of_one(found, 4, cell, km - 25)) for cell, km in values]
        numbers = np.bincount(categories, minlength=8).tolist()
        shown = frame(plan, found, exact_tally(found.how, numbers, 500, rng), 0.9)
        for name, truth in (("km_mean", (30, 10)), ("count", (200, 200))):
            ends = shown[name + "_low"].to_list(), shown[name + "_high"].to_list()
            inside[name] += sum(low <= t <= high for low, high, t in zip(*ends, truth, strict=False))
    for hits in inside.values():
        assert too_rare(hits, 120, 0.9) > share.take()


@pytest.mark.parametrize("residents", [10_000, 100_000, 1_000_000])
def test_the_error_at_256_cells_is_that_of_optimal_unary_encoding(residents, rng):
    """L1 over 256 cells at epsilon 1, as in the literature: n 4 e^eps / (e^eps - 1)^2 a cell for an empty one."""
    how = encoding(256, ONE)
    true = np.full(256, residents // 256)
    true[0] += residents - true.sum()
    error = np.abs(exact_tally(how, true.tolist(), residents, rng).estimates() - true)
    deviations = np.array([how.deviation(residents, t / residents) for t in true])
    expected, spread = deviations.sum() * np.sqrt(2 / np.pi), np.sqrt((deviations**2).sum() * (1 - 2 / np.pi))
    assert 2 * stats.norm.sf(abs(error.sum() - expected) / spread) > share.take()
    table = {10_000: 38_961, 100_000: 124_811, 1_000_000: 396_104}[residents]
    assert abs(expected - table) < 4 * spread
