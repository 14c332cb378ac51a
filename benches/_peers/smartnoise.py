"""SmartNoise SQL over a pandas frame (it runs SQLite): it bounds the rows of a resident, not their keys.

`max_ids` is set to the product of the two bounds, so that its noise is the others'. Nobody has more rows than that
here, so it drops none. Its epsilon is that of each statistic: it is given half.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import snsql

from benches._peers import job

SQL = "SELECT key, COUNT(*) AS n, SUM(value) AS total FROM city.visits GROUP BY key"


def prepare(frame: pl.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows as pandas, and the metadata."""
    if int(frame["resident"].value_counts()["count"].max()) > job.KEYS_A_RESIDENT * job.ROWS_A_KEY:  # type: ignore[arg-type]
        raise ValueError("somebody has more rows than max_ids: which of them are kept would not be known")
    table = {
        "max_ids": job.KEYS_A_RESIDENT * job.ROWS_A_KEY,
        "censor_dims": False,
        "clamp_counts": False,
        "rows": frame.height,
        "resident": {"type": "int", "private_id": True},
        "key": {"type": "int", "lower": 0, "upper": job.KEYS - 1},
        "value": {"type": "int", "lower": job.LOW, "upper": job.HIGH},
    }
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns}), {"": {"city": {"visits": table}}}


def ask(held: tuple[pd.DataFrame, dict[str, Any]]) -> job.Totals:
    """One reader, one query."""
    privacy = snsql.Privacy(epsilon=job.EPSILON / 2, delta=1e-12)
    made = snsql.from_df(held[0], privacy=privacy, metadata=held[1]).execute(SQL)[1:]
    return job.by_key([r[0] for r in made], [r[1] for r in made], [r[2] for r in made])


def exact(held: tuple[pd.DataFrame, dict[str, Any]]) -> job.Totals:
    """All rows, clipped."""
    made = held[0].assign(value=held[0]["value"].clip(job.LOW, job.HIGH)).groupby("key")["value"].agg(["size", "sum"])
    return job.by_key(made.index.to_list(), made["size"].to_list(), made["sum"].to_list())


SYSTEM = job.System(
    "smartnoise-sql", f"{job.KEYS_A_RESIDENT * job.ROWS_A_KEY} rows a resident, in any keys", prepare, ask, exact
)

if __name__ == "__main__":
    job.main(SYSTEM)
