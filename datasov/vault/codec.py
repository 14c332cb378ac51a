"""Frames of codes as bytes and back: Arrow IPC streams for small ones, Parquet (zstd level 1) for large ones."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence

import polars as pl

from datasov.errors import InvalidDataError
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.vault import format as fmt

IPC, PARQUET = 1, 2
SMALL_ROWS = 8192
"""Up to this many rows a segment is an Arrow IPC stream, which is read in microseconds."""


_SHAPES: dict[bytes, tuple[list[str], list[type[pl.DataType]]]] = {}


def _shape(schema: Schema) -> tuple[list[str], list[type[pl.DataType]]]:
    """Names and types of the codes that are put; kept by its digest, for they are asked for at every put."""
    if schema.digest not in _SHAPES:
        if len(_SHAPES) > 1024:
            _SHAPES.clear()
        names, columns = zip(*schema.stored, strict=True)
        _SHAPES[schema.digest] = list(names), [code_dtype(column) for column in columns]
    return _SHAPES[schema.digest]


def check(schema: Schema, codes: pl.DataFrame) -> None:
    """InvalidDataError unless the frame has the schema's columns, in its order and with its types of codes."""
    if not isinstance(codes, pl.DataFrame):
        raise InvalidDataError("a vault stores a Polars frame of codes: encode the rows first")
    names, dtypes = _shape(schema)
    if codes.columns != names:
        raise InvalidDataError(f"the columns are not those of table {schema.name!r}: encode the rows first")
    if [*map(type, codes.dtypes)] != dtypes:
        raise InvalidDataError("the columns do not hold codes of their types: encode the rows first")
    if schema.kind == "attributes" and codes.height > 1:
        raise InvalidDataError(f"table {schema.name!r} holds one row a resident: put the newest row alone", row=1)


def to_ipc(codes: pl.DataFrame) -> bytes:
    """An Arrow IPC stream of the frame."""
    out = io.BytesIO()
    codes.write_ipc_stream(out)
    return out.getvalue()


def write(codes: pl.DataFrame) -> tuple[int, bytes]:
    """(codec, bytes) of a frame."""
    if codes.height <= SMALL_ROWS:
        return IPC, to_ipc(codes)
    out = io.BytesIO()
    codes.write_parquet(out, compression="zstd", compression_level=1)
    return PARQUET, out.getvalue()


def read(codec: int, data: bytes | io.BytesIO, columns: Sequence[str] | None) -> pl.DataFrame:
    """The frame that :func:`write` wrote; DecryptionError where it is none. The frame never refers to a BytesIO.

    Of `columns`, those that it holds, or any one where it holds none: it may be older than they are.
    """
    wanted = None if columns is None else list(columns)
    try:
        try:
            return _read(codec, data, wanted)
        except pl.exceptions.ColumnNotFoundError:
            names = list(pl.read_parquet_schema(data)) if codec == PARQUET else _read(codec, data, None).columns
            return _read(codec, data, [name for name in columns or () if name in names] or names[:1])
    except pl.exceptions.PolarsError:
        raise fmt.damaged() from None


def _read(codec: int, data: bytes | io.BytesIO, wanted: list[str] | None) -> pl.DataFrame:
    if codec == IPC:
        frame = pl.read_ipc_stream(data if isinstance(data, bytes) else data.getvalue(), columns=wanted)
    elif codec == PARQUET:
        frame = pl.read_parquet(data, columns=wanted)
    else:
        raise fmt.damaged()
    return frame if wanted is None or frame.columns == wanted else frame.select(wanted)


_END = b"\xff\xff\xff\xff\0\0\0\0"


def read_streams(
    payloads: Sequence[bytes | bytearray], columns: Sequence[str] | None
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(how many, their rows) of each run of Arrow IPC streams that begin with one schema, in their order.

    A run is read in one call, as one stream: the batches of all behind the schema that they share.

    Raises:
        DecryptionError: one of them is no such stream.
    """
    for schema, run in itertools.groupby(payloads, key=_schema):
        streams = list(run)
        if not all(data[-8:] == _END and len(data) >= len(schema) + 8 for data in streams):
            raise fmt.damaged()
        batches = [memoryview(data)[len(schema) : -8] for data in streams]
        yield len(streams), read(IPC, b"".join([schema, *batches, _END]), columns)


def _schema(stream: bytes | bytearray) -> bytes:
    """The message that a stream begins with."""
    return bytes(stream[: 8 + int.from_bytes(stream[4:8], "little")])
