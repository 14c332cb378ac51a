"""Bounds that noisy quantiles suggest."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.kernel.plan import compile
from tests.helpers import PURPOSE, enrol, found_city

BUYS = ds.Schema(
    "buys", domain="payments", keys=[("ward",)],
    columns={"ward": ds.Category("ABCDEFGH"), "yen": ds.Integer(0, 1_000_000), "kg": ds.Decimal(-10, 90, scale=1)},
)  # fmt: skip
QUERY = ds.query(BUYS).keys("ward").count().mean("yen").sum("kg").sum("yen", per="resident", low=0, high=9)


@pytest.fixture
def city(tmp_path, clock):
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=1000)) as made:
        rng = np.random.default_rng(4)

        def rows(_):
            wards = rng.choice(list("ABCDEFGH"), size=3, replace=False)
            return [{"ward": w, "yen": int(rng.integers(20_000, 40_000)), "kg": 4.5} for w in wards for _ in range(6)]

        enrol(made, range(300), rows, schema=BUYS, loss=ds.zcdp(rho=500))
        yield made


def test_suggestions_are_those_of_the_data(city):
    found = city.suggest_bounds(QUERY, loss=ds.zcdp(rho=200), purpose=PURPOSE)
    assert (found.rows, found.keys) == (6, 3)
    low, high = found.clips["yen"]
    bin_width = 1_000_001 / 64
    assert 20_000 - bin_width <= low <= 22_000
    assert 38_000 <= high <= 40_000 + bin_width
    low, high = found.clips["kg"]
    assert low <= 4.5 <= high
    assert high - low < 4


def test_the_cost_is_the_loss_that_was_named_and_two_releases(city):
    before = city.remaining
    found = city.suggest_bounds(QUERY, loss=ds.zcdp(rho=1), purpose=PURPOSE)
    assert city.remaining == before - ds.zcdp(rho=1)
    assert [r.digest for r in city.releases()] == [r.digest for r in found.releases]
    again = city.suggest_bounds(QUERY, loss=ds.zcdp(rho=1), purpose=PURPOSE)
    assert (again.rows, again.keys, again.clips) == (found.rows, found.keys, found.clips)
    assert city.remaining == before - ds.zcdp(rho=1), "asked before in this epoch"


@pytest.mark.parametrize("rho", ["0.000001", "0.01"])
def test_a_question_under_whatever_noise_suggests_is_one_that_can_be_asked(city, rho):
    bounded = city.suggest_bounds(QUERY, loss=ds.zcdp(rho=rho), purpose=PURPOSE).apply(QUERY)
    plan = compile(bounded)
    assert 1 <= plan.rows <= 255
    assert 1 <= plan.keys <= 8
    assert bounded.aggregates[3] == QUERY.aggregates[3], "a total within the person keeps its clips"
    assert city.release(bounded, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE).frame().height == 8


def test_without_values_one_release_has_all_of_the_loss(city):
    found = city.suggest_bounds(ds.query(BUYS).keys("ward").count(), loss=ds.zcdp(rho=1), purpose=PURPOSE)
    assert len(found.releases) == 1
    assert found.releases[0].loss == ds.zcdp(rho=1)
    assert found.clips == {}


def test_an_attribute_table_needs_values_alone(tmp_path, clock):
    who = ds.Schema("who", domain="health", kind="attributes", columns={"age": ds.Integer(0, 120)})
    with found_city(tmp_path, clock) as city:
        question = ds.query(who).mean("age")
        found = city.suggest_bounds(question, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)
        assert (found.rows, found.keys, len(found.releases)) == (None, None, 1)
        compile(found.apply(question))
        with pytest.raises(ds.InvalidQueryError):
            city.suggest_bounds(ds.query(who).count(), loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)


@pytest.mark.parametrize("share", [0, "0.5", 1, "0.99999", None, "x"])
def test_what_is_no_share_is_refused_before_anything_is_spent(city, share):
    before = city.remaining
    with pytest.raises(ds.InvalidQueryError):
        city.suggest_bounds(QUERY, loss=ds.zcdp(rho=1), purpose=PURPOSE, share=share)
    assert city.remaining == before
