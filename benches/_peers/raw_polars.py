"""Polars alone, against itself: what a ratio of 1 looks like on this machine."""

from __future__ import annotations

import polars as pl

from benches._peers import job


def ask(frame: pl.DataFrame) -> job.Totals:
    """The job without privacy."""
    made = job.raw(frame)
    return job.by_key(made["key"].to_list(), made["rows"].to_list(), made["value"].to_list())


SYSTEM = job.System("polars", "none", lambda frame: frame, ask, ask, (0.0, 0.0))

if __name__ == "__main__":
    job.main(SYSTEM)
