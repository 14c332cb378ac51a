"""diffprivlib's noise on totals that were bounded by hand in pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
from diffprivlib.mechanisms import Geometric

from benches._peers import job


def prepare(frame: pl.DataFrame) -> pd.DataFrame:
    """The rows as pandas."""
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def exact(rows: pd.DataFrame) -> job.Totals:
    """Bounded totals: a random order of rows, then of each resident's keys; the seed makes them the same each time."""
    rng = np.random.default_rng(3)
    mixed = rows.iloc[rng.permutation(len(rows))]
    mixed = mixed[mixed.groupby(["resident", "key"], sort=False).cumcount() < job.ROWS_A_KEY]
    value = mixed["value"].clip(job.LOW, job.HIGH).astype(np.int64)
    pairs = mixed.assign(value=value).groupby(["resident", "key"], sort=False)["value"].agg(["size", "sum"])
    pairs = pairs.iloc[rng.permutation(len(pairs))].reset_index()
    pairs = pairs[pairs.groupby("resident", sort=False).cumcount() < job.KEYS_A_RESIDENT]
    made = pairs.groupby("key")[["size", "sum"]].sum()
    return job.by_key(made.index.to_list(), made["size"].to_list(), made["sum"].to_list())


def ask(rows: pd.DataFrame) -> job.Totals:
    """Bounded totals with discrete Laplace noise, a number at a time."""
    totals = exact(rows)
    for line, most in zip(totals, (1, job.HIGH), strict=True):
        noise = Geometric(epsilon=job.EPSILON / 2, sensitivity=job.KEYS_A_RESIDENT * job.ROWS_A_KEY * most)
        line[:] = [noise.randomise(int(n)) for n in line]
    return totals


SYSTEM = job.System(
    "diffprivlib",
    f"{job.KEYS_A_RESIDENT} keys a resident and {job.ROWS_A_KEY} rows in each, written by hand in pandas",
    prepare,
    ask,
    exact,
)

if __name__ == "__main__":
    job.main(SYSTEM)
