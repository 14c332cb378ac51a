"""Rows in and out: validation against a schema, to a Polars frame of integer codes and back."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.model import delimited, mynumber, parquet
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.schema import Schema

Rows: TypeAlias = pl.DataFrame | list[dict[str, object]] | tuple[dict[str, object], ...] | str | Path
"""What `put` takes: a Polars frame, a list of mappings, or the path of a .csv or .parquet file."""

_ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]\.[0-9]{6}[+-]([01][0-9]|2[0-3]):[0-5][0-9]\z"
_ISO_FORMAT = "%Y-%m-%dT%H:%M:%S%.6f%:z"
_DIGITS = r"^-?[0-9]{1,12}%s\z"

_DTYPES: tuple[tuple[int, int, type[pl.DataType]], ...] = (
    (0, 2**8 - 1, pl.UInt8), (0, 2**16 - 1, pl.UInt16), (0, 2**32 - 1, pl.UInt32),
    (-(2**7), 2**7 - 1, pl.Int8), (-(2**15), 2**15 - 1, pl.Int16), (-(2**31), 2**31 - 1, pl.Int32),
)  # fmt: skip


def code_dtype(column: Column) -> type[pl.DataType]:
    """The smallest integer type that holds every code of a column."""
    low, high = column.range
    return next((t for first, last, t in _DTYPES if first <= low and high <= last), pl.Int64)


def empty_codes(schema: Schema) -> pl.DataFrame:
    """A frame of no rows with the types of a schema's codes."""
    return pl.DataFrame(schema={name: code_dtype(column) for name, column in schema.items})


def encode(schema: Schema, data: Rows) -> pl.DataFrame:
    """Codes of rows, one column per column of the schema that is put, in its order.

    Raises:
        InvalidDataError: the first fault found, by row and column; nothing is converted in part.
    """
    frame = _read(data)
    if isinstance(frame, pl.DataFrame):
        _check_names(schema, frame.columns)
        encoded = {name: _encode_series(name, column, frame[name]) for name, column in schema.stored}
    else:
        for row, item in enumerate(frame):
            if not isinstance(item, Mapping):
                raise InvalidDataError("a row is a mapping from column names to values", row=row)
            _check_names(schema, item, row=row)
        encoded = {
            name: pl.Series(
                name,
                [_encode_value(name, column, item.get(name), row) for row, item in enumerate(frame)],
                dtype=pl.Int64,
            )
            for name, column in schema.stored
        }
    return pl.DataFrame(
        [_in_range(name, column, encoded[name]).cast(code_dtype(column)) for name, column in schema.stored]
    )


def decode(schema: Schema, codes: pl.DataFrame) -> pl.DataFrame:
    """The logical frame of codes: enums, integers, fixed-point decimals, zoned datetimes and booleans."""
    return pl.DataFrame([_decode_series(name, schema.column(name), codes[name]) for name in codes.columns])


def check_codes(schema: Schema, codes: pl.DataFrame) -> pl.DataFrame:
    """Codes that came from elsewhere, once they are known to fit the schema in names, types, bounds and nulls.

    Raises:
        InvalidDataError: the column that does not fit (no row: the sender knows its rows).
    """
    for name in codes.columns:
        column = schema.column(name)
        series = codes[name]
        if series.dtype != code_dtype(column):
            raise InvalidDataError("the column's type is not that of its schema: contribute again", column=name)
        low, high = column.range
        if (series.null_count() and not column.nullable) or (
            len(series) > series.null_count() and (series.min() < low or series.max() > high)  # type: ignore[operator]
        ):
            raise InvalidDataError("a value lies outside the schema's bounds: contribute again", column=name)
        if (found := my_numbers(column, series)) is not None and found.any():
            raise InvalidDataError(f"{mynumber.REFUSAL}, and contribute again", column=name)
    return codes


def _read(data: Rows) -> pl.DataFrame | Sequence[Mapping[str, object]]:
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            raise InvalidDataError("no such file: give the path of a .csv or .parquet file")
        if path.suffix not in (".csv", ".parquet"):
            raise InvalidDataError("give a .csv or .parquet file, a Polars frame or a list of mappings")
        try:
            content = path.read_bytes()
            return delimited.read(content) if path.suffix == ".csv" else parquet.read(content)
        except (pl.exceptions.PolarsError, OSError) as fault:
            raise InvalidDataError(f"the file cannot be read as {path.suffix[1:]}: check it") from fault
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, list | tuple):
        return data
    raise InvalidDataError("give a Polars frame, a list of mappings, or the path of a .csv or .parquet file")


def _check_names(schema: Schema, names: Iterable[str], row: int | None = None) -> None:
    given, known = set(names), dict(schema.stored)
    for name in sorted(given & (schema.columns.keys() - known.keys())):
        raise InvalidDataError("the vault derives this column itself: leave it out", row=row, column=name)
    for name in sorted(map(str, given - known.keys())):
        raise InvalidDataError(f"table {schema.name!r} has no such column: leave it out", row=row, column=name)
    for name, column in known.items():
        if name not in given and not (row is not None and column.nullable):
            raise InvalidDataError("the column is missing: add it", row=row, column=name)


def _encode_value(name: str, column: Column, value: object, row: int) -> int | None:
    if value is None:
        return None
    try:
        code = column.encode(value)
    except InvalidQueryError as fault:
        raise InvalidDataError(str(fault), row=row, column=name) from None
    low, high = column.range
    if not low <= code <= high:
        raise InvalidDataError("the value lies outside the declared bounds", row=row, column=name)
    if isinstance(column, Integer | Decimal) and isinstance(value, str) and mynumber.in_numeral(value):
        raise InvalidDataError(mynumber.REFUSAL, row=row, column=name)
    return code


def my_numbers(column: Column, codes: pl.Series) -> pl.Series | None:
    """Which codes are My Numbers; None where the bounds admit none."""
    if not isinstance(column, Integer | Decimal) or not mynumber.admits(column.low, column.high):
        return None
    factor = 10**column.scale if isinstance(column, Decimal) else 1
    numbers = codes.cast(pl.Int64).fill_null(0).to_numpy()
    whole, part = np.divmod(np.abs(numbers), factor)
    return pl.Series(mynumber.among(whole) & (part == 0))


def _refuse(name: str, bad: pl.Series, reason: str) -> None:
    """Raise at the first true of `bad`, if any."""
    row = bad.fill_null(False).arg_max() if len(bad) else None
    if row is not None and bad[row]:
        raise InvalidDataError(reason, row=row, column=name)


def _in_range(name: str, column: Column, codes: pl.Series) -> pl.Series:
    low, high = column.range
    if not column.nullable and codes.null_count():
        _refuse(name, codes.is_null(), "a null in a column that is not nullable: fill it, or declare nullable=True")
    least, most = codes.min(), codes.max()
    if least is not None and (least < low or most > high):  # type: ignore[operator]
        _refuse(name, (codes < low) | (codes > high), "the value lies outside the declared bounds")
    if (found := my_numbers(column, codes)) is not None:
        _refuse(name, found, mynumber.REFUSAL)
    return codes


def _encode_series(name: str, column: Column, series: pl.Series) -> pl.Series:
    if series.dtype == pl.Null:
        return series.cast(pl.Int64)
    if isinstance(column, Category):
        return _encode_category(name, column, series)
    if isinstance(column, Boolean):
        return _encode_boolean(name, series)
    if isinstance(column, Timestamp):
        return _encode_timestamp(name, column, series)
    return _encode_number(name, column, series)


def _encode_category(name: str, column: Category, series: pl.Series) -> pl.Series:
    if not isinstance(series.dtype, pl.String | pl.Categorical | pl.Enum):
        raise InvalidDataError("not a column of texts: give the category names", column=name)
    text = series.cast(pl.String)
    codes = text.cast(pl.Enum(column.values), strict=False).to_physical().cast(pl.Int64)
    _refuse(name, codes.is_null() & text.is_not_null(), "not one of the declared categories")
    return codes


def _encode_boolean(name: str, series: pl.Series) -> pl.Series:
    if series.dtype == pl.String:
        known = series.str.to_lowercase().replace_strict({"true": 1, "false": 0}, default=None, return_dtype=pl.Int64)
        _refuse(name, known.is_null() & series.is_not_null(), "not a truth value: write true or false")
        return known
    if series.dtype != pl.Boolean:
        raise InvalidDataError("not a column of truth values", column=name)
    return series.cast(pl.Int64)


def _encode_timestamp(name: str, column: Timestamp, series: pl.Series) -> pl.Series:
    if series.dtype == pl.String:
        quick = _quick(series, _ISO, lambda s: s.str.to_datetime(_ISO_FORMAT, time_unit="us", strict=False))
        if quick is not None:
            return quick
        values = [_encode_value(name, column, v, row) for row, v in enumerate(series)]
        return pl.Series(name, values, dtype=pl.Int64)
    if not isinstance(series.dtype, pl.Datetime):
        raise InvalidDataError("not a column of times: give datetimes or ISO 8601 texts", column=name)
    if series.dtype.time_unit == "ns":
        _refuse(name, series.to_physical() % 1000 != 0, "finer than a microsecond: round it first")
    micro = series.dt.cast_time_unit("us")
    if series.dtype.time_zone is None:
        local = micro.dt.replace_time_zone(column.zone, ambiguous="earliest", non_existent="null")
        _refuse(
            name, local.is_null() & micro.is_not_null(), "a local time that the zone skips: give it with its offset"
        )
        micro = local
    return micro.dt.convert_time_zone("UTC").to_physical()


def _quick(series: pl.Series, form: str, read: Callable[[pl.Series], pl.Series]) -> pl.Series | None:
    """Codes of texts that are all of one plain form, all at once; None where they must be read one by one."""
    if not series.str.contains(form).fill_null(True).all():
        return None
    codes = read(series).to_physical().cast(pl.Int64).alias(series.name)
    return codes if codes.null_count() == series.null_count() else None


def _fixed(texts: pl.Series, scale: int) -> pl.Series:
    """The whole numbers of the last digit: the point is moved by text, so nothing is rounded."""
    parts = texts.str.split_exact(".", 1).struct.unnest()
    tail = parts["field_1"].fill_null("").str.pad_end(scale, "0")
    return (parts["field_0"] + tail).cast(pl.Int64, strict=False)


def _encode_number(name: str, column: Integer | Decimal, series: pl.Series) -> pl.Series:
    factor = 10**column.scale if isinstance(column, Decimal) else 1
    fine = f"more than {column.scale} digits after the point" if isinstance(column, Decimal) else "not a whole number"
    low, high = column.range
    if series.dtype == pl.String:
        _refuse(name, mynumber.among_texts(series), mynumber.REFUSAL)
        scale = column.scale if isinstance(column, Decimal) else 0
        quick = _quick(series, _DIGITS % (f"(\\.[0-9]{{1,{scale}}})?" if scale else ""), lambda s: _fixed(s, scale))
        if quick is not None:
            return quick
        values = [_encode_value(name, column, v if v != "" else None, row) for row, v in enumerate(series)]
        return pl.Series(name, values, dtype=pl.Int64)
    if series.dtype.is_float():
        wide = series.cast(pl.Float64)
        _refuse(name, ~wide.is_finite(), "NaN or infinite: give a finite value or null")
        scaled = (wide * factor).round()
        _refuse(name, (scaled < low) | (scaled > high), "the value lies outside the declared bounds")
        # NumPy divides exactly rounded; Polars multiplies by the reciprocal of a scalar, and would refuse 0.35.
        _refuse(name, pl.Series(scaled.to_numpy() / factor) != wide, f"{fine}: round it first")
        return scaled.cast(pl.Int64)
    if series.dtype.is_decimal():
        exact = [None if v is None else v * factor for v in series]
        for row, v in enumerate(exact):
            if v is not None and v != v.to_integral_value():
                raise InvalidDataError(f"{fine}: round it first", row=row, column=name)
        return _int64(name, [None if v is None else int(v) for v in exact])
    if series.dtype.is_integer():
        if series.dtype in (pl.Int128, pl.UInt64):
            return _int64(name, [None if v is None else int(v) * factor for v in series])
        wide = series.cast(pl.Int64)
        _refuse(
            name, (wide < -(-low // factor)) | (wide > high // factor), "the value lies outside the declared bounds"
        )
        return wide * factor
    raise InvalidDataError("not a column of numbers", column=name)


def _int64(name: str, values: Sequence[int | None]) -> pl.Series:
    for row, v in enumerate(values):
        if v is not None and abs(v) >= 2**63:
            raise InvalidDataError("the value lies outside the declared bounds", row=row, column=name)
    return pl.Series(name, values, dtype=pl.Int64)


def _decode_series(name: str, column: Column, codes: pl.Series) -> pl.Series:
    if isinstance(column, Category):
        table = pl.Series(column.values, dtype=pl.Enum(column.values))
        return table.gather(codes.cast(pl.UInt32)).alias(name)
    if isinstance(column, Boolean):
        return codes.cast(pl.Boolean)
    if isinstance(column, Timestamp):
        return codes.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(column.zone)
    if isinstance(column, Decimal):
        wide = pl.DataFrame([codes.cast(pl.Int64)])
        unit = pl.lit(decimal.Decimal(1).scaleb(-column.scale))
        return wide.select(pl.col(name).cast(pl.Decimal(38, column.scale)) * unit)[name].cast(
            pl.Decimal(38, column.scale)
        )
    return codes.cast(pl.Int64)
