"""Tables as files: the logical values of rows as Parquet, CSV or JSON lines, and back to codes.

What is exact in the vault is exact in the file: decimals as digits, times as ISO 8601 with their offset from UTC.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import polars as pl

from datasov.errors import InvalidDataError
from datasov.model import delimited, frames, parquet
from datasov.model.columns import Boolean, Category, Decimal, Integer, Timestamp
from datasov.model.schema import Schema


def to_parquet(schema: Schema, codes: pl.DataFrame) -> bytes:
    """Texts, 64-bit integers, decimals, zoned times and booleans, which any reader of Parquet knows."""
    frame, out = frames.decode(schema, codes), io.BytesIO()
    frame.with_columns(pl.col(n).cast(pl.String) for n, c in schema.stored if isinstance(c, Category)).write_parquet(
        out, compression="zstd"
    )
    return out.getvalue()


def from_parquet(schema: Schema, data: bytes) -> pl.DataFrame:
    try:
        return frames.encode(schema, parquet.read(data))
    except pl.exceptions.PolarsError as fault:
        raise InvalidDataError(f"the rows of table {schema.name!r} are no Parquet: export them again") from fault


def to_csv(schema: Schema, codes: pl.DataFrame) -> bytes:
    """UTF-8, a header, a null as an empty field, an empty text as a quoted one."""
    return delimited.write(_texts(schema, codes))


def from_csv(schema: Schema, data: bytes) -> pl.DataFrame:
    return frames.encode(schema, delimited.read(data))


def to_json(schema: Schema, codes: pl.DataFrame) -> bytes:
    """JSON lines: an object a row; decimals and times as texts, so that no reader rounds them."""
    lines = (json.dumps(row, ensure_ascii=False) for row in _texts(schema, codes).iter_rows(named=True))
    return "".join(line + "\n" for line in lines).encode()


def from_json(schema: Schema, data: bytes) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(data.decode().split("\n")[:-1]):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise InvalidDataError("the line holds no object: export the rows again", row=number)
        rows.append(row)
    return frames.encode(schema, _columns(schema, rows))


def _columns(schema: Schema, rows: list[dict[str, Any]]) -> frames.Rows:
    """Rows as a frame, which is read quicker; as they are where one is not as :func:`to_json` wrote it."""
    names = dict(schema.stored)
    if any(row.keys() != names.keys() for row in rows):
        return rows
    types = {name: _JSON.get(type(column), pl.String) for name, column in names.items()}
    try:
        return pl.DataFrame([pl.Series(n, [row[n] for row in rows], dtype=t, strict=True) for n, t in types.items()])
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return rows


_JSON: dict[type, type[pl.DataType]] = {Integer: pl.Int64, Boolean: pl.Boolean}

WRITE: dict[str, Callable[[Schema, pl.DataFrame], bytes]] = {"parquet": to_parquet, "csv": to_csv, "json": to_json}
READ: dict[str, Callable[[Schema, bytes], pl.DataFrame]] = {
    "parquet": from_parquet, "csv": from_csv, "json": from_json,
}  # fmt: skip


def _texts(schema: Schema, codes: pl.DataFrame) -> pl.DataFrame:
    """Logical rows with texts for all but whole numbers and truth values."""
    logical = frames.decode(schema, codes)
    columns: list[pl.Series] = []
    for name, column in schema.stored:
        series = logical[name]
        if isinstance(column, Category | Decimal):
            series = series.cast(pl.String)
        elif isinstance(column, Timestamp):
            series = iso(series)
        columns.append(series)
    return pl.DataFrame(columns)


def iso(times: pl.Series) -> pl.Series:
    """ISO 8601 texts of zoned times, to the microsecond, with the local offset, or in UTC where that has seconds."""
    offset: Any = times.dt.base_utc_offset() + times.dt.dst_offset()
    whole = offset.dt.total_seconds() % 60 == 0
    local = times.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
    utc = times.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
    return local.zip_with(whole.fill_null(True), utc)
