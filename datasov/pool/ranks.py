"""Secret ranks beside the rows: bounding as one filter.

For an index, a row carries the rank of its (resident, key) pair among that resident's pairs, and its own rank within
the pair, both in the order of a pseudorandom function of (secret, resident, index, key or row number). A rank depends
on that resident's own rows and the secret alone: never on file order across residents, nor on anybody else's rows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.crypto.kdf import hkdf
from datasov.model.partition import axes_of, cell_expression, indexes
from datasov.model.schema import Key, Schema
from datasov.model.shard import PAIR, RESIDENT, ROW

Words = npt.NDArray[np.uint64]
_BLOCK = 1 << 15
"""Rows hashed at a time: the working set stays in cache."""


def siphash(key: bytes, messages: Words) -> Words:
    """SipHash-2-4 (Aumasson and Bernstein 2012) of 8-byte messages, each one little-endian word.

    Args:
        key: 16 bytes.
        messages: shape (n,), uint64. The result has the same shape.
    """
    out = np.empty_like(messages)
    for at in range(0, len(messages), _BLOCK):
        out[at : at + _BLOCK] = _siphash_block(key, messages[at : at + _BLOCK])
    return out


def _siphash_block(key: bytes, message: Words) -> Words:
    k0, k1 = (np.uint64(k) for k in struct.unpack("<QQ", key))
    shape = message.shape
    v0 = np.full(shape, k0 ^ np.uint64(0x736F6D6570736575))
    v1 = np.full(shape, k1 ^ np.uint64(0x646F72616E646F6D))
    v2 = np.full(shape, k0 ^ np.uint64(0x6C7967656E657261))
    v3 = np.full(shape, k1 ^ np.uint64(0x7465646279746573))
    spare = np.empty_like(v0)

    def rotate(word: Words, bits: int) -> None:
        np.left_shift(word, np.uint64(bits), out=spare)
        np.right_shift(word, np.uint64(64 - bits), out=word)
        np.bitwise_or(word, spare, out=word)

    def half(a: Words, b: Words, c: Words, d: Words, one: int, two: int) -> None:
        """a += b, c += d, each of b and d rotated and mixed with its sum, and a rotated."""
        np.add(a, b, out=a)
        rotate(b, one)
        np.bitwise_xor(b, a, out=b)
        np.add(c, d, out=c)
        rotate(d, two)
        np.bitwise_xor(d, c, out=d)
        rotate(a, 32)

    def rounds(count: int) -> None:
        for _ in range(count):
            half(v0, v1, v2, v3, 13, 16)
            half(v2, v1, v0, v3, 17, 21)

    length = np.uint64(8 << 56)
    for word in (message, length):
        np.bitwise_xor(v3, word, out=v3)
        rounds(2)
        np.bitwise_xor(v0, word, out=v0)
    np.bitwise_xor(v2, np.uint64(0xFF), out=v2)
    rounds(4)
    np.bitwise_xor(v0, v1, out=v0)
    np.bitwise_xor(v2, v3, out=v2)
    return np.bitwise_xor(v0, v2, out=v0)


Cells: TypeAlias = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
"""Cells of rows: 64 bits only where a key is unknown."""


def own_cells(rows: pl.DataFrame, schema: Schema, keys: Sequence[Key]) -> Cells:
    """The cell of each row in the partition that `keys` make: the same cells that a question's plan makes."""
    if not keys:
        return np.zeros(rows.height, dtype=np.uint32)
    cell = cell_expression(axes_of(keys, schema.column))
    cells = rows.select(cell.alias("c"))["c"]
    return (cells if cells.dtype == pl.UInt32 else cells.cast(pl.UInt64)).to_numpy()


def ranked(rows: pl.DataFrame, schema: Schema, secret: bytes, identities: Words) -> pl.DataFrame:
    """Rows clustered by resident, in the order of the schema's first index, with two ranks for each index.

    Args:
        rows: codes of the schema's columns (some or all) and RESIDENT (ascending; UInt32).
        secret: the pool's rank secret, 32 bytes.
        identities: for each resident of RESIDENT's numbering, 64 bits that stand for them: of their key, never of
            their place among others.

    An index whose columns the rows do not have is left out.
    """
    resident = rows[RESIDENT].to_numpy()
    within = _position_within(resident)
    ranks: dict[str, pl.Series] = {}
    order: npt.NDArray[np.int64] | None = None
    for name, keys in indexes(schema).items():
        if not {k.column for k in keys} <= set(rows.columns):
            continue
        pair, row, sorting = _rank(resident, own_cells(rows, schema, keys), within, identities, secret, name)
        ranks[PAIR + name], ranks[ROW + name] = _narrow(pair), _narrow(row)
        order = sorting if order is None else order
    with_ranks = rows.with_columns(s.alias(n) for n, s in ranks.items())
    return with_ranks if order is None else with_ranks[order]


def physical_order(schema: Schema, columns: Sequence[str]) -> str:
    """The name of the index in whose order :func:`ranked` lays rows that have these columns."""
    return next(n for n, keys in indexes(schema).items() if {k.column for k in keys} <= set(columns))


def _rank(
    resident: npt.NDArray[np.uint32],
    cells: Cells,
    within: npt.NDArray[np.uint32],
    identities: Words,
    secret: bytes,
    index: str,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair rank and row rank of each row, and the order that sorts by (resident, pair rank, row rank)."""
    pair_hash, row_hash = (
        _prf(secret, f"datasov {what} rank v1 {index}".encode(), identities, resident, items)
        for what, items in (("pair", cells), ("row", within))
    )
    order = _order(resident, pair_hash, cells, row_hash)
    r, c = resident[order], cells[order]
    new_resident = np.concatenate([[True], r[1:] != r[:-1]]) if len(r) else np.zeros(0, dtype=np.bool_)
    new_pair = new_resident.copy()
    new_pair[1:] |= c[1:] != c[:-1]
    starts = np.flatnonzero(new_pair)
    lengths = np.diff(starts, append=len(r))
    of_resident = np.flatnonzero(new_resident[starts])
    pairs = np.arange(len(starts)) - np.repeat(of_resident, np.diff(of_resident, append=len(starts)))
    pair_rank = np.empty(len(r), dtype=np.int64)
    row_rank = np.empty(len(r), dtype=np.int64)
    pair_rank[order] = np.repeat(pairs, lengths)
    row_rank[order] = np.arange(len(r)) - np.repeat(starts, lengths)
    return pair_rank, row_rank, order


def _prf(secret: bytes, info: bytes, identities: Words, resident: npt.NDArray[np.uint32], items: Cells) -> Words:
    """SipHash of (SipHash of the resident) xor item: 64 bits for each row."""
    outer, inner = (hkdf(secret, salt=b"", info=info + part, length=16) for part in (b" resident", b" item"))
    who = siphash(outer, identities)
    if not items.any():  # one hash a resident serves all of their rows
        return siphash(inner, who)[resident]
    return siphash(inner, who[resident] ^ items)


def _order(resident: npt.NDArray[np.uint32], pair_hash: Words, cells: Cells, row_hash: Words) -> npt.NDArray[np.int64]:
    """The order by (resident, pair hash, cell, row hash).

    Where residents are few enough, one packed word is sorted: 20 bits of resident, 22 of each hash. Rows that agree
    there, and pairs of one resident that do, are then put in the exact order, so that the result is the same.
    """
    if len(resident) == 0 or int(resident[-1]) >= 1 << 20:
        return np.lexsort((row_hash, cells, pair_hash, resident))
    prefix = (resident.astype(np.uint64) << np.uint64(44)) | (pair_hash >> np.uint64(42) << np.uint64(22))
    packed = prefix | (row_hash >> np.uint64(42))
    order = np.argsort(packed)
    sorted_packed, cell = packed[order], cells[order]
    sorted_prefix = sorted_packed >> np.uint64(22)
    tie = np.zeros(len(order), dtype=np.bool_)
    equal = sorted_packed[1:] == sorted_packed[:-1]
    tie[1:] |= equal
    tie[:-1] |= equal
    mixed = (sorted_prefix[1:] == sorted_prefix[:-1]) & (cell[1:] != cell[:-1])
    if mixed.any():
        tie |= np.isin(sorted_prefix, sorted_prefix[1:][mixed])
    if tie.any():
        rows = order[tie]
        order[tie] = rows[np.lexsort((row_hash[rows], cells[rows], pair_hash[rows], prefix[rows]))]
    return order


def _position_within(resident: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """0, 1, 2 ... within each run of one resident."""
    if len(resident) == 0:
        return np.zeros(0, dtype=np.uint32)
    starts = np.flatnonzero(np.concatenate([[True], resident[1:] != resident[:-1]]))
    lengths = np.diff(starts, append=len(resident))
    return (np.arange(len(resident)) - np.repeat(starts, lengths)).astype(np.uint32)


def _narrow(rank: npt.NDArray[np.int64]) -> pl.Series:
    """Ranks as 16 bits where they fit, else 32: they must stay distinct."""
    return pl.Series(rank.astype(np.uint16 if rank.size == 0 or rank.max() < 1 << 16 else np.uint32))
