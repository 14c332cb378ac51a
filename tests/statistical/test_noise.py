"""The noise that is drawn is the discrete Gaussian of the plan's sigma, in every statistic and every cell."""

from __future__ import annotations

import math

import numpy as np
import pytest

import datasov as ds
from datasov.errors import InternalError
from datasov.kernel import noise
from datasov.kernel.contribute import add
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import compile
from datasov.model.plan import Plan
from datasov.model.privacy import Loss
from tests.statistical.significance import Share, fits

CELLS = 20_000
WIDE = ds.Schema("wide", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(CELLS)]), "num": ds.Integer(-10, 30, nullable=True),
}, keys=[("cell",)])  # fmt: skip
BASE = ds.query(WIDE).keys("cell")
SHARE = Share("noise")


def drawn(query: ds.Query, rho: str) -> tuple[Plan, tuple[float, ...], tuple[np.ndarray, ...]]:
    """Noise alone: the draw over an empty pool."""
    plan, loss = compile(query), ds.zcdp(rho=rho)
    return plan, plan.scales(loss), noise.draw(add([], plan), plan, Reservation(bytes(16), loss)).values


@pytest.mark.parametrize("rho", ["2", "0.3", "0.02", "0.0001"])
def test_the_noise_of_a_count_is_the_discrete_gaussian(rho):
    (_, (sigma,), (vector,)) = drawn(BASE.bound(rows=1, keys=1).count(), rho)
    assert sigma == pytest.approx(1 / math.sqrt(2 * float(rho)), rel=1e-9)
    assert fits(vector, sigma) > SHARE.take()


@pytest.mark.parametrize(("rows", "keys"), [(1, 1), (3, 4)])
def test_every_statistic_of_a_question_has_its_own_noise(rows, keys):
    query = BASE.bound(rows=rows, keys=keys).count().sum("num").mean("num").distinct()
    plan, sigmas, vectors = drawn(query, "0.4")
    assert [s.kind for s in plan.statistics] == ["count", "sum", "count", "sum", "distinct"]
    expected = [rows * math.sqrt(keys) * h for h in (1, 30, 1, 20)] + [math.sqrt(keys)]
    for sigma, reach, vector in zip(sigmas, expected, vectors, strict=True):
        assert sigma == pytest.approx(reach / math.sqrt(2 * 0.08), rel=1e-9)
        assert fits(vector, sigma) > SHARE.take()


def test_neighbouring_cells_and_statistics_are_independent():
    _, sigmas, vectors = drawn(BASE.bound(rows=1, keys=1).count().sum("num"), "0.1")
    units = [v / s for v, s in zip(vectors, sigmas, strict=True)]
    pairs = [(units[0], units[1]), (units[0][:-1], units[0][1:]), (units[1][:-1], units[1][1:])]
    for a, b in pairs:
        z = abs(float((a * b).sum())) / math.sqrt(len(a))
        assert math.erfc(z / math.sqrt(2)) > SHARE.take()


def test_two_draws_differ():
    query = BASE.bound(rows=1, keys=1).count()
    assert (drawn(query, "0.1")[2][0] != drawn(query, "0.1")[2][0]).any()


def test_a_reservation_pays_for_one_draw():
    plan = compile(BASE.bound(rows=1, keys=1).count())
    reservation = Reservation(bytes(16), ds.zcdp(rho="0.1"))
    noise.draw(add([], plan), plan, reservation)
    with pytest.raises(InternalError):
        noise.draw(add([], plan), plan, reservation)


@pytest.mark.parametrize("factor", [0.5, 0.999])
def test_too_little_noise_is_refused_by_the_map_of_opendp(monkeypatch, factor):
    real = Plan.scales
    monkeypatch.setattr(Plan, "scales", lambda self, loss: tuple(s * factor for s in real(self, loss)))
    with pytest.raises(InternalError, match="privacy map"):
        drawn(BASE.bound(rows=1, keys=1).count(), "0.1")


def test_half_the_noise_would_be_noticed_here_too():
    _, (sigma,), (vector,) = drawn(BASE.bound(rows=1, keys=1).count(), "0.02")
    assert fits(vector, sigma * 2) < 1e-12
    assert fits(vector * 2, sigma) < 1e-12
    assert fits(np.where(np.arange(CELLS) % 10 == 0, 0, vector), sigma) < 1e-12, "cells without noise"
    assert fits(np.abs(vector), sigma) < 1e-12


@pytest.mark.parametrize("nano", [1, 2, 3, 7, 10**9, 10**15])
@pytest.mark.parametrize("statistics", [1, 2, 3])
def test_the_parts_of_a_loss_never_exceed_it(nano, statistics):
    query = BASE.bound(rows=7, keys=3).count()
    query = query if statistics == 1 else query.sum("num") if statistics == 2 else query.sum("num").distinct()
    plan, loss = compile(query), Loss(nano)
    if nano < statistics:
        with pytest.raises(ds.InvalidQueryError):
            plan.losses(loss)
        return
    assert sum(part.nano for part in plan.losses(loss)) <= nano
    for statistic, part, sigma in zip(plan.statistics, plan.losses(loss), plan.scales(loss), strict=True):
        assert statistic.squared_sensitivity / (2 * sigma**2) <= part.nano / 1e9
