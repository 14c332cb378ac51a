"""Schemas, columns, keys, predicates and losses: what they are, and every refusal by an error of ours."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from fractions import Fraction

import numpy as np
import pytest

import datasov as ds
from datasov.errors import InvalidQueryError
from datasov.model.document import canonical
from datasov.model.predicate import Predicate
from datasov.model.schema import MAX_KEY_SETS, Key, Schema, as_key, cell_labels

COLUMNS = {
    "cat": ds.Category(["x", "y"], nullable=True), "num": ds.Integer(-3, 9, unit="km"), "flag": ds.Boolean(),
    "dec": ds.Decimal("-1.25", 7, scale=2, legal="special"), "at": ds.Timestamp("2027-01-01", "2027-01-05T08:30"),
}  # fmt: skip
S = ds.Schema("s", domain="health", columns=COLUMNS, keys=["cat", ("cat", ds.hour("at")), [ds.bin("dec", [0, "2.5"])]])


def test_a_schema_comes_back_from_its_document():
    again = Schema.from_document(json.loads(canonical(S.document())))
    assert again == S
    assert again.digest == S.digest
    assert dict(again.columns) == COLUMNS


def test_schemas_that_differ_have_different_digests():
    others = [
        ds.Schema("t", domain="health", columns=COLUMNS), ds.Schema("s", domain="energy", columns=COLUMNS),
        ds.Schema("s", domain="health", columns=COLUMNS),
        ds.Schema("s", domain="health", columns=COLUMNS, keys=["cat"]),
        ds.Schema("s", domain="health", columns=COLUMNS, kind="attributes"), S,
        ds.Schema("s", domain="health", columns={"num": ds.Integer(0, 9)}),
        ds.Schema("s", domain="health", columns={"num": ds.Integer(0, 9, nullable=True)}),
        ds.Schema("s", domain="health", columns={"num": ds.Integer(0, 9, legal="special")}),
        ds.Schema("s", domain="health", columns={"num": ds.Decimal(0, 9, scale=0)}),
    ]  # fmt: skip
    assert len({s.digest for s in others}) == len(others)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ds.Schema("", domain="health", columns=COLUMNS),
        lambda: ds.Schema("a b", domain="health", columns=COLUMNS),
        lambda: ds.Schema("_a", domain="health", columns=COLUMNS),
        lambda: ds.Schema(7, domain="health", columns=COLUMNS),
        lambda: ds.Schema("a" * 65, domain="health", columns=COLUMNS),
        lambda: ds.Schema("a", domain="x", columns=COLUMNS),
        lambda: ds.Schema("a", domain="health", columns={}),
        lambda: ds.Schema("a", domain="health", columns={"a": int}),
        lambda: ds.Schema("a", domain="health", columns={"a.b": ds.Boolean()}),
        lambda: ds.Schema("a", domain="health", columns={"a": ds.Boolean(legal="forbidden")}),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, kind="rows"),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=["none"]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=["num"]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=[("cat", "cat")]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=[(ds.bin("num", [1]), ds.bin("num", [2]))]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=[("p.cat",)]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=[(Key("at", "evil"),)]),
        lambda: ds.Schema("a", domain="health", columns=COLUMNS, keys=["cat"] * (MAX_KEY_SETS + 1)),
        lambda: ds.Schema("a", domain="health", columns={"a": ds.Category(["\ud800"])}),
        lambda: ds.Category([]), lambda: ds.Category(["a", "a"]), lambda: ds.Category([1]),
        lambda: ds.Category("a", legal="x"),
        lambda: ds.Category(map(str, range(65_536))), lambda: ds.Integer(5, 4), lambda: ds.Integer(0, 2**53 + 1),
        lambda: ds.Integer(0.0, 1), lambda: ds.Integer(True, 1), lambda: ds.Integer(0, "9"),
        lambda: ds.Decimal(0, 1, scale=13), lambda: ds.Decimal(0, 1, scale=-1), lambda: ds.Decimal(0, 1, scale=1.0),
        lambda: ds.Decimal(0, "0.001"), lambda: ds.Decimal("NaN", 1), lambda: ds.Decimal(0, math.inf),
        lambda: ds.Decimal(0, "1e999999999"), lambda: ds.Decimal("x", 1), lambda: ds.Decimal(1, 0),
        lambda: ds.Decimal(0, 1e15),
        lambda: ds.Timestamp("2027-01-02", "2027-01-01"), lambda: ds.Timestamp("x", "y"), lambda: ds.Timestamp(0, 1),
        lambda: ds.Timestamp("2027-01-01", "2028-01-01", zone="Mars/Olympus"),
        lambda: ds.Timestamp("0001-01-01T00:00+14:00", "2028-01-01"), lambda: ds.Timestamp("1600-01-01", "2027-01-01"),
    ],
)  # fmt: skip
def test_what_makes_no_schema_is_refused(make):
    with pytest.raises(InvalidQueryError):
        make()


def test_cells_are_public_and_in_order_with_null_last():
    assert cell_labels(Key("cat"), COLUMNS["cat"]) == ("x", "y", None)
    assert cell_labels(Key("flag"), COLUMNS["flag"]) == (False, True)
    assert cell_labels(Key("p.flag"), COLUMNS["flag"]) == (False, True, None)
    assert cell_labels(ds.hour("at"), COLUMNS["at"]) == tuple(range(24))
    assert cell_labels(ds.day("at"), COLUMNS["at"]) == tuple(dt.date(2027, 1, d) for d in range(1, 6))
    assert cell_labels(ds.bin("num", [0, 5]), COLUMNS["num"]) == ("[-3, 0)", "[0, 5)", "[5, 9]")
    assert cell_labels(ds.bin("dec", [0.5]), COLUMNS["dec"]) == ("[-1.25, 0.50)", "[0.50, 7.00]")


@pytest.mark.parametrize("cuts", [[], [-3], [-4], [10], [5, 5], [6, 5], ["x"], [1.5], [math.nan], ["1e999999999"]])
def test_cuts_that_part_nothing_are_refused(cuts):
    with pytest.raises(InvalidQueryError):
        ds.query(S).keys(ds.bin("num", cuts))


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("cat", "y", 1), ("num", 9, 9), ("num", 4.0, 4), ("num", "-3", -3), ("num", -0.0, 0),
        ("num", np.float64(2.0), 2),
        ("dec", 0.07, 7), ("dec", "1.25", 125), ("dec", decimal.Decimal("7.00"), 700), ("flag", True, 1),
        ("at", "1970-01-01T00:00:00.000001+00:00", 1), ("at", dt.datetime(1970, 1, 1, 9), 0),
    ],
)  # fmt: skip
def test_values_have_whole_codes(column, value, code):
    assert COLUMNS[column].encode(value) == code
    assert COLUMNS[column].encode(COLUMNS[column].decode(code)) == code


NUMBERS = [math.nan, math.inf, -math.inf, True, None, b"1", [], "", "x", "1e999999999", "1e-999999999", "nan", 1 + 0j]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("column", ["num", "dec"])
def test_what_is_no_number_has_no_code(column, value):
    with pytest.raises(InvalidQueryError):
        COLUMNS[column].encode(value)


@pytest.mark.parametrize(
    ("column", "value"),
    [("num", 1.5), ("num", "0.1"), ("dec", 0.001), ("dec", "1.234"), ("cat", "z"), ("cat", None), ("cat", 0),
    ("flag", 1),
     ("flag", "true"), ("at", "yesterday"), ("at", 0), ("at", None), ("at", "0001-01-01T00:00+14:00"),
     ("at", dt.date(2027, 1, 1))],
)  # fmt: skip
def test_values_of_another_kind_have_no_code(column, value):
    with pytest.raises(InvalidQueryError):
        COLUMNS[column].encode(value)


# --- predicates


def test_predicates_come_back_from_their_documents():
    one = (ds.col("num") > 3) & (ds.col("num") <= 5) & ~ds.col("cat").is_null() | ds.col("dec").between("0.1", 2.5)
    two = ds.col("at") < dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    for predicate in (one, two, ~(one | two), ds.col("cat") != "x", ds.col("flag") == True):  # noqa: E712
        found = Predicate.from_document(json.loads(canonical(predicate.document())))
        assert found == predicate
        assert ds.query(S).where(found).predicate == predicate
    assert ~~one == one


@pytest.mark.parametrize(
    "make",
    [
        lambda: ds.col("num") > None, lambda: ds.col("num") == [1], lambda: ds.col("num").is_in([]), lambda: ds.col(7),
        lambda: (ds.col("num") > 1) & "x", lambda: bool(ds.col("num") > 1), lambda: ds.col("num") > b"x",
        lambda: ds.query(S).where("num > 1"), lambda: ds.query(S).where(ds.col("none") > 1),
        lambda: ds.query(S).where(ds.col("cat") > "x"), lambda: ds.query(S).where(ds.col("flag") < True),
        lambda: ds.query(S).where(ds.col("cat") == "z"), lambda: ds.query(S).where(ds.col("num") > 1.5),
        lambda: ds.query(S).where(ds.col("num") > math.nan), lambda: ds.query(S).where(ds.col("num") > "1e999999999"),
        lambda: ds.query(S).where(ds.col("at") > "0001-01-01T00:00"), lambda: ds.query(S).where(ds.col("p.x") > 1),
        lambda: Predicate.from_document({"op": "evil"}),
    ],
)  # fmt: skip
def test_what_is_no_predicate_is_refused(make):
    with pytest.raises(InvalidQueryError):
        make()


# --- keys, bounds and aggregates


@pytest.mark.parametrize(
    "make",
    [
        lambda q: q.keys("none"), lambda q: q.keys("num"), lambda q: q.keys(7), lambda q: q.keys(ds.hour("num")),
        lambda q: q.keys(ds.bin("cat", [1])), lambda q: q.keys("cat", "cat"), lambda q: q.keys(Key("at", "evil")),
        lambda q: q.keys("p.x"), lambda q: q.bound(rows=0), lambda q: q.bound(rows=65_536), lambda q: q.bound(keys=-1),
        lambda q: q.bound(rows=1.5), lambda q: q.bound(rows=True), lambda q: q.bound(keys="2"), lambda q: q.sum("cat"),
        lambda q: q.sum("at"), lambda q: q.mean("flag"), lambda q: q.sum("num", low=-4),
        lambda q: q.sum("num", high=10),
        lambda q: q.sum("num", low=5, high=4), lambda q: q.sum("num", low=math.nan), lambda q: q.count().count(),
        lambda q: q.sum("num").sum("num", low=0), lambda q: q.join(S), lambda q: ds.query("s"),
    ],
)  # fmt: skip
def test_what_makes_no_question_is_refused(make):
    with pytest.raises(InvalidQueryError):
        make(ds.query(S))


def test_each_step_gives_a_new_question():
    base = ds.query(S)
    steps = [base.keys("cat"), base.bound(rows=1), base.count(), base.where(ds.col("num") > 1)]
    assert base == ds.query(S)
    assert len({q.digest for q in steps}) == 4
    assert base.where(ds.col("num") > 1).where(ds.col("num") < 5) == base.where(
        (ds.col("num") > 1) & (ds.col("num") < 5)
    )
    assert as_key("cat") == Key("cat")


# --- losses


@pytest.mark.parametrize(
    ("rho", "nano"),
    [(1, 10**9), (0.1, 10**8), ("0.1", 10**8), ("1e-9", 1), (Fraction(1, 3), 333_333_333), ("0.0000000019", 1),
    (10**6, 10**15)],
)  # fmt: skip
def test_losses_are_whole_nano_rho_rounded_down(rho, nano):
    assert ds.zcdp(rho=rho).nano == nano


@pytest.mark.parametrize(
    "rho", [0, -1, 1e-10, math.nan, math.inf, True, None, "x", "1e999999999", 10**6 + 1, Fraction(-1, 3)]
)
def test_what_is_no_loss_is_refused(rho):
    with pytest.raises(InvalidQueryError):
        ds.zcdp(rho=rho)


def test_losses_add_exactly_and_convert():
    tenth = ds.zcdp(rho="0.1")
    assert sum((tenth for _ in range(9)), start=tenth) == ds.zcdp(rho=1)
    assert str(ds.zcdp(rho="0.025")) == "rho = 0.025"
    assert 1.9 < tenth.epsilon(1e-6) < 0.1 + 2 * math.sqrt(0.1 * math.log(1e6))
    assert ds.zcdp(rho="0.1", delta="5e-7").epsilon(1e-6) == tenth.epsilon(5e-7)
    assert ds.pure(epsilon="0.3").epsilon() == ds.pure(epsilon="0.3").epsilon(1e-6) == 0.3
    assert ds.pure(epsilon="0.3").concentrated == ds.zcdp(rho="0.045")
    assert str(ds.pure(epsilon="0.3")) == "epsilon = 0.3"
    assert str(ds.zcdp(rho=1, delta=1e-9)) == "rho = 1, delta = 1e-09"
    assert tenth <= ds.zcdp(rho="0.1")
    assert not ds.zcdp(rho="0.1", delta=1e-9) <= tenth
    for mixed in (
        lambda: tenth + ds.pure(epsilon=1),
        lambda: tenth <= ds.pure(epsilon=1),
        lambda: ds.pure(epsilon=1) - tenth,
    ):
        with pytest.raises(InvalidQueryError):
            mixed()
    for bad in (lambda: ds.pure(epsilon=0), lambda: ds.zcdp(rho=1, delta=-1), lambda: ds.zcdp(rho=1, delta="0.02")):
        with pytest.raises(InvalidQueryError):
            bad()
    for delta in (0, 1, -1, math.nan):
        with pytest.raises(InvalidQueryError):
            tenth.epsilon(delta)
