"""Faults planted one at a time: the tests of neighbouring data must notice each of them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.kernel import contribute, monitor, plan
from datasov.kernel.plan import compile
from datasov.model import shard
from datasov.model.privacy import Loss
from datasov.model.shard import PAIR, RESIDENT
from datasov.pool import ranks
from datasov.pool.pool import Pool
from tests.helpers import COUNT, PURPOSE, Harness, enrol
from tests.property import test_sensitivity as property_of_sensitivity
from tests.property.test_sensitivity import check
from tests.strategies import Case, table

SCHEMA = ds.Schema(
    "ev", domain="mobility", keys=[("cat",)],
    columns={"cat": ds.Category(["a", "b", "c"]), "num": ds.Integer(0, 9),
             "at": ds.Timestamp("2027-01-01", "2027-01-03")},
)  # fmt: skip
WHO = ds.Schema(
    "who", domain="administration", kind="attributes",
    columns={"age": ds.Integer(0, 99), "ward": ds.Category(["x", "y"]),
             "born": ds.Timestamp("1950-01-01", "1950-01-03")},
)  # fmt: skip
BASE = ds.query(SCHEMA).join(WHO).bound(rows=2, keys=2)
QUERIES = [
    BASE.keys("cat").count().sum("num"),
    BASE.keys("cat").where(ds.col("num") < 9).count().distinct(),
    BASE.keys(ds.bin("num", [3, 6])).sum("num"),
    BASE.mean("num"),
]


def case(query: ds.Query, seed: int) -> Case:
    """Three residents who each do far more than the bounds allow."""
    rng = random.Random(seed)
    extreme = [{"cat": c, "num": 9 - i % 2, "at": "2027-01-02"} for c in "abc" for i in range(8)]
    rows = {"r0": extreme, "r1": list(reversed(extreme)), "r2": table(SCHEMA, rng, 20)}
    profiles = {n: table(WHO, rng, 1)[0] for n in rows}
    return Case(SCHEMA, WHO, rows, profiles, {}, query, seed)


def noticed(query: ds.Query) -> bool:
    """Whether the test of neighbouring data fails over some of these cases, for the right kind of reason."""
    for seed in range(8):
        try:
            check(case(query, seed))
        except AssertionError:
            return True
    return False


def runs(compiled: plan.Plan, kept: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows, and where each pair of them begins: what `_bounded_anew` returns."""
    columns = (kept[RESIDENT].to_numpy(), kept[PAIR + compiled.index].to_numpy())
    return kept, shard.runs(*columns)


@pytest.mark.parametrize("query", QUERIES)
def test_nothing_is_noticed_where_nothing_is_planted(query):
    assert not noticed(query)


@pytest.mark.parametrize("query", QUERIES)
def test_half_the_sensitivity_is_noticed(query, monkeypatch):
    real = plan._statistics

    def halved(*given):
        return [replace(s, most=s.most / 2) for s in real(*given)]

    monkeypatch.setattr(plan, "_statistics", halved)
    assert noticed(query)


@pytest.mark.parametrize("query", QUERIES)
def test_truncation_by_the_order_of_all_rows_is_noticed(query, monkeypatch):
    monkeypatch.setattr(contribute, "_bound", lambda p: pl.int_range(pl.len()) < p.rows * p.keys)
    monkeypatch.setattr(contribute, "_bounded_anew", lambda p, _, passing, left: runs(p, passing.head(p.rows * p.keys)))
    assert noticed(query)


@pytest.mark.parametrize("query", QUERIES[:3])
def test_ranks_by_the_order_of_a_residents_rows_are_noticed(query, monkeypatch):
    """Not a fault of privacy, but not what the specification says."""
    monkeypatch.setattr(ranks, "_prf", lambda secret, info, identities, resident, items: items.astype(np.uint64))
    assert noticed(query)


@pytest.mark.parametrize("query", QUERIES)
def test_ranks_that_restart_with_every_contribution_are_noticed(query, monkeypatch):
    """A top-up that adds to a resident's rows, each contribution with ranks of its own."""
    real = Pool._merge_rows

    def merged(self, schema, secret, old, keep, added, identities):
        return real(self, schema, secret, old, np.ones_like(keep), added, identities)

    monkeypatch.setattr(Pool, "_merge_rows", merged)
    assert noticed(query)


@pytest.mark.parametrize("query", QUERIES[:2])
def test_a_missing_bound_on_keys_is_noticed(query, monkeypatch):
    real = contribute._bounded_anew
    monkeypatch.setattr(contribute, "_bound", lambda p: pl.col("_row:" + p.index) < p.rows)
    monkeypatch.setattr(contribute, "_bounded_anew", lambda p, *given: real(replace(p, keys=10**6), *given))
    assert noticed(query)


@pytest.mark.parametrize("query", [QUERIES[1]])
def test_a_where_after_the_bound_is_noticed(query, monkeypatch):
    """Bounding first and filtering then is sound, but not what the specification says."""
    bound = contribute._bound
    monkeypatch.setattr(contribute, "_bounded_anew", lambda p, _, passing, left: runs(p, passing.filter(bound(p))))
    assert noticed(query)


@pytest.mark.parametrize("query", QUERIES[:3])
def test_ranks_by_the_place_in_a_batch_are_noticed(query, monkeypatch):
    """Ranks by a number among others would change when somebody else comes or goes."""
    real = ranks._prf

    def by_place(secret, info, identities, resident, items):
        return real(secret, info, np.arange(len(identities), dtype=np.uint64), resident, items)

    monkeypatch.setattr(ranks, "_prf", by_place)
    assert noticed(query)


# --- prices: what each resident is charged


PRICED = [
    BASE.keys("cat").count().sum("num"), BASE.keys("cat").median("num", bins=4), BASE.keys("cat").count().top(2),
    BASE.keys("cat").coverage().keys_per_resident("0.5"), BASE.keys("cat").mean("num", per="resident", low=0, high=9),
]  # fmt: skip
SHOPS = ds.Schema(
    "ev", domain="mobility", keys=[(ds.unknown("num"),)],
    columns={"cat": ds.Category(["a", "b", "c"]), "num": ds.Integer(0, 9),
             "at": ds.Timestamp("2027-01-01", "2027-01-03")},
)  # fmt: skip
THRESHOLDED = ds.query(SHOPS).keys(ds.unknown("num")).bound(rows=9, keys=2).distinct().count()


def price_noticed(query: ds.Query) -> bool:
    try:
        check(replace(case(query, 1), schema=query.schema))
    except AssertionError as why:
        return "charged" in str(why)
    return False


@pytest.mark.parametrize("query", [*PRICED, THRESHOLDED])
def test_prices_one_part_too_low_or_two_too_high_are_noticed(query, monkeypatch):
    real = property_of_sensitivity.shares
    assert not price_noticed(query)
    for factor in (0.99, 1.02):
        monkeypatch.setattr(property_of_sensitivity, "shares", lambda *given, f=factor: (real(*given) * f).astype(int))
        assert price_noticed(query), factor


@pytest.mark.parametrize("query", [THRESHOLDED])
def test_keys_that_show_without_their_delta_are_noticed(query, monkeypatch):
    """Planted: the price leaves out the chance of each key to show."""
    real = property_of_sensitivity.shares

    def without(p: plan.Plan, part: shard.Part, loss: Loss):
        return real(replace(p, unknown=False), part, replace(loss, delta=0))

    monkeypatch.setattr(property_of_sensitivity, "shares", without)
    assert price_noticed(query)


@pytest.mark.parametrize("query", [PRICED[2]])
def test_picks_of_the_top_that_are_charged_once_are_noticed(query, monkeypatch):
    real = property_of_sensitivity.shares

    def once(p: plan.Plan, *given):
        return real(p, *given) // p.top

    monkeypatch.setattr(property_of_sensitivity, "shares", once)
    assert price_noticed(query)


# --- keys that are dropped when they are empty: what a release must show


def empty_cells(city: ds.City) -> tuple[int, np.ndarray]:
    """Cells of a release where only one district has rows, and what the three others hold."""
    enrol(city, range(3), lambda n: [{"district": "N", "km": n}])
    frame = city.release(COUNT, loss=Loss(1000), purpose=PURPOSE).frame()
    return frame.height, frame.filter(pl.col("district") != "N")["count"].to_numpy()


def shows_noise_everywhere(height: int, others: np.ndarray) -> bool:
    return height == 4 and (others != 0).any()


def test_every_public_cell_is_answered_with_noise(city):
    assert shows_noise_everywhere(*empty_cells(city))


def test_cells_without_noise_where_nobody_is_are_noticed(city, monkeypatch):
    real = monitor.draw

    def sparing(total, p, reservation):
        drawn = real(total, p, reservation)
        spared = tuple(np.where(e == 0, 0, v) for e, v in zip(total._values, drawn.values, strict=True))
        return replace(drawn, values=spared)

    monkeypatch.setattr(monitor, "draw", sparing)
    assert not shows_noise_everywhere(*empty_cells(city))


def test_the_worst_resident_reaches_the_claimed_sensitivity(tmp_path):
    """The claims are tight: less noise would be too little."""
    for number, query in enumerate(QUERIES):
        harness = Harness(tmp_path / str(number))
        worst = [{"cat": c, "num": 9, "at": "2027-01-02"} for c in "abc" for _ in range(8)]
        harness.admit(SCHEMA, {"one": worst}, {WHO: {}})
        keyed = query if query.predicate is None else BASE.keys("cat").count().distinct()
        compiled = compile(keyed)
        for statistic, row in zip(compiled.statistics, harness.totals(keyed), strict=True):
            if statistic.kind != "distinct" or not compiled.blind:
                reached = int((row**2).sum())
                assert reached == statistic.squared_sensitivity or (statistic.centre and reached > 0)
