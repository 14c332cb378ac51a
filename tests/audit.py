"""An audit of a city's streams from their bytes, without the ledger's own code."""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter

import numpy as np

import datasov as ds
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf


def audit(city: ds.City) -> int:
    """Raise AssertionError unless every answer was paid for, first by the city and then by residents; the number of
    reservations.
    """
    store = city._store
    reserved: dict[str, int] = {}
    committed: list[str] = []
    for body in store.read("ledger"):
        entry = json.loads(body)
        if entry["op"] == "reserve":
            assert entry["id"] not in reserved
            reserved[entry["id"]] = entry["loss"]["nano"]
        elif entry["op"] == "commit":
            assert entry["id"] in reserved, "an answer without a reservation"
            committed.append(entry["id"])
    assert len(set(committed)) == len(committed)
    assert sum(reserved.values()) <= city.budget.nano, "the city overspent"
    assert city.remaining.nano == city.budget.nano - sum(reserved.values())

    charged: Counter[str] = Counter()
    for partition, measure in itertools.product(city._registry.refresh(), ("", "/pure")):
        spent = np.zeros(len(partition), dtype=np.int64)
        for body in city._ledger.store.read("accounts/" + partition.name + measure):
            identifier, loss = body[:16].hex(), int.from_bytes(body[16:24], "big")
            assert loss == reserved[identifier], "a charge of another loss than the reservation's"
            assert not any(body[24:32]), "a delta that nobody asked for"
            shares = np.frombuffer(zlib.decompress(body[32:]), dtype="<u2")
            spent[: len(shares)] += np.array([-(-int(share) * loss // 65_535) for share in shares], dtype=np.int64)
            charged[identifier] += 1
        assert (spent <= partition.caps()[0]).all(), "a resident overspent"
    released = [r.identifier.hex() for r in city.releases()]
    assert released == committed
    assert all(charged[i] == 1 for i in committed), "an answer without its charge"
    leaves = [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, ReleaseLeaf)]
    assert [leaf.release_id.hex() for leaf in leaves] == committed, "an answer without its leaf"
    assert [leaf.result_digest for leaf in leaves] == [r.digest for r in city.releases()]
    return len(reserved)
