"""Neighbouring data: one resident more or less moves the exact totals by that resident's part alone, and never by more
than the plan claims. Any question, any rows, any batches and shards.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import datasov as ds
from datasov.kernel.contribute import contribute, shares
from datasov.kernel.monitor import Request
from datasov.kernel.plan import Plan, compile
from datasov.model.charges import SHARES, amounts
from datasov.model.document import canonical
from datasov.model.privacy import ATTO, NANO, Loss
from datasov.model.query import query_from_document
from tests.helpers import PURPOSE, Harness, key_of, within
from tests.naive import contributed
from tests.strategies import RIDES, Case, cases, table


def pool_of(folder: Path, case: Case, names: list[str], rng: random.Random) -> Harness:
    """A pool of these residents: any shard size, any order, in batches, some with an earlier contribution replaced."""
    harness = Harness(folder / str(rng.random()), per_shard=rng.randint(1, 3))
    order = names.copy()
    rng.shuffle(order)
    stale = [n for n in order if rng.random() < 0.2]
    height = 1 if case.schema.kind == "attributes" else 9

    def admit(batch: list[str], old: bool = False) -> None:
        rows = {n: table(case.schema, rng, rng.randint(0, height)) if old else case.rows[n] for n in batch}
        harness.admit(case.schema, rows, {case.profile: case.profiles}, case.narrow, [RIDES])

    if stale:
        admit(stale, old=True)
        if rng.random() < 0.5:
            harness.totals(case.query)
    while order:
        size = rng.randint(1, len(order))
        admit(order[:size])
        order = order[size:]
        if rng.random() < 0.3:
            harness.totals(case.query)
    return harness


LOSSES = [Loss(3 * 10**8), Loss(7, "zcdp"), Loss(10**15), Loss(2 * 10**9, "pure"), Loss(11, "pure")]
UNKNOWN = [Loss(3 * 10**8, delta=10**12), Loss(10**4, delta=10**7 + 7), Loss(10**12, delta=10**16)]


def cost(plan: Plan, loss: Loss, vector: np.ndarray) -> tuple[Fraction, Fraction]:
    """What the noise of the plan gives away of one resident with this vector, in all: rho or epsilon, and delta.

    Written once more from docs/proofs/bounded-map.md, lemmas 3 and 4, in fractions: nothing of the kernel's prices.
    """
    own = Fraction(0)
    for row, scale in zip(vector, plan.scales(loss), strict=True):
        scaled = [Fraction(abs(int(v))) / Fraction(scale) for v in row if v]
        if plan.top:
            most = max(scaled, default=Fraction(0))
            own += plan.top * (most if loss.measure == "pure" else most**2 / 8)
        else:
            own += sum((u if loss.measure == "pure" else u**2 / 2 for u in scaled), Fraction(0))
    if not plan.unknown:
        return own, Fraction(0)
    (at,) = [i for i, s in enumerate(plan.statistics) if s.kind == "distinct"]
    keys = int(np.count_nonzero(vector[at]))
    return own, keys * Fraction(loss.delta, ATTO) / plan.statistics[at].touched


def check_prices(harness: Harness, plan: Plan, vectors: dict[str, np.ndarray]) -> None:
    """Every resident is charged at least what the answer costs them, and at most one part of 65,535 too much."""
    snapshot = harness.pool.snapshot(Request(plan, Loss(10**6), PURPOSE, ds.central(), 0))
    parts = [contribute(plan, s, snapshot.eligible[s.first : s.first + s.residents]) for s in snapshot.shards]
    (partition,) = harness.registry.refresh()
    for loss in UNKNOWN if plan.unknown else LOSSES:
        if loss.nano < len(plan.statistics):
            continue
        owed = np.zeros(len(partition), dtype=np.int64)
        for part in parts:
            owed[part.first : part.first + part.residents] = shares(plan, part, loss)
        paid = amounts(owed, loss.nano), amounts(owed, loss.delta)
        for name, vector in vectors.items():
            place = partition.places[key_of(name).public]
            own, delta = cost(plan, loss, vector)
            assert own <= Fraction(loss.nano, NANO), "a question costs a resident more than the city reserved"
            assert delta <= Fraction(loss.delta, ATTO)
            assert own * NANO <= int(paid[0][place]) <= loss.nano, "a resident is charged less than the answer costs"
            assert delta * ATTO <= int(paid[1][place]) <= loss.delta, "a resident is charged another delta"
            share = max(own * NANO / loss.nano, delta * ATTO / loss.delta if loss.delta else Fraction(0))
            assert owed[place] <= math.ceil(share * SHARES) + 1, "a resident is charged more than the answer costs"


def check(case: Case) -> None:
    plan, rng = compile(case.query), random.Random(case.seed)
    read = [ds.Schema.from_document(json.loads(canonical(s.document()))) for s in (case.schema, case.profile)]
    again = query_from_document(json.loads(canonical(case.query.document())), {s.digest: s for s in read})
    assert again == case.query
    assert compile(again).statistics == plan.statistics, "a stored question has another meaning"
    folder = Path(tempfile.mkdtemp())
    try:
        names = list(case.rows)
        one = rng.choice(names)
        full = pool_of(folder, case, names, rng)
        everybody = full.totals(case.query, shuffle=np.random.default_rng(case.seed))
        others = pool_of(folder, case, [n for n in names if n != one], rng).totals(case.query)
        alone = pool_of(folder, case, [one], rng).totals(case.query)
        vectors = {n: exact_vector(case, n) for n in names}
        check_prices(full, plan, vectors)
    finally:
        shutil.rmtree(folder)
    difference = everybody - others
    assert within(plan, difference), "one resident moved a total by more than the plan claims"
    assert (difference == alone).all(), "a resident's part depends on others, on batches or on shards"
    assert (everybody == sum(vectors.values())).all(), "the totals are not those of the bounded semantics"


def exact_vector(case: Case, name: str) -> np.ndarray:
    """A resident's own bounded vector, by plain loops; zeros where their consent does not cover the question."""
    vector = contributed(case.query, name, case.rows[name], case.profiles.get(name))
    uncovered = {c for c in case.query.columns() if "." not in c} - set(case.narrow.get(name, case.schema.columns))
    return np.zeros_like(vector) if uncovered else vector


@settings(max_examples=100)
@given(cases())
def test_one_resident_moves_the_totals_by_their_own_part_and_no_more_than_claimed(case):
    check(case)


@pytest.mark.campaign
@settings(max_examples=2_000)
@given(cases())
def test_one_resident_moves_the_totals_by_their_own_part_and_no_more_than_claimed_in_2000_cases(case):
    check(case)
