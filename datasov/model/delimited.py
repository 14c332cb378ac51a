"""CSV (RFC 4180) in and out: UTF-8, a null is an empty field, an empty text is a quoted one."""

from __future__ import annotations

import csv
import io

import polars as pl

from datasov.errors import InvalidDataError

_MARK = b"\xef\xbb\xbf"
_FIELD = 1 << 24
_UNREADABLE = "the file cannot be read as csv: separate with commas, end lines with LF or CRLF, and close the quotes"


def read(data: bytes) -> pl.DataFrame:
    """A frame of texts: an unquoted empty field is null, a quoted one is an empty text.

    A byte order mark at the start is passed over. Separators are commas; lines end in LF or CRLF.

    Raises:
        InvalidDataError: other encodings, a row (0-based, below the header) with more or fewer fields than the header,
            a name that stands twice in the header, or quotes that do not close.
    """
    data = data.removeprefix(_MARK)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidDataError("the file is not in UTF-8: save it as CSV UTF-8") from None
    names, height = _check_shape(text)
    try:
        frame = pl.read_csv(data, has_header=False, infer_schema=False, new_columns=names)
    except pl.exceptions.PolarsError as fault:
        raise InvalidDataError(_UNREADABLE) from fault
    if frame.height != height + 1:
        raise InvalidDataError(_UNREADABLE)
    return frame.slice(1)


def _check_shape(text: str) -> tuple[list[str], int]:
    """The names in the header and the number of rows below it, once every row has as many fields."""
    before = csv.field_size_limit(_FIELD)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        names, height = next(rows, []), 0
        if not names or len(set(names)) != len(names):
            raise InvalidDataError("the first line holds the names of the columns, each once: add it")
        for row, fields in enumerate(rows):
            if len(fields) != len(names) and (fields or len(names) > 1):
                raise InvalidDataError(
                    f"the row has {len(fields)} fields where the header has {len(names)}: check commas and quotes",
                    row=row,
                )
            height += 1
    except csv.Error as fault:
        raise InvalidDataError(_UNREADABLE) from fault
    finally:
        csv.field_size_limit(before)
    return names, height


def write(frame: pl.DataFrame) -> bytes:
    """The bytes that :func:`read` reads back, of a frame of texts, whole numbers and truth values."""
    out = io.BytesIO()
    frame.write_csv(out, quote_style="necessary", line_terminator="\n")
    return out.getvalue()
