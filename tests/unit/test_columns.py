"""Columns and the mapping of keys to places."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from datasov.authority.columns import Columns, Places
from datasov.authority.events import HEAD
from datasov.authority.partition import Partition
from datasov.errors import StoreError

NAME = "cd" * 16


def test_columns_grow_and_keep_what_they_hold():
    made = Columns({"a": "i8", "key": ("u1", 4)})
    made.grow(3)
    made["a"][:] = [1, 2, 3]
    made["key"][1] = [9, 9, 9, 9]
    made.grow(5000)
    assert made["a"][:4].tolist() == [1, 2, 3, 0]
    assert made["key"][1].tolist() == [9] * 4
    assert len(made["a"]) == made.size == 5000
    made.grow(10)
    assert made.size == 5000


def test_keys_that_share_their_first_bytes_are_told_apart():
    """Ed25519 keys can be searched for with chosen first bytes."""
    columns = Columns({"account": ("u1", 32)})
    places = Places(columns)
    keys = [b"same8byt" + hashlib.sha256(bytes([i])).digest()[:24] for i in range(20)]
    columns.grow(20)
    columns["account"][:] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(20, 32)
    places.add(columns["account"], 0)
    assert dict(places) == {key: i for i, key in enumerate(keys)}
    assert places.get(b"same8byt" + bytes(24)) is None
    assert b"other" + bytes(27) not in places


@pytest.mark.parametrize("how", ["cut off", "a gap", "no token"])
def test_admissions_that_cannot_be_read_are_a_store_error(how):
    head = np.zeros(1, dtype=HEAD)
    head["kind"], head["place"] = b"A", how == "a gap"
    event = head.tobytes() + (b"" if how == "no token" else b"token")
    with pytest.raises(StoreError):
        Partition(NAME).apply([event[:50] if how == "cut off" else event])


def test_memory_a_consent_is_a_tenth_of_what_objects_take():
    from benches.eligibility_part import filled

    partition, _ = filled(40_000)
    assert partition.bytes / len(partition) < 210
