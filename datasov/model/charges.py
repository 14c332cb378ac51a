"""Charges as they are stored: what a question cost each resident, in 16-bit parts of its loss."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Amounts = npt.NDArray[np.int64]
SHARES = 65_535
"""A charge is a whole number of these parts of the question's loss."""


def amounts(shares: Amounts, unit: int) -> Amounts:
    """Of each resident's shares of a loss of `unit`, the amount, rounded up."""
    whole, rest = divmod(unit, SHARES)
    return shares * whole + -(-shares * rest // SHARES)


def pack(identifier: bytes, nano: int, delta: int, shares: Amounts) -> bytes:
    """The reservation's identifier (16 bytes), its loss, and each resident's shares, compressed."""
    head = identifier + nano.to_bytes(8, "big") + delta.to_bytes(8, "big")
    return head + zlib.compress(shares.astype("<u2").tobytes(), 1)


def unpack(body: bytes) -> Amounts:
    """What each resident was charged, in nano and in delta; shape (2, residents)."""
    shares = np.frombuffer(zlib.decompress(body[32:]), dtype="<u2").astype(np.int64)
    nano, delta = (int.from_bytes(body[i : i + 8], "big") for i in (16, 24))
    return np.stack([amounts(shares, nano), amounts(shares, delta)])


def grown(spent: Amounts, length: int) -> Amounts:
    """The same with zeros for newer residents; shape (2, length) at least."""
    return spent if spent.shape[1] >= length else np.pad(spent, ((0, 0), (0, length - spent.shape[1])))


def pack_counted(totals: Amounts, used: Amounts) -> bytes:
    """A series' exact totals so far and what residents added to them (2, residents), compressed. To be sealed."""
    whole = np.concatenate([[len(totals)], totals, used.ravel()]).astype("<i8")
    return zlib.compress(whole.tobytes(), 1)


def unpack_counted(body: bytes) -> tuple[Amounts, Amounts]:
    """The totals, and what residents added (2, residents)."""
    whole = np.frombuffer(zlib.decompress(body), dtype="<i8").astype(np.int64)
    cells = int(whole[0])
    return whole[1 : cells + 1], whole[cells + 1 :].reshape(2, -1)
