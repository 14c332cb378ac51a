"""Neighbouring data: one resident more or less moves the exact totals by that resident's part alone, and never by more
than the plan claims. Any question, any rows, any batches and shards.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from datasov.kernel.plan import compile
from datasov.model.query import query_from_document
from tests.helpers import Harness, within
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


def check(case: Case) -> None:
    plan, rng = compile(case.query), random.Random(case.seed)
    schemas = {s.digest: s for s in (case.schema, case.profile)}
    assert query_from_document(case.query.document(), schemas) == case.query
    folder = Path(tempfile.mkdtemp())
    try:
        names = list(case.rows)
        one = rng.choice(names)
        everybody = pool_of(folder, case, names, rng).totals(case.query, shuffle=np.random.default_rng(case.seed))
        others = pool_of(folder, case, [n for n in names if n != one], rng).totals(case.query)
        alone = pool_of(folder, case, [one], rng).totals(case.query)
    finally:
        shutil.rmtree(folder)
    difference = everybody - others
    assert within(plan, difference), "one resident moved a total by more than the plan claims"
    assert (difference == alone).all(), "a resident's part depends on others, on batches or on shards"
    expected = np.zeros_like(everybody)
    for name in names:
        if not (name in case.narrow and {c for c in case.query.columns() if "." not in c} - set(case.narrow[name])):
            expected += contributed(case.query, name, case.rows[name], case.profiles.get(name))
    assert (everybody == expected).all(), "the totals are not those of the bounded semantics"


@settings(max_examples=150)
@given(cases())
def test_one_resident_moves_the_totals_by_their_own_part_and_no_more_than_claimed(case):
    check(case)


@pytest.mark.campaign
@settings(max_examples=2_000)
@given(cases())
def test_one_resident_moves_the_totals_by_their_own_part_and_no_more_than_claimed_in_2000_cases(case):
    check(case)
