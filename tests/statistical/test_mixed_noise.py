"""Answers of a pool, two servers and devices together: the noises' laws, unbiased sums, intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.kernel.plan import compile
from datasov.model.noise import Noise
from datasov.model.privacy import mixed
from datasov.model.release import Release
from datasov.model.responses import Responses
from datasov.mpc.local import fit
from tests.helpers import TRIPS
from tests.local_reports import exact_tally
from tests.locals import ALL, COUNT, MEAN
from tests.statistical.significance import Share, discrete_gaussian, discrete_laplace, too_rare

SHARE = Share("mixed")
TIMES = 200


@pytest.mark.parametrize("draws", [2, 3])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5, 7.0])
@pytest.mark.parametrize(("measure", "law"), [("zcdp", discrete_gaussian), ("pure", discrete_laplace)])
def test_half_widths_are_those_of_the_convolution(draws, scale, measure, law):
    support, mass = law(scale)
    whole = mass
    for _ in range(draws - 1):
        whole = np.convolve(whole, mass)
    middle = len(whole) // 2
    for confidence in (0.5, 0.95, 0.999999):
        t = Noise(scale, measure, draws).half_width(confidence)
        assert whole[middle - t : middle + t + 1].sum() >= confidence - 1e-12
        assert t == 0 or whole[middle - t + 1 : middle + t].sum() < confidence
    assert Noise(scale, measure, 0).half_width(0.95) == 0
    assert support[0] < 0


def test_large_scales_of_three_draws_come_near_their_limit():
    for scale in (1e3, 1e6, 1e9):
        t = Noise(scale, "pure", 3).half_width(0.95)
        assert abs(t / scale - Noise(1e4, "pure", 3).half_width(0.95) / 1e4) < 0.01
        assert t < Noise(math.sqrt(6) * scale, "zcdp").half_width(0.99)


def _drawn(query, loss, generator, true, values):
    """A release of all three parts, drawn from its law: so many residents of each cell in each part, of one value."""
    plan = compile(query)
    found = fit(plan, loss)
    exact = [np.zeros(s.size(plan.cells), dtype=np.int64) for s in plan.statistics]
    for vector, s in zip(exact, plan.statistics, strict=True):
        vector += true * 2 * (values if s.kind == "sum" else 1)
    noised = []
    for vector, scale in zip(exact, plan.scales(loss), strict=True):
        chance = 1 - math.exp(-1 / scale)
        size = len(vector)
        noised.append(
            vector + sum(generator.geometric(chance, size) - generator.geometric(chance, size) for _ in "abc")
        )
    categories = true if found.total is None else np.zeros(2 * plan.cells, dtype=np.int64)
    if found.total is not None:
        above = generator.binomial(true, (values - found.low) / (found.high - found.low))
        categories[1::2], categories[::2] = above, true - above
    tally = exact_tally(found.how, categories.tolist(), int(true.sum()) + 50, generator)
    return Release(
        identifier=bytes(16), city="c", query=query, purpose="p", programme="", loss=loss, trust=mixed(ALL),
        mechanism="", epoch=0, time=0, statistics=plan.statistics, parts=plan.parts, values=tuple(noised),
        scales=plan.scales(loss), responses=Responses(found, tally),
    )  # fmt: skip


@pytest.mark.parametrize(("query", "name"), [(COUNT, "count"), (MEAN, "km_mean")])
def test_intervals_of_all_parts_cover_and_sums_are_unbiased(query, name):
    generator = np.random.default_rng()
    true, loss = np.array([300, 40, 5, 0]), ds.pure(epsilon=1)
    covered, sums = np.zeros(4, dtype=np.int64), []
    truth = 3.0 * true if name == "count" else np.full(4, float(TRIPS.column("km").low + 10))
    centre = next((s.centre for s in compile(query).statistics if s.kind == "sum"), 0)
    for _ in range(TIMES):
        frame = _drawn(query, loss, generator, true, TRIPS.column("km").low + 10 - centre).frame(0.9)
        low, high = (frame[name + end].to_numpy() for end in ("_low", "_high"))
        covered += (low <= truth) & (truth <= high)
        sums.append(frame[name].to_numpy())
    for cell in range(4 if name == "count" else 3):
        assert too_rare(int(covered[cell]), TIMES, 0.9) > SHARE.take()
    if name == "count":
        for cell in range(4):
            assert stats.ttest_1samp(np.array(sums)[:, cell], truth[cell]).pvalue > SHARE.take()
