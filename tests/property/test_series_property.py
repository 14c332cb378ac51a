"""Series over any life of a city: contributions that come late, go or are replaced, revocations, spent residents, steps
that nobody asked for in time. The exact totals are those of a second implementation, and one resident moves the noised
nodes by no more than what is claimed and what they were charged.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasov as ds
from datasov.kernel import contribute
from datasov.kernel import series as kernel_series
from datasov.kernel.series import compile_series
from datasov.model.partition import index_name
from datasov.model.plan import Plan, Request
from datasov.model.privacy import Loss
from tests.helpers import PURPOSE, Clock, Row, consent_for, contribution, found_city, revocation
from tests.naive import Ranks, holds, position

BEGIN, HOUR = 1_798_761_600, 3600  # 2027-01-01 UTC
RIDES = ds.Schema(
    "rides", domain="mobility", keys=[("ward",)],
    columns={"ward": ds.Category(["a", "b"]), "km": ds.Integer(-3, 9, nullable=True),
             "at": ds.Timestamp("2027-01-01", "2027-01-02", zone="UTC")},
)  # fmt: skip
BASE = ds.query(RIDES)
QUESTIONS = [
    BASE.keys("ward").count(), BASE.sum("km"), BASE.keys("ward").sum("km", low=-2, high=5),
    BASE.where(ds.col("km") > 0).count(), BASE.keys(ds.bin("km", [2]), "ward").count(),
]  # fmt: skip
NAMES = ["ann", "bob", "cem"]
KEY = bytes(range(32))

pytestmark = pytest.mark.usefixtures("few_status_lists")


class Life:
    """One city under one series, and what its exact state must be."""

    def __init__(self, folder: Path, series: ds.Series, loss: Loss, without: str = "") -> None:
        self.clock, self.series, self.loss, self.without = Clock(BEGIN), series, loss, without
        self.city = found_city(folder, self.clock, operator_key=KEY)
        self.rows: dict[str, list[Row]] = {}
        self.consents: dict[str, ds.Consent] = {}
        self.live: dict[str, bool] = {}
        self.kept: dict[str, list[list[Row]]] = {n: [] for n in NAMES}
        self.used, self.weight, self.spent = (dict.fromkeys(NAMES, 0) for _ in range(3))
        self.cap: dict[str, int] = {}
        self.sequence = 0
        plan = compile_series(series)
        self.request = Request(plan, loss, PURPOSE, self.city.trust, 0, series=series)

    def send(self, name: str, rows: list[Row], cap: int) -> None:
        if name == self.without:
            return
        self.sequence += 1
        consent = consent_for(
            self.city,
            RIDES,
            name,
            loss=Loss(cap, self.loss.measure),
            issued=self.clock.now - 10**6 + self.sequence,
            expires=BEGIN + 10**8,
        )
        self.city.admit(consent, contribution(self.city, consent, name, self.sequence, RIDES, rows))
        self.rows[name], self.consents[name], self.live[name], self.cap[name] = rows, consent, True, cap

    def revoke(self, name: str) -> None:
        if self.live.get(name):
            self.city.revoke(revocation(self.consents[name], name, self.clock.now))
            self.live[name] = False

    def follow(self) -> ds.SeriesRelease:
        found = self.city.follow(self.series, loss=self.loss, purpose=PURPOSE)
        for step in range(len(self.kept[NAMES[0]]), len(found.outputs)):
            self.count(step)
        return found

    def count(self, step: int) -> None:
        """What a step keeps of each resident, by a second implementation."""
        for name in NAMES:
            kept = self.passing(name, step)[: self.series.rows - self.used[name]] if self.live.get(name) else []
            added = int(np.abs(self.vector(kept)).sum())
            price = self.price(self.weight[name] + added) - self.price(self.weight[name])
            owed = math.ceil(Fraction(price * self.series.paid(self.loss).nano, 65_535))
            if self.live.get(name) and self.spent[name] + owed <= self.cap[name]:
                self.spent[name] += owed
                self.used[name] += len(kept)
                self.weight[name] += added
            else:
                kept = []
            self.kept[name].append(kept)

    def passing(self, name: str, step: int) -> list[Row]:
        ranks, query = Ranks(self.place_key(), RIDES, name, index_name(())), self.series.window(step)
        rows = [(i, r) for i, r in enumerate(self.rows[name]) if holds(query.predicate, r, query)]
        return [r for _, r in sorted(rows, key=lambda pair: ranks.of("row", pair[0]))]

    def place_key(self) -> bytes:
        return KEY

    def price(self, weight: int) -> int:
        share = min(Fraction(weight, self.request.plan.statistics[0].most) * Fraction(10**9 + 1, 10**9), 1)
        return math.ceil((share**2 if self.loss.measure == "zcdp" else share) * 65_535)

    def vector(self, rows: Sequence[Row]) -> np.ndarray:
        query, aggregate = self.series.query, self.series.aggregate
        axes = self.request.plan.axes
        out = np.zeros(math.prod(a.size for a in axes), dtype=np.int64)
        for row in rows:
            cell = 0
            for axis in axes:
                column = query.column(axis.key.column)
                cell = cell * axis.size + position(axis.key, column, row[axis.key.column], axis.size)
            value = 1 if aggregate.kind == "count" else row["km"]
            if value is not None:
                clip = value if aggregate.kind == "count" else min(max(value, aggregate.low), aggregate.high)
                out[cell] += clip
        return out

    def step(self, step: int, names: Sequence[str] = NAMES) -> np.ndarray:
        return self.vector([row for n in names for row in self.kept[n][step]])

    def counted(self, step: int) -> np.ndarray:
        stream = "accounts/series/" + self.request.key.hex()
        return kernel_series._counted(self.city._ledger, stream, step)[0]


def live(life: Life, seed: int) -> ds.SeriesRelease:
    """A random life of a city until the horizon is over; the same events for the same seed, whoever is left out."""
    rng = random.Random(seed)
    for now in range(0, 26, 2):
        life.clock.now = BEGIN + now * HOUR
        for name in NAMES:
            what, height, cap = rng.random(), rng.randint(0, 9), int(life.loss.nano * rng.choice([1, 0.6, 0.2]))
            rows = [
                {"ward": rng.choice("ab"), "km": rng.choice([None, *range(-3, 10)]),
                 "at": life_time(rng.randrange(24 * HOUR))}
                for _ in range(height)
            ]  # fmt: skip
            if what < 0.4:
                life.send(name, rows, max(cap, life.cap.get(name, 0)))
            elif what < 0.5:
                life.revoke(name)
        if rng.random() < 0.6:
            life.follow()
    life.clock.now = BEGIN + 10**6
    return life.follow()


def life_time(seconds: int) -> object:
    return RIDES.column("at").decode((BEGIN + seconds) * 10**6)


def check(number: int, steps: int, rows: int, loss: Loss, seed: int) -> None:
    every = f"{24 * HOUR // steps}s"
    series = ds.series(QUESTIONS[number], every=every, rows=rows, steps=steps)
    folder, without = Path(tempfile.mkdtemp()), random.Random(seed).choice(NAMES)
    try:
        everybody, others = (Life(folder / n, series, loss, without=w) for n, w in (("all", ""), ("but", without)))
        found, _ = live(everybody, seed), live(others, seed)
        with everybody.city, others.city:
            compare(everybody, others, found, without)
    finally:
        shutil.rmtree(folder)


def compare(everybody: Life, others: Life, found: ds.SeriesRelease, without: str) -> None:
    series, plan = everybody.series, everybody.request.plan
    (statistic,) = plan.statistics
    assert len(found.outputs) == series.steps
    before = np.zeros_like(everybody.counted(0))
    for step in range(series.steps):
        before = before + everybody.step(step)
        assert (everybody.counted(step) == before).all(), "the totals are not those of the second implementation"
    assert everybody.city.remaining == everybody.city.budget - everybody.loss.concentrated, (
        "the horizon is charged once"
    )
    partition = next(iter(everybody.city._registry.refresh()), None)
    if partition is not None:
        account = partition.name + ("/pure" if everybody.loss.measure == "pure" else "")
        held = everybody.city._ledger.spent(account, len(partition))[0]
        spent = {key: int(s) for key, s in zip(partition.places, held, strict=True)}
        assert sorted(spent.values()) == sorted(everybody.spent[n] for n in everybody.consents)
    assert max(everybody.used.values()) <= series.rows, "more rows than the lifetime bound"
    moved = np.zeros(0, dtype=np.int64)
    for step in range(series.steps):
        for level in series.closing(step):
            first = step - (1 << level)
            node, other = (
                life.counted(step) - (life.counted(first) if first >= 0 else 0) for life in (everybody, others)
            )
            moved = np.concatenate([moved, node - other])
    assert int((moved**2).sum()) <= statistic.squared_sensitivity, "L2 of the tree"
    assert int(np.abs(moved).sum()) <= statistic.l1_sensitivity, "L1 of the tree"
    units = np.abs(moved) / found.scale
    cost = units.sum() if everybody.loss.measure == "pure" else (units**2).sum() / 2
    assert cost * 1e9 <= everybody.spent[without] + 1e-3, "a resident paid less than their rows cost"


LOSSES = st.sampled_from([Loss(10**6), Loss(10**7, "pure")])


@settings(max_examples=15)
@given(st.integers(0, len(QUESTIONS) - 1), st.sampled_from([1, 3, 4, 6, 8]), st.integers(1, 6), LOSSES, st.integers(0))
def test_a_series_over_any_life_of_a_city(number, steps, rows, loss, seed):
    check(number, steps, rows, loss, seed)


@pytest.mark.campaign
@settings(max_examples=200)
@given(st.integers(0, len(QUESTIONS) - 1), st.integers(1, 24), st.integers(1, 9), LOSSES, st.integers(0))
def test_a_series_over_any_life_of_a_city_200_times(number, steps, rows, loss, seed):
    check(number, steps, rows, loss, seed)


# --- planted faults


def noticed() -> bool:
    try:
        for seed in range(12):
            check(seed % len(QUESTIONS), 8, 3, Loss(10**6), seed)
    except AssertionError:
        return True
    return False


def test_nothing_is_noticed_where_nothing_is_planted_in_a_series():
    assert not noticed()


def test_a_bound_for_each_step_instead_of_the_whole_horizon_is_noticed(monkeypatch):
    real = kernel_series.contribute

    def each(plan, shard, eligible, left=None):
        return real(plan, shard, eligible, np.full_like(left, plan.rows))

    monkeypatch.setattr(kernel_series, "contribute", each)
    assert noticed()


def test_a_series_without_its_bound_is_noticed(monkeypatch):
    real = contribute._bounded_anew
    monkeypatch.setattr(
        contribute,
        "_bounded_anew",
        lambda plan, shard, passing, left: real(plan, shard, passing, np.full_like(left, 99)),
    )
    assert noticed()


@pytest.mark.parametrize("mutant", ["one level", "a third"])
def test_a_price_that_misses_a_part_of_the_path_is_noticed(mutant, monkeypatch):
    real_price, real_plan = kernel_series._price, kernel_series.compile_series

    def flat(series: ds.Series) -> Plan:
        plan = real_plan(series)
        return replace(plan, statistics=(replace(plan.statistics[0], touched=1),))

    if mutant == "one level":
        monkeypatch.setattr("datasov.city.asking.compile_series", flat)
    else:
        monkeypatch.setattr(kernel_series, "_price", lambda *given: real_price(*given) // 3)
    assert noticed()
