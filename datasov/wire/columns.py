"""Frames of integer codes as bytes: each column's little-endian words and, where it has nulls, a validity bitmap.

Read from strangers, so nothing here trusts a length: every buffer is checked against the number of rows first.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from datasov.errors import InternalError, VerificationError
from datasov.wire import cbor, fields

_TYPES: dict[str, type[pl.DataType]] = {
    "u1": pl.UInt8, "u2": pl.UInt16, "u4": pl.UInt32, "i1": pl.Int8, "i2": pl.Int16, "i4": pl.Int32, "i8": pl.Int64,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

MAX_ROWS = 1 << 31


def pack(codes: pl.DataFrame) -> bytes:
    """A frame of integer columns as canonical CBOR: [rows, [[name, type, words, validity or null], ...]]."""
    packed = []
    for series in codes:
        name = _NAMES.get(type(series.dtype))
        if name is None:
            raise InternalError("only integer codes are packed")
        nulls = series.null_count() > 0
        words = (series.fill_null(0) if nulls else series).to_numpy().astype("<" + name).tobytes()
        validity = np.packbits(series.is_not_null().to_numpy(), bitorder="little").tobytes() if nulls else None
        packed.append([series.name, name, words, validity])
    return cbor.encode([codes.height, packed])


def unpack(data: bytes) -> pl.DataFrame:
    """The frame that was packed; VerificationError for any other bytes."""
    rows, columns = fields.items(cbor.decode(data), 2, 2)
    height = fields.integer(rows, 0, MAX_ROWS)
    names, series = [], []
    for item in fields.items(columns, 0, 1024):
        label, name, words, validity = fields.items(item, 4, 4)
        if type(name) is not str or name not in _TYPES:
            raise VerificationError("an unknown column type: these bytes are not of this format")
        names.append(fields.name(label))
        width = int(name[1])
        raw = np.frombuffer(fields.octets(words, height * width), dtype="<" + name)
        column = pl.Series(names[-1], raw, dtype=_TYPES[name])
        if validity is not None:
            bits = np.frombuffer(fields.octets(validity, -(-height // 8)), dtype=np.uint8)
            valid = np.unpackbits(bits, count=height, bitorder="little").astype(np.bool_)
            column = column.set(pl.Series(~valid), None)
        series.append(column)
    fields.distinct(names)
    return pl.DataFrame(series, height=height) if series else pl.DataFrame(height=height)
