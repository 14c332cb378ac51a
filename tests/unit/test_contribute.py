"""Rows to bounded vectors: corners that the properties meet too seldom."""

from __future__ import annotations

import datetime as dt
import pickle
from dataclasses import replace

import numpy as np
import pytest

import datasov as ds
from datasov.errors import ConsentError, InternalError
from datasov.kernel.contribute import Exact, add, contribute
from datasov.kernel.plan import compile
from datasov.model.plan import Request
from datasov.model.privacy import Loss
from tests.helpers import PEOPLE, Harness, values, within

S = ds.Schema(
    "s", domain="energy", keys=[("cat",)],
    columns={"cat": ds.Category("ab"), "num": ds.Integer(0, 9, nullable=True), "flag": ds.Boolean()},
)  # fmt: skip
Q = ds.query(S).bound(rows=2, keys=2)


def rows(*numbers: int | None) -> list[dict[str, object]]:
    return [{"cat": "ab"[(n or 0) % 2], "num": n, "flag": True} for n in numbers]


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path / "pool")


# --- exact totals give nothing away


def test_exact_totals_are_redacted_everywhere():
    here = Exact([np.array([987654321])])
    sent = pickle.loads(pickle.dumps(here))
    for secret in (here, sent):
        for text in (repr(secret), str(secret), f"{secret} {secret!r}", repr([secret]), repr({"x": secret})):
            assert "987654321" not in text
        assert not hasattr(secret, "__dict__")
    assert values(add([here, sent], compile(Q.count()))).tolist() == [[2 * 987654321]]


def test_adding_nothing_gives_zeros_of_the_plans_shape():
    plan = compile(Q.keys("cat").count().sum("num"))
    assert values(add([], plan)).tolist() == [[0, 0], [0, 0]]


# --- an empty pool, and parts of it that are empty


ANY = [
    Q.count(), Q.keys("cat").count().mean("num"), Q.keys("flag").distinct(),
    Q.join(PEOPLE).keys("people.ward").where(ds.col("people.age") > 3).count(),
]  # fmt: skip


@pytest.mark.parametrize("query", ANY)
def test_nobody_and_residents_without_rows_count_as_nothing(harness, query):
    assert not harness.totals(query).any()
    harness.admit(S, {"a": [], "b": []}, {PEOPLE: {}})
    assert not harness.totals(query).any()


def test_residents_without_a_profile_are_in_the_null_cell(harness):
    """Nobody in the shard has a profile row: the joined columns are null, and no question fails for it."""
    harness.admit(S, {"a": rows(1, 1), "b": rows(2)}, {PEOPLE: {}})
    query = Q.join(PEOPLE).keys("people.ward").count()
    assert harness.totals(query).tolist() == [[0, 0, 0, 3]]
    assert harness.totals(Q.join(PEOPLE).keys(ds.bin("people.age", [18])).count()).tolist() == [[0, 0, 3]]
    assert harness.totals(Q.join(PEOPLE).where(ds.col("people.age") >= 0).count()).tolist() == [[0]]
    assert harness.totals(Q.join(PEOPLE).where(ds.col("people.age").is_null()).count()).tolist() == [[3]]
    assert harness.totals(Q.join(PEOPLE).mean("people.age")).tolist() == [[0], [0]]


def test_a_profile_under_another_schema_neither_counts_nor_breaks_the_shard(harness):
    """Two residents join a table of one name whose columns have other types."""
    other = ds.Schema(
        "people", domain="administration", kind="attributes",
        columns={"age": ds.Integer(-(2**40), 2**40, "s"), "ward": ds.Integer(-5, 5)},
    )  # fmt: skip
    harness.admit(S, {"a": rows(1)}, {PEOPLE: {"a": {"age": 30, "ward": "b"}}})
    harness.admit(S, {"b": rows(1)}, {other: {"b": {"age": -(2**40), "ward": -5}}})
    harness.admit(S, {"c": rows(1)}, {PEOPLE: {"c": {"age": 31, "ward": None}}})
    assert harness.totals(Q.join(PEOPLE).keys("people.ward").count()).tolist() == [[0, 1, 0, 1]]
    assert harness.totals(Q.count()).tolist() == [[3]]
    assert harness.totals(Q.join(PEOPLE).sum("people.age")).tolist() == [[61]]


def test_one_who_covers_less_is_out_of_questions_that_read_more(harness):
    harness.admit(S, {"a": rows(1, 3), "b": rows(1)}, {}, {"a": ["cat"]})
    assert harness.totals(Q.keys("cat").count()).tolist() == [[0, 3]]
    assert harness.totals(Q.keys("cat").sum("num")).tolist() == [[0, 1]]
    assert harness.totals(Q.keys("flag").count()).tolist() == [[0, 1]]
    harness.admit(S, {"b": rows(5, 5)}, {}, {"b": ["num", "flag"]})
    assert harness.totals(Q.keys("cat").count()).tolist() == [[0, 2]]
    assert harness.totals(Q.sum("num")).tolist() == [[10]]


# --- literals


@pytest.mark.parametrize("huge", [10**30, 2**63, 2**64, "1e300", 1e308])
def test_literals_beyond_64_bits_mean_what_they_say(harness, huge):
    """Whether the pool has rows must not decide whether a question fails."""
    harness.admit(S, {"a": rows(1, None)}, {})
    col = ds.col("num")
    for predicate, expected in [
        (col < huge, 1), (col <= huge, 1), (col > huge, 0), (col >= huge, 0), (col == huge, 0), (col != huge, 2),
        (col.is_in([huge, 1]), 1), (~(col < huge), 1),
    ]:  # fmt: skip
        assert harness.totals(Q.where(predicate).count()).tolist() == [[expected]], predicate
    negative = f"-{huge}" if isinstance(huge, str) else -huge
    assert harness.totals(Q.where(col > negative).count()).tolist() == [[1]]
    assert harness.totals(Q.where(col < negative).count()).tolist() == [[0]]


@pytest.mark.parametrize(
    "bounds", [(0, 255), (0, 65_535), (0, 2**32 - 1), (-128, 127), (-(2**31), 2**31 - 1), (0, 2**53)]
)
def test_literals_at_and_beyond_the_ends_of_every_code_type(tmp_path, bounds):
    low, high = bounds
    schema = ds.Schema("w", domain="energy", columns={"n": ds.Integer(low, high, "B")})
    harness = Harness(tmp_path)
    harness.admit(schema, {"a": [{"n": low}, {"n": high}]}, {})
    base, col = ds.query(schema).bound(rows=9), ds.col("n")
    for literal, below, at in [(low - 1, 0, 0), (low, 0, 1), (high, 1, 1), (high + 1, 2, 0)]:
        assert harness.totals(base.where(col < literal).count()).tolist() == [[below]]
        assert harness.totals(base.where(col == literal).count()).tolist() == [[at]]
        assert harness.totals(base.where(col > literal).count()).tolist() == [[2 - below - at]]


# --- times


def test_hours_and_days_are_those_of_the_columns_zone(tmp_path):
    schema = ds.Schema("t", domain="energy", keys=[(ds.hour("at"),), (ds.day("at"),)], columns={
        "at": ds.Timestamp("2026-10-24T12:00", "2026-10-26T12:00", zone="Europe/Berlin", nullable=True),
    })  # fmt: skip
    harness = Harness(tmp_path)
    fall_back = ["2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"]  # both 02:30 on the wall
    harness.admit(schema, {"a": [{"at": t} for t in [*fall_back, "2026-10-24T22:00:00+00:00", None]]}, {})
    hours = harness.totals(ds.query(schema).keys(ds.hour("at")).bound(rows=9, keys=9).count())[0]
    assert {h: int(n) for h, n in enumerate(hours) if n} == {2: 2, 0: 1, 24: 1}
    days = harness.totals(ds.query(schema).keys(ds.day("at")).bound(rows=9, keys=9).count())[0]
    assert days.tolist() == [0, 3, 0, 1]


def test_days_at_the_edges_stay_within_the_cells_where_two_sources_of_zone_rules_differ(tmp_path):
    """Polars ends its rules for summer time about 2100, and Python does not: the first day is another one there."""
    column = ds.Timestamp("2150-07-01T00:00", "2150-07-02T23:59", zone="Europe/Berlin")
    schema = ds.Schema("t", domain="energy", keys=[(ds.day("at"),)], columns={"at": column})
    harness = Harness(tmp_path)
    harness.admit(schema, {"a": [{"at": column.low + dt.timedelta(minutes=m)} for m in (0, 30, 600)]}, {})
    query = ds.query(schema).keys(ds.day("at")).bound(rows=9, keys=2).count()
    totals = harness.totals(query)
    assert totals.sum() == 3
    assert within(compile(query), totals)


def test_short_spans_after_1970_have_hours_too(tmp_path):
    column = ds.Timestamp("1970-01-01T00:00", "1970-01-01T00:30", zone="UTC")
    schema = ds.Schema("t", domain="energy", columns={"at": column})
    harness = Harness(tmp_path)
    harness.admit(schema, {"a": [{"at": "1970-01-01T00:10"}]}, {})
    assert harness.totals(ds.query(schema).keys(ds.hour("at")).bound(rows=1, keys=1).count())[0, 0] == 1


# --- shards


def test_rows_lie_in_shards_and_every_shard_counts(tmp_path):
    harness = Harness(tmp_path, per_shard=2)
    for i in range(7):
        harness.admit(S, {i: rows(*[1] * (i % 3))}, {})
    assert harness.totals(Q.keys("cat").count()).tolist() == [[0, 0 + 1 + 2 + 0 + 1 + 2 + 0]]
    files = sorted(p.name.split("-")[0] for p in tmp_path.rglob("*.shard"))
    assert files == ["0", "1", "2", "3"], "one file a shard: older ones are gone"


def test_a_profile_that_is_not_one_row_a_resident_is_a_fault(harness):
    harness.admit(S, {"a": rows(1), "b": rows(2)}, {PEOPLE: {"a": {"age": 1, "ward": "a"}}})
    plan = compile(Q.join(PEOPLE).keys("people.ward").count())
    (shard,) = harness.pool.snapshot(Request(plan, Loss(1), "bus-planning", ds.central(), 0)).shards
    with pytest.raises(InternalError):
        contribute(plan, replace(shard, profiles=shard.profiles[:1]), np.ones(2, dtype=np.bool_))


def test_a_contribution_that_is_not_newer_is_refused_by_the_draft(harness):
    harness.admit(S, {"a": rows(1)}, {})
    harness._serial = iter([1])
    with pytest.raises(ConsentError):
        harness.admit(S, {"a": rows(1)}, {})
