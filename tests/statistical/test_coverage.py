"""Intervals cover what they claim to cover, at least as often as they say."""

from __future__ import annotations

import decimal
import math

import numpy as np
import pytest

import datasov as ds
from datasov.model.noise import half_width
from datasov.model.statistics import ratio_interval, variance_interval
from tests.helpers import PURPOSE, Clock, enrol, found_city
from tests.statistical.significance import Share, discrete_gaussian, too_rare

CONFIDENCES = (0.9, 0.95, 0.99)
SHARE, RATIO, DOOR, VARIANCE = Share("coverage"), Share("ratio"), Share("door"), Share("variance")


def exact_half_width(sigma: float, confidence: float) -> int:
    """The least t with P(|Z| <= t) >= confidence, to 60 digits."""
    with decimal.localcontext(prec=60):
        variance = 2 * decimal.Decimal(sigma) ** 2
        mass = [(-(decimal.Decimal(z) ** 2) / variance).exp() for z in range(math.ceil(15 * sigma) + 2)]
        wanted = decimal.Decimal(confidence) * (mass[0] + 2 * sum(mass[1:]))
        inside, t = mass[0], 0
        while inside < wanted:
            t += 1
            inside += 2 * mass[t]
        return t


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3, 0.5, 0.77, 1.0, 2.5, 7.07, 31.4, 100.0])
@pytest.mark.parametrize("confidence", [1e-9, 0.1, 0.5, *CONFIDENCES, 0.999999, 1 - 1e-9])
def test_half_widths_are_exact(sigma, confidence):
    assert half_width(sigma, confidence) == exact_half_width(sigma, confidence)


@pytest.mark.parametrize("sigma", [1000.5, 1234.5])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 1e-6])
def test_half_widths_of_large_sigmas_are_never_too_small_and_at_most_two_too_wide(sigma, confidence):
    exact = exact_half_width(sigma, confidence)
    assert exact <= half_width(sigma, confidence) <= exact + 2


def test_no_noise_has_no_width():
    assert half_width(0.0, 0.95) == 0


@pytest.mark.parametrize("sigma", [0.4, 1.5, 20.0, 5000.0])
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_half_widths_cover_the_discrete_gaussian(sigma, confidence):
    rng = np.random.default_rng(7)
    support, mass = discrete_gaussian(sigma)
    noise = rng.choice(support, size=50_000, p=mass)
    covered = int((np.abs(noise) <= half_width(sigma, confidence)).sum())
    assert too_rare(covered, len(noise), confidence) > SHARE.take()


MEANS = [
    (0.0, 1, 0.5, 3.0), (5.0, 1, 2.0, 20.0), (-9.5, 3, 1.0, 10.0), (4.0, 10, 5.0, 50.0), (10.0, 12, 3.0, 30.0),
    (2.5, 40, 10.0, 100.0), (-10.0, 200, 20.0, 200.0), (1.25, 5000, 8.0, 80.0),
]  # fmt: skip


@pytest.mark.parametrize(("mean", "count", "sigma_count", "sigma_total"), MEANS)
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_intervals_of_means_cover_at_least_as_often_as_they_say(mean, count, sigma_count, sigma_total, confidence):
    rng, runs = np.random.default_rng([count, round(confidence * 100)]), 1_500
    total = round(mean * count)
    noises = [rng.choice(*(lambda s, m: (s, runs, True, m))(*discrete_gaussian(s))) for s in (sigma_total, sigma_count)]
    covered = 0
    for t, c in zip(total + noises[0], count + noises[1], strict=True):
        low, high = ratio_interval(float(t), float(c), sigma_total, sigma_count, confidence, -10.0, 10.0)
        assert -10.0 <= low <= high <= 10.0
        covered += low <= total / count <= high
    assert too_rare(covered, runs, confidence) > RATIO.take()


@pytest.mark.parametrize("bottom", [0.0, -3.0, 1e-9])
def test_a_mean_over_nobody_is_anywhere_in_its_range(bottom):
    assert ratio_interval(100.0, bottom, 5.0, 5.0, 0.95, -1.0, 2.0) == (-1.0, 2.0)


def test_intervals_of_means_grow_narrow_with_more_rows():
    widths = []
    for count in (10, 100, 1000, 10_000):
        low, high = ratio_interval(3.0 * count, float(count), 20.0, 2.0, 0.95, 0.0, 10.0)
        assert low < 3 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.02


@pytest.mark.parametrize("count", [1, 7, 200])
@pytest.mark.parametrize("sigmas", [(0.7, 3.0, 20.0), (9.0, 40.0, 600.0)])
def test_intervals_of_variances_cover(count, sigmas):
    runs, rng = 3000, np.random.default_rng(count)
    values = rng.integers(-20, 21, count)
    exact = int(count), int(values.sum()), int((values**2).sum())
    truth = exact[2] / count - (exact[1] / count) ** 2
    drawn = []
    for sigma in sigmas:
        support, mass = discrete_gaussian(sigma)
        drawn.append(rng.choice(support, size=runs, p=mass))
    for confidence in CONFIDENCES:
        widths = [half_width(s, 1 - (1 - confidence) / 3) for s in sigmas]
        covered = 0
        for noise in zip(*drawn, strict=True):
            boxes = [(e + n - w, e + n + w) for e, n, w in zip(exact, noise, widths, strict=True)]
            low, high = variance_interval(*boxes, 20.5**2)
            assert 0 <= low <= high <= 20.5**2
            covered += low - 1e-9 <= truth <= high + 1e-9
        assert too_rare(covered, runs, confidence) > VARIANCE.take()


def test_released_variances_are_those_of_the_rows(tmp_path):
    with found_city(tmp_path, Clock(), budget=ds.zcdp(rho=10**6)) as city:
        enrol(city, range(4), lambda n: [{"cell": "3", "num": v} for v in (n, 2 * n, 7.5)], schema=WIDE,
              loss=ds.zcdp(rho=10**6))  # fmt: skip
        query = ds.query(WIDE).keys("cell").bound(rows=5, keys=1).variance("num").std("num").mean("num")
        row = city.release(query, loss=ds.zcdp(rho=900_000), purpose=PURPOSE).frame(1 - 1e-9).row(3, named=True)
        values = np.array([v for n in range(4) for v in (n, 2 * n, 7.5)])
        assert row["num_variance"] == pytest.approx(values.var(), abs=0.6)
        assert row["num_variance_low"] <= values.var() <= row["num_variance_high"]
        assert row["num_std"] == pytest.approx(values.std(), abs=0.2)
        assert row["num_std_low"] <= values.std() <= row["num_std_high"]


CELLS = 1500
WIDE = ds.Schema("wide", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(CELLS)]), "num": ds.Decimal(0, 20, scale=1),
}, keys=[("cell",)])  # fmt: skip


def rows(resident: int) -> list[dict[str, object]]:
    return [{"cell": str(c), "num": (c * 7 % 200) / 10} for c in range(CELLS) for _ in range(resident % 3)]


@pytest.mark.parametrize("rho", ["1.5", "0.05"])
def test_released_intervals_cover_the_exact_bounded_answer(tmp_path, rho):
    with found_city(tmp_path, Clock(), budget=ds.zcdp(rho=10)) as city:
        enrol(city, range(5), rows, schema=WIDE, loss=ds.zcdp(rho=10))
        query = ds.query(WIDE).keys("cell").bound(rows=5, keys=CELLS).count().sum("num").mean("num").distinct()
        found = city.release(query, loss=ds.Loss(CELLS * ds.zcdp(rho=rho).nano // 1000), purpose=PURPOSE)
        number = np.array([c * 7 % 200 / 10 for c in range(CELLS)])
        truth = {"count": 5, "num_sum": 5 * number, "num_mean": number, "residents": 3}
        for confidence in CONFIDENCES:
            frame = found.frame(confidence=confidence)
            for name, exact in truth.items():
                low, high = (frame[name + side].to_numpy() for side in ("_low", "_high"))
                covered = int(((low <= exact + 1e-9) & (exact - 1e-9 <= high)).sum())
                assert too_rare(covered, CELLS, confidence) > DOOR.take(), name
