"""Parquet in: how many rows a file holds is looked at before they are unpacked."""

from __future__ import annotations

import io

import polars as pl

from datasov.errors import InvalidDataError

MAX_ROWS = 1 << 27
"""Most rows of one file: a run of equal values packs to next to nothing, so the file's size says nothing of them."""


def read(data: bytes) -> pl.DataFrame:
    """The rows of a Parquet file in memory.

    Raises:
        InvalidDataError: more than MAX_ROWS rows. PolarsError: it is no such file.
    """
    if pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item() > MAX_ROWS:
        raise InvalidDataError(f"a Parquet file holds at most {MAX_ROWS:,} rows here: put them in several files")
    return pl.read_parquet(io.BytesIO(data))
