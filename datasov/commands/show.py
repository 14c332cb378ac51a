"""What a vault holds, for a terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datasov.errors import DatasovError, InvalidDataError, StoreError
from datasov.model.schema import Schema
from datasov.portability import texts
from datasov.resident import Resident
from datasov.vault import Vault


def counted(vault: Vault) -> list[dict[str, Any]]:
    """Every table with its domain, its kind and its number of rows."""
    return [
        {"name": name, "domain": s.domain, "kind": s.kind, "rows": vault.scan(name, [s.stored[0][0]]).height}
        for name, s in sorted(vault.tables().items())
    ]


def notes(resident: Resident) -> dict[str, Any]:
    """The account of losses, and the consents that are in force."""
    return {
        "consents": len(resident.consents), "granted": str(resident.granted),
        "lifetime": None if resident.lifetime is None else str(resident.lifetime),
    }  # fmt: skip


def rows(schema: Schema, codes: pl.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as JSON holds them: whole numbers, truth values and nulls, all else as texts."""
    lines = texts.to_json(schema, codes).decode().split("\n")[:-1]
    return [{name: row[name] for name in names} for row in map(json.loads, lines)]


def table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right. What a terminal would obey is shown as an escape."""
    cells = [[_plain(value) for value in line] for line in lines]
    right = [all(isinstance(line[i], int | None) for line in lines) for i in range(len(heads))]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]

    def row(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(row(line) for line in [list(heads), *cells])


def _plain(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def schema(path: Path) -> Schema:
    """The schema of a JSON file; InvalidDataError where it holds none, StoreError where it cannot be read."""
    try:
        return Schema.from_document(json.loads(path.read_bytes()))
    except DatasovError as why:
        raise InvalidDataError(f"the schema file does not fit: {why}") from None
    except OSError as fault:
        raise StoreError(f"the schema file cannot be read: {fault.strerror or fault}") from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise InvalidDataError(
            "the schema file is none: it is JSON, as an export holds it, or json.dumps(schema.document()) gives it"
        ) from None
