"""OpenDP's own Polars API, as its documentation has it: an identifier, two truncations, public keys.

`truncate_num_groups(k)` of 0.16.0 keeps the groups of dense rank below k: one fewer than it charges for. Its way to
sample groups, the default, ends in an error of the plan, so the first groups are kept (`keep="first"`).
"""

from __future__ import annotations

import warnings
from typing import Any

import opendp.prelude as dp
import polars as pl
from opendp.extras.polars import Margin

from benches._peers import job

dp.enable_features("contrib")
warnings.simplefilter("ignore", FutureWarning)
PUBLIC = pl.LazyFrame({"key": pl.Series(range(job.KEYS), dtype=pl.UInt32)})


def prepare(frame: pl.DataFrame) -> pl.DataFrame:
    """The types that it takes: no small unsigned integers."""
    return frame.with_columns(pl.col("key").cast(pl.UInt32), pl.col("value").cast(pl.Int64))


def ask(frame: pl.DataFrame) -> job.Totals:
    """One context, one query."""
    context: Any = dp.Context.compositor(
        data=frame.lazy(),
        privacy_unit=dp.unit_of(contributions=1, identifier="resident"),
        privacy_loss=dp.loss_of(epsilon=job.EPSILON),
        split_evenly_over=1,
        margins=[Margin(max_length=frame.height)],
    )
    value: Any = pl.col("value").fill_null(0)
    query = (
        context.query()
        .truncate_per_group(job.ROWS_A_KEY, by=["key"])
        .truncate_num_groups(job.KEYS_A_RESIDENT, by=["key"], keep="first")
        .group_by("key")
        .agg(dp.len(signed=True), value.dp.sum((job.LOW, job.HIGH)))  # type: ignore[attr-defined]
        .with_keys(PUBLIC)
    )
    made = query.release().collect()
    return job.by_key(made["key"].to_list(), made["len"].to_list(), made["value"].to_list())


def exact(frame: pl.DataFrame) -> job.Totals:
    """The same filters in Polars alone. Which rows of a pair stay is random there: the sums then differ a little."""
    kept = frame.filter(pl.int_range(pl.len()).shuffle(1).over("resident", "key") < job.ROWS_A_KEY)
    kept = kept.filter(pl.struct("key").rank("dense").over("resident") < job.KEYS_A_RESIDENT)
    made = kept.group_by("key").agg(pl.len().alias("rows"), pl.col("value").clip(job.LOW, job.HIGH).sum())
    return job.by_key(made["key"].to_list(), made["rows"].to_list(), made["value"].to_list())


SYSTEM = job.System(
    "opendp",
    f"{job.KEYS_A_RESIDENT - 1} keys a resident ({job.KEYS_A_RESIDENT} are charged) and {job.ROWS_A_KEY} rows in each",
    prepare,
    ask,
    exact,
)

if __name__ == "__main__":
    job.main(SYSTEM)
