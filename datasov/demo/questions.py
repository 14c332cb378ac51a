"""The tables of the demo and what the city asks of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from datasov.demo.source import AGES, INCOMES, MAX_QUANTITY, MAX_SPENT, ZONE
from datasov.model.columns import Category, Decimal, Integer, Timestamp
from datasov.model.predicate import col
from datasov.model.privacy import Loss, zcdp
from datasov.model.query import Query, query
from datasov.model.schema import Schema, bin, hour

PURPOSE = "retail-planning"
BUDGET = zcdp(rho="1.25")
GRANTS: Mapping[str, Loss] = {"months": zcdp(rho="0.4"), "purchases": zcdp(rho="0.15"), "baskets": zcdp(rho="0.45")}
"""The most that each resident lets the questions about a table cost: the sum of those below."""

SIZES = (2, 4, 7, 13, 25, 49)
"""Edges of the basket sizes: 1, 2-3, 4-6, 7-12, 13-24, 25-48, 49 and more."""
SIZE_NAMES = ("1", "2-3", "4-6", "7-12", "13-24", "25-48", "49+")


@dataclass(frozen=True, slots=True)
class Tables:
    """The schemas, by what they hold."""

    purchases: Schema
    baskets: Schema
    months: Schema
    household: Schema


def tables(departments: tuple[str, ...]) -> Tables:
    """The tables for a closed list of departments. Each names the key sets that the city expects to group by."""
    department = Category(departments, nullable=True)
    at = Timestamp("2017-01-01", "2018-01-02", zone=ZONE)
    return Tables(
        purchases=Schema("purchases", domain="payments", columns={
            "department": department, "at": at, "spent": Decimal(0, MAX_SPENT // 100, scale=2, unit="USD"),
            "quantity": Integer(0, MAX_QUANTITY),
        }, keys=[(hour("at"),)]),
        baskets=Schema("baskets", domain="payments", columns={
            "items": Integer(1, 500), "spent": Decimal(0, 5000, scale=2, unit="USD"), "at": at,
        }, keys=[(bin("items", SIZES),)]),
        months=Schema("months", domain="payments", columns={
            "department": department, "month": Integer(1, 12), "items": Integer(0, 5000),
            "spent": Decimal(0, 20_000, scale=2, unit="USD"),
        }, keys=[("department",)]),
        household=Schema("household", domain="administration", kind="attributes", columns={
            "age_band": Category(AGES, nullable=True), "income": Category(INCOMES, nullable=True),
        }),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic of a question, told again for the plain recount: clips in whole codes (cents, items)."""

    name: str
    title: str
    kind: Literal["residents", "count", "sum", "mean"]
    column: str = ""
    clip: int = 0
    unit: int = 1
    """Codes in one unit of the answer: 100 cents in a dollar."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its loss, and the same question for the plain recount.

    Attributes:
        key: what the key is, for people.
        recount: an expression over plain rows that gives the label of the question's one key.
        shown: the statistics that the console prints and the report plots.
        labels: names of keys for people. ordered: the keys have an order of their own.
        upright: the report plots columns, not rows.
        where: the predicate over plain rows, or None.
    """

    name: str
    title: str
    why: str
    key: str
    query: Query
    loss: Loss
    recount: pl.Expr
    statistics: tuple[Statistic, ...]
    shown: tuple[str, ...]
    labels: Mapping[object, str] = field(default_factory=dict)
    where: pl.Expr | None = None
    ordered: bool = True
    upright: bool = False


RESIDENTS = Statistic("residents", "Households", "residents")


def questions(t: Tables) -> tuple[Question, ...]:
    """What the city asks, in this order."""
    sizes = pl.lit(0, dtype=pl.Int64)
    for edge in SIZES:
        sizes = sizes + (pl.col("items") >= edge).cast(pl.Int64)
    bins = query(t.baskets).keys(bin("items", SIZES))
    edges = (1, *SIZES, 500)
    labels = [f"[{a}, {b}" + (")" if b != 500 else "]") for a, b in itertools.pairwise(edges)]
    return (
        Question(
            "departments",
            "Who buys where: households, purchases and spending by department",
            "Each device adds up its purchases by department and month first. A household then counts with at most 12 "
            "rows in each of 16 departments, and the noise is several times smaller than over single purchases.",
            "Department",
            query(t.months).keys("department").bound(rows=12, keys=16)
            .distinct().sum("items", high=60).sum("spent", high=200),
            zcdp(rho="0.4"),
            pl.col("department"),
            (
                RESIDENTS,
                Statistic("items_sum", "Purchases", "sum", "items", 60),
                Statistic("spent_sum", "Spending, USD", "sum", "spent", 20_000, 100),
            ),
            ("residents", "spent_sum"),
            {None: "no department"},
            ordered=False,
        ),
        Question(
            "hours",
            "When the tills ring: purchases by hour of day",
            "Hours are local. A household counts with at most 300 purchases in each of 18 hours.",
            "Hour",
            query(t.purchases).keys(hour("at")).bound(rows=300, keys=18).count(),
            zcdp(rho="0.1"),
            pl.col("at").dt.convert_time_zone(ZONE).dt.hour().cast(pl.Int64),
            (Statistic("count", "Purchases", "count"),),
            ("count",),
            {h: f"{h:02d}" for h in range(24)},
            upright=True,
        ),
        Question(
            "ages",
            "What a basket costs, by age band",
            "The age band comes from the household's own profile: the join happens in its vault. Two households in "
            "three gave no age; they are a group of their own. At most 120 baskets of a household count, each with at "
            "most 100 dollars.",
            "Age",
            query(t.baskets).join(t.household).keys("household.age_band").bound(rows=120)
            .distinct().count().sum("spent", high=100).mean("spent", high=100),
            zcdp(rho="0.4"),
            pl.col("age_band"),
            (
                RESIDENTS,
                Statistic("count", "Baskets", "count"),
                Statistic("spent_sum", "Spending, USD", "sum", "spent", 10_000, 100),
                Statistic("spent_mean", "A basket, USD", "mean", "spent", 10_000, 100),
            ),
            ("spent_mean", "spent_sum", "residents"),
            {None: "not given"},
        ),
        Question(
            "baskets",
            "How much fits in a basket: households by basket size",
            "A histogram: a household counts once in every size that it ever bought.",
            "Purchases in a basket",
            bins.bound(keys=7).distinct(),
            zcdp(rho="0.05"),
            sizes.replace_strict(range(7), labels, return_dtype=pl.String),
            (RESIDENTS,),
            ("residents",),
            dict(zip(labels, SIZE_NAMES, strict=True)),
            upright=True,
        ),
        Question(
            "nutrition",
            "Who buys health food: households by income",
            "A filter on purchases and a key from the profile: households that ever bought in the department "
            "NUTRITION, by their income in dollars a year.",
            "Income, USD a year",
            query(t.purchases).join(t.household).where(col("department") == "NUTRITION")
            .keys("household.income").distinct().bound(rows=1),
            zcdp(rho="0.05"),
            pl.col("income"),
            (RESIDENTS,),
            ("residents",),
            {None: "not given"},
            where=pl.col("department").eq_missing(pl.lit("NUTRITION")),
        ),
    )  # fmt: skip
