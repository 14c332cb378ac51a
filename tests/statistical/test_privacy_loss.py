"""An empirical lower bound on the privacy loss between two neighbouring pools stays below the claim.

For rho-zCDP every event E and every order a > 1 satisfy P(E | pool) <= exp(eps) P(E | neighbour) + delta(eps), with
delta(eps) = exp((a - 1)(a rho - eps)) / (a - 1) (1 - 1/a)^a (Canonne, Kamath and Steinke 2020, proposition 7).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import datasov as ds
from datasov.kernel import noise
from datasov.kernel.contribute import Exact
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import compile
from datasov.model.plan import Plan
from datasov.model.privacy import Loss
from tests.helpers import Harness
from tests.statistical.significance import CHECKS, Share, least_probability, most_probability

RUNS = 20_000
RHO = 0.5
SCHEMA = ds.Schema("s", domain="energy", columns={"k": ds.Category(["a", "b"]), "num": ds.Integer(0, 5)}, keys=[("k",)])
QUERY = ds.query(SCHEMA).keys("k").bound(rows=3, keys=2)
EPSILONS = (0.5, 1.0, 1.5, 2.0)
SHARE = Share("privacy")


def delta(rho: float, epsilon: float) -> float:
    orders = 1 + np.geomspace(1e-3, 1e3, 4000)
    exponent = (orders - 1) * (orders * rho - epsilon) + orders * np.log1p(-1 / orders) - np.log(orders - 1)
    return float(min(1.0, np.exp(np.minimum(exponent, 0)).min()))


def neighbours(folder, query: ds.Query) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Exact totals of a pool, and of the same pool with one more resident, who does all that the bounds allow."""
    rows = {n: [{"k": "ab"[n % 2], "num": n}] * 2 for n in range(4)}
    worst = [{"k": k, "num": 5} for k in "ab" for _ in range(6)]
    without, with_one = Harness(folder / "a"), Harness(folder / "b")
    without.admit(SCHEMA, rows, {})
    with_one.admit(SCHEMA, {**rows, "one": worst}, {})
    return compile(query), without.totals(query), with_one.totals(query)


def runs(plan: Plan, total: np.ndarray, statistic: int, direction: np.ndarray, rho: float) -> np.ndarray:
    """Many runs of the question at once, each projected on the direction that tells the neighbours apart best.

    The draw is made on a plan with as many cells, so that each run has noise of its own.
    """
    reservation = Reservation(bytes(16), Loss(round(rho * 1e9) * len(plan.statistics)))
    repeated = np.tile(total, (1, RUNS))
    vectors = noise.draw(Exact(list(repeated)), plan, reservation).values
    return vectors[statistic].reshape(RUNS, plan.cells) @ direction


def violation(plan: Plan, low: np.ndarray, high: np.ndarray, rho: float, significance: float) -> list[str]:
    """Events that are likelier, at this significance, than rho-zCDP for each statistic allows; none where it holds."""
    found = []
    for i, statistic in enumerate(plan.statistics):
        step = (high - low)[i]
        a, b = (runs(plan, total, i, step, rho) for total in (low, high))
        for epsilon in EPSILONS:
            cut = np.quantile(b, 1 - math.exp(-epsilon))
            p = least_probability(int((b >= cut).sum()), RUNS, significance / 2)
            q = most_probability(int((a >= cut).sum()), RUNS, significance / 2)
            if p > math.exp(epsilon) * q + delta(rho, epsilon):
                found.append(f"{statistic.kind}: {p} > exp({epsilon}) {q} + delta")
    return found


@pytest.mark.parametrize("query", [QUERY.count(), QUERY.sum("num"), QUERY.distinct(), QUERY.count().mean("num")])
def test_the_loss_between_neighbours_stays_below_the_claim(tmp_path, query):
    significance = min(SHARE.take() for _ in range(len(compile(query).statistics) * len(EPSILONS)))
    plan, low, high = neighbours(tmp_path, query)
    for statistic, step in zip(plan.statistics, high - low, strict=True):
        assert (step**2).sum() == statistic.squared_sensitivity, "the worst resident is not as bad as the bounds allow"
    assert violation(plan, low, high, RHO, significance) == []


@pytest.mark.parametrize("query", [QUERY.count(), QUERY.sum("num"), QUERY.distinct()])
def test_a_sensitivity_that_is_off_by_two_is_noticed(tmp_path, query):
    """Planted: the plan claims half the sensitivity, so that the noise is half of what it must be."""
    plan, low, high = neighbours(tmp_path, query)
    half = tuple(replace(s, most=s.most / 2) for s in plan.statistics)
    found = violation(replace(plan, statistics=half), low, high, RHO, 1e-6 / sum(CHECKS.values()))
    assert found, "half the noise was not noticed"
