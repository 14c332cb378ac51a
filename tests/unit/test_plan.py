"""From a question to cells, bounds and sensitivity; and what is refused before anything is spent."""

from __future__ import annotations

import math

import pytest

import datasov as ds
from datasov.errors import InvalidQueryError
from datasov.kernel.plan import MAX_WEIGHT, compile
from datasov.model.partition import BLIND, index_name
from datasov.model.privacy import Loss
from datasov.model.query import MAX_TABLES, Query, query_from_document
from datasov.model.schema import MAX_CELLS, Key

S = ds.Schema(
    "s", domain="energy", keys=[("cat",), ("cat", "flag"), (ds.bin("num", [3]),)],
    columns={
        "cat": ds.Category("abc", nullable=True), "flag": ds.Boolean(), "num": ds.Integer(-4, 9),
        "dec": ds.Decimal("-1.5", "2.5", scale=1, nullable=True), "big": ds.Integer(0, 2**40, "B"),
        "at": ds.Timestamp("2027-01-01T00:00", "2027-01-03T12:00"), "count": ds.Category("xy"),
    },
)  # fmt: skip
A = ds.Schema("a", domain="health", kind="attributes", columns={"age": ds.Integer(0, 99), "x": ds.Category("pq")})
Q = ds.query(S).bound(rows=3, keys=2)


@pytest.mark.parametrize(
    ("query", "kinds", "squares"),
    [
        (Q.keys("cat").count(), ["count"], [9 * 2]),
        (Q.keys("cat").count().sum("num"), ["count", "sum"], [18, 18 * 81]),
        (Q.keys("cat").sum("num", low=-2, high=2), ["sum"], [18 * 4]),
        (Q.keys("cat").sum("num", low=-4, high=1), ["sum"], [18 * 16]),
        (Q.keys("cat").sum("num", low=-4, high=-3), ["sum"], [18 * 16]),
        (Q.keys("cat").mean("num", low=-4, high=1), ["count", "sum"], [18, 18 * 9]),
        (Q.keys("cat").mean("num"), ["count", "sum"], [18, 18 * 49]),
        (Q.keys("cat").mean("num").count(), ["count", "sum"], [18, 18 * 49]),
        (Q.keys("cat").mean("dec").count(), ["count", "sum", "count"], [18, 18 * 400, 18]),
        (Q.keys("cat").distinct(), ["distinct"], [2]),
        (Q.keys("flag", "cat").count().distinct(), ["count", "distinct"], [18, 2]),
        (Q.keys("flag").count().sum("num").distinct(), ["count", "sum", "distinct"], [9, 9 * 81, 3]),
        (Q.keys(ds.bin("num", [4])).count(), ["count"], [9]),
        (Q.keys(ds.bin("num", [3])).count(), ["count"], [18]),
        (Q.count(), ["count"], [9]),
        (Q.distinct(), ["distinct"], [1]),
        (Q.join(A).keys("a.x").count().distinct(), ["count", "distinct"], [9, 1]),
        (Q.join(A).keys("cat", "a.x").count().sum("a.age"), ["count", "sum"], [18, 18 * 99**2]),
        (Q.sum("num", low=0, high=0), ["sum"], [9]),
    ],
)
def test_sensitivities_are_those_of_the_proof(query, kinds, squares):
    plan = compile(query)
    assert [s.kind for s in plan.statistics] == kinds
    assert [s.squared_sensitivity for s in plan.statistics] == squares


@pytest.mark.parametrize(
    ("keys", "cells", "blind"),
    [
        ((), 1, False), (("cat",), 4, False), (("cat", "flag"), 8, False), (("flag", "cat"), 8, False),
        (("flag",), 2, True), ((ds.hour("at"),), 24, True), ((ds.day("at"),), 3, True),
        ((ds.bin("num", [3]),), 2, False), ((ds.bin("num", [2]),), 2, True), (("a.x",), 3, False),
        (("a.x", "cat"), 12, False), (("a.x", ds.bin("a.age", [18]), "flag"), 18, True),
    ],
)  # fmt: skip
def test_cells_and_indexes(keys, cells, blind):
    plan = compile(Q.join(A).keys(*keys).count())
    assert (plan.cells, plan.blind) == (cells, blind)
    assert plan.index == (BLIND if blind else index_name(tuple(a.key for a in plan.axes)))


def test_bounds_apply_as_far_as_one_resident_could_go():
    wide = ds.query(S).bound(rows=7, keys=500)
    assert compile(wide.keys("cat").count()).keys == 4
    assert compile(wide.join(A).keys("a.x").count()).keys == 1
    attributes = ds.query(A).keys("x").count()
    assert (compile(attributes).rows, compile(attributes).keys) == (1, 1)
    assert (compile(attributes.bound(rows=9, keys=9)).rows, compile(attributes.bound(rows=9, keys=9)).keys) == (1, 1)
    only = ds.query(S).keys("flag").bound(keys=2).distinct()
    assert compile(only).rows == 2, "without an index, as many rows as keys are needed to count residents"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (ds.query(S).keys("cat").count(), "rows="), (ds.query(S).keys("cat").bound(rows=2).count(), "keys="),
        (ds.query(S).count(), "rows="), (ds.query(S).keys("cat").distinct(), "keys="),
        (Q.keys("cat"), ".count()"), (Q.keys("count").count(), "'count'"),
        (Q.bound(rows=60_000).sum("big"), "overflow"),
        (Q.keys("cat").where(ds.col("num").is_in(range(100_000))).count(), "512 KiB"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_and_the_message_says_what_to_add(query, says):
    with pytest.raises(InvalidQueryError, match=says.replace(".", r"\.").replace("(", r"\(").replace(")", r"\)")):
        compile(query)


def test_what_is_no_query_is_refused():
    for thing in (None, "select", S, 7):
        with pytest.raises(InvalidQueryError):
            compile(thing)


def test_names_that_collide_are_refused_before_anything_is_spent():
    odd = ds.Schema("odd", domain="energy", columns={
        "n": ds.Integer(0, 3), "n_sum": ds.Category("ab"), "n_sum_low": ds.Category("ab"), "residents": ds.Boolean(),
    })  # fmt: skip
    base = ds.query(odd).bound(rows=1, keys=1)
    for query in (base.keys("n_sum").sum("n"), base.keys("n_sum_low").sum("n"), base.keys("residents").distinct()):
        with pytest.raises(InvalidQueryError, match="two columns"):
            compile(query)
    compile(base.keys("n_sum").count())


def test_more_tables_than_a_leaf_can_name_are_refused():
    query = Q
    for i in range(MAX_TABLES - 1):
        query = query.join(ds.Schema(f"t{i}", domain="health", kind="attributes", columns={"x": ds.Boolean()}))
    compile(query.count())
    with pytest.raises(InvalidQueryError, match="16 tables"):
        compile(query.join(A).count())


def test_sums_never_leave_64_bits():
    at_most = MAX_WEIGHT // (3 * 2)
    compile(Q.keys("cat").sum("big", high=at_most))
    with pytest.raises(InvalidQueryError, match="overflow"):
        compile(Q.keys("cat").sum("big", high=at_most + 1))


@pytest.mark.parametrize(
    "loss", [Loss(0), Loss(-1), Loss(10**15 + 1), Loss(1.5), Loss(True), Loss(math.nan), None, 0.5]
)
def test_what_is_no_loss_is_refused(loss):
    plan = compile(Q.count())
    for use in (plan.losses, plan.scales):
        with pytest.raises(InvalidQueryError):
            use(loss)


def test_too_many_cells_are_refused_in_questions_and_schemas():
    columns = {f"c{i}": ds.Category([str(v) for v in range(300)]) for i in range(3)}
    assert MAX_CELLS < 300**3
    with pytest.raises(InvalidQueryError, match="cells"):
        ds.Schema("s", domain="energy", columns=columns, keys=[tuple(columns)])
    with pytest.raises(InvalidQueryError, match="cells"):
        ds.query(ds.Schema("s", domain="energy", columns=columns)).keys(*columns)
    with pytest.raises(InvalidQueryError, match="cells"):
        compile(Query(ds.Schema("s", domain="energy", columns=columns), key_list=tuple(map(Key, columns))).count())


# --- questions as documents


QUESTIONS = [
    Q.count(),
    Q.keys("cat", ds.hour("at")).count().distinct().sum("num", low=-2, high=5).mean("dec"),
    Q.join(A).keys("a.x", ds.bin("a.age", [18, 65])).where(~(ds.col("a.age") > 7) | ds.col("cat").is_null()).count(),
    ds.query(A).keys("x").count(),
]


@pytest.mark.parametrize("query", QUESTIONS)
def test_a_question_comes_back_from_its_document(query):
    found = query_from_document(query.document(), {s.digest: s for s in (S, A)})
    assert found == query
    assert found.digest == query.digest
    assert compile(found) == compile(query)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0}, {"rows": -1}, {"rows": 2.5}, {"rows": True}, {"rows": 10**9}, {"bound_keys": 0}, {"schema": "00"},
        {"schema": "zz"}, {"keys": [{"column": "cat", "kind": "evil", "cuts": []}]}, {"keys": [{"column": "none"}]},
        {"aggregates": [{"kind": "sum", "column": "num", "low": -5, "high": 9}]},
        {"aggregates": [{"kind": "sum", "column": "num", "low": 5, "high": 1}]},
        {"aggregates": [{"kind": "sum", "column": "cat", "low": 0, "high": 1}]},
        {"aggregates": [{"kind": "median", "column": "num", "low": 0, "high": 1}]},
        {"aggregates": [{"kind": "count", "column": "num", "low": 0, "high": 1}]},
        {"where": {"op": "evil", "column": "num", "values": [1]}},
        {"where": {"op": "lt", "column": "none", "values": [1]}},
        {"profiles": [["a", "00"]]},
    ],
)  # fmt: skip
def test_documents_that_no_question_gives_are_refused(change):
    document = {**Q.keys("cat").count().document(), **change}
    with pytest.raises(InvalidQueryError):
        compile(query_from_document(document, {s.digest: s for s in (S, A)}))


def test_questions_that_differ_have_different_digests():
    queries = [
        Q.count(), Q.distinct(), Q.sum("num"), Q.sum("num", low=0), Q.mean("num"), Q.keys("cat").count(),
        Q.keys("flag", "cat").count(), Q.keys("cat", "flag").count(), Q.where(ds.col("num") > 1).count(),
        Q.where(ds.col("num") >= 1).count(), Q.bound(rows=4).count(), Q.bound(keys=4).count(), Q.join(A).count(),
    ]  # fmt: skip
    assert len({q.digest for q in queries}) == len(queries)
