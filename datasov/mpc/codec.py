"""Bytes of reports to arrays and back, strictly: exact lengths, every element below the modulus.

A batch goes in as one `bytes` a report. What does not decode is marked and computed on as zeros, so that one bad report
stops no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasov.errors import VerificationError
from datasov.mpc.field import Elements, Field, Mask, Words
from datasov.mpc.xof import Octets, octets


def gather(items: Sequence[bytes | None], size: int) -> tuple[Octets, Mask]:
    """(batch, size) octets, and which items have that length; the others are zeros."""
    if None not in items and set(map(len, items)) <= {size}:  # type: ignore[arg-type]
        joined = b"".join(items)  # type: ignore[arg-type]
        return np.frombuffer(joined, np.uint8).reshape(len(items), size).copy(), np.ones(len(items), np.bool_)
    good = np.array([item is not None and len(item) == size for item in items], np.bool_)
    blank = bytes(size)
    joined = b"".join(item if ok and item is not None else blank for item, ok in zip(items, good, strict=True))
    return np.frombuffer(joined, np.uint8).reshape(len(items), size).copy(), good


def scatter(rows: Octets, valid: Mask) -> list[bytes | None]:
    """A `bytes` a row, None for those that are not valid."""
    return [row.tobytes() if ok else None for row, ok in zip(rows, valid, strict=True)]


def decode(field: Field, encoded: Octets) -> tuple[Words, Mask]:
    """(length, words, batch) of (batch, length * size) octets, and in which reports all are below the modulus."""
    batch, size = encoded.shape
    columns = np.ascontiguousarray(encoded).view("<u8").T.astype(np.uint64, order="C")
    words = columns.reshape(size // field.size, field.words, batch)
    good = np.asarray(field.below(words).all(axis=0), np.bool_)
    words[:, :, ~good] = 0
    return words, good


def encode(words: Words) -> Octets:
    """(batch, length * size) octets of (length, words, batch)."""
    length, each, batch = words.shape
    return octets(words.reshape(length * each, batch))


def decode_one(field: Field, encoded: bytes, length: int) -> Elements:
    """A vector of `length` elements: (limbs, length).

    Raises:
        VerificationError: another length, or an element at or above the modulus.
    """
    if len(encoded) != length * field.size:
        raise VerificationError(
            f"an aggregate share of this task has {length * field.size} bytes: check the parameters"
        )
    words, good = decode(field, np.frombuffer(encoded, np.uint8).reshape(1, -1))
    if not good.all():
        raise VerificationError("an aggregate share holds a number at or above the modulus: ask the sender for another")
    return field.of_words(words)[:, :, 0]


def encode_one(field: Field, elements: Elements) -> bytes:
    """The bytes of (limbs, length) elements."""
    return encode(field.to_words(elements[:, :, None])).tobytes()
