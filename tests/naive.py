"""The bounded semantics of docs/proofs/bounded-map.md once more, row by row in plain Python, for tests to compare with.

`where` first, then at most C keys of a resident and at most R rows in each, in the order of a keyed hash; without a
declared key set at most R rows in all.
"""

from __future__ import annotations

import decimal
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

import datasov as ds
from datasov.authority.registry import partition_name
from datasov.crypto.kdf import hkdf
from datasov.kernel.plan import compile
from datasov.model.partition import index_name, indexes
from tests.helpers import PURPOSE, Row, key_of, padded
from tests.strategies import zone_of

_MASK = (1 << 64) - 1


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 (Aumasson and Bernstein 2012), one message of any length."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (64 - bits))) & _MASK

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & _MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & _MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & _MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & _MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    tail = len(message) % 8
    padded = message + bytes(7 - tail) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _word(value: int) -> bytes:
    return value.to_bytes(8, "little")


class Ranks:
    """The keyed order of one resident's keys and rows, for one index."""

    def __init__(self, pool_key: bytes, schema: ds.Schema, name: object, index: str) -> None:
        secret = hkdf(pool_key, salt=b"", info=b"datasov pool rank secret v1")
        secret = hkdf(secret, salt=b"", info=bytes.fromhex(partition_name(schema, PURPOSE)))
        resident = hashlib.sha256(key_of(name).public).digest()[:8]
        self._inner: dict[str, tuple[bytes, int]] = {}
        for what in ("pair", "row"):
            info = f"datasov {what} rank v1 {index}".encode()
            outer, inner = (hkdf(secret, salt=b"", info=info + part, length=16) for part in (b" resident", b" item"))
            self._inner[what] = inner, siphash(outer, resident)

    def of(self, what: str, item: int) -> int:
        inner, resident = self._inner[what]
        return siphash(inner, _word(resident ^ item))


def holds(predicate: ds.Predicate, row: Row, query: ds.Query) -> bool:
    """A predicate of one row; a comparison with null is false."""
    if predicate.op == "not":
        return not holds(predicate.parts[0], row, query)
    if predicate.op in ("and", "or"):
        return {"and": all, "or": any}[predicate.op](holds(p, row, query) for p in predicate.parts)
    value: Any = row.get(predicate.column)
    if predicate.op == "null":
        return value is None
    if value is None:
        return False
    column = query.column(predicate.column)
    code, codes = column.encode(value), [column.encode(v) for v in predicate.values]
    match predicate.op:
        case "in":
            return code in codes
        case "lt":
            return code < codes[0]
        case "le":
            return code <= codes[0]
        case "gt":
            return code > codes[0]
    return code >= codes[0]


def position(key: ds.Key, column: Any, value: Any, size: int) -> int:
    """The place of a value among the public cells of one key."""
    if value is None:
        return size - 1
    match key.kind:
        case "unknown":
            return int(value - column.low)
        case "bin":
            number = value if key.column == "at" else decimal.Decimal(str(value))
            return sum(number >= decimal.Decimal(c) for c in key.cuts)
        case "hour":
            return value.astimezone(zone_of(column)).hour
        case "day" | "week" | "month":
            zone = zone_of(column)
            last, first = value.astimezone(zone).date(), column.low.astimezone(zone).date()
            if key.kind == "month":
                return (last.year - first.year) * 12 + last.month - first.month
            return (last - first).days if key.kind == "day" else ((last - first).days + first.weekday()) // 7
    return column.values.index(value) if isinstance(column, ds.Category) else int(value)


def contributed(
    query: ds.Query, name: object, rows: Sequence[Row], profile: Row | None, pool_key: bytes = bytes(range(32))
) -> np.ndarray:
    """The bounded vectors of one resident, as tests.helpers.padded."""
    plan = compile(query)
    sizes = {axis.key: axis.size for axis in plan.axes}
    joined = {f"who.{n}": v for n, v in (profile or {}).items()}
    full = [{**row, **joined} for row in rows]

    def cell(keys: Sequence[ds.Key], row: Row) -> int:
        at = 0
        for key in keys:
            at = at * sizes[key] + position(key, query.column(key.column), row.get(key.column), sizes[key])
        return at

    name_of_index = index_name(query.key_list)
    declared = indexes(query.schema).get(name_of_index)
    ranks = Ranks(pool_key, query.schema, name, name_of_index if declared is not None else index_name(()))
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(full):
        if query.predicate is None or holds(query.predicate, row, query):
            groups.setdefault(cell(declared or (), row), []).append(i)
    chosen = sorted(groups, key=lambda own: (ranks.of("pair", own), own))[: plan.keys if declared is not None else 1]
    kept = [i for own in chosen for i in sorted(groups[own], key=lambda i: ranks.of("row", i))[: plan.rows]]

    at = [cell(query.key_list, full[i]) for i in kept]
    return padded([vector(query, statistic, plan.cells, [full[i] for i in kept], at) for statistic in plan.statistics])


def vector(query: ds.Query, statistic: Any, cells: int, rows: Sequence[Row], at: Sequence[int]) -> np.ndarray:
    """One statistic of one resident's kept rows and their cells."""
    out = np.zeros(statistic.size(cells), dtype=np.int64)
    width = len(statistic.cuts) + 1

    def bin_of(value: int) -> int:
        return sum(value >= cut for cut in statistic.cuts)

    if statistic.kind in ("coverage", "rows", "keys"):
        if rows:
            sizes = [list(at).count(c) for c in set(at)]
            out[bin_of({"coverage": 0, "rows": max(sizes), "keys": len(sizes)}[statistic.kind])] = 1
        return out
    if statistic.kind == "distinct":
        out[sorted(set(at))] = 1
        return out

    items: dict[tuple[int, object], list[int | None]] = {}
    for i, (row, c) in enumerate(zip(rows, at, strict=True)):
        if not statistic.per:
            unit: object = i
        elif statistic.per == ("resident",):
            unit = ()
        else:
            name, kind, *cuts = statistic.per
            column: Any = query.column(name)
            unit = row.get(name)
            if unit is not None and kind != "value":
                unit = position(ds.Key(name, kind, tuple(cuts)), column, unit, 0)  # type: ignore[arg-type]
        value: Any = row.get(statistic.column) if statistic.column else 1
        coded = value if value is None or not statistic.column else query.column(statistic.column).encode(value)
        items.setdefault((c, unit), []).append(coded)
    for (c, _), values in items.items():
        if not statistic.per and values == [None]:
            continue
        total = sum(v for v in values if v is not None)
        part = min(max(total, statistic.low), statistic.high) - statistic.centre
        if statistic.cuts:
            out[c * width + bin_of(total)] += 1
        else:
            out[c] += {"count": 1, "sum": part, "square": part * part}[statistic.kind]
    return out
