"""The registry's columns against plain Python: events in any grouping, indexes with any numbers."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.authority import columns, events
from datasov.authority.columns import Index
from datasov.authority.partition import Partition
from datasov.wire import cbor

NAME = "ab" * 16
TERMS = [
    events.Terms(frozenset(names), frozenset({("trips", bytes(32))}), "central", measure)
    for names, measure in ((("km",), "zcdp"), (("km", "at"), "zcdp"), (("at",), "pure"))
]


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "big")).digest()


class Plain:
    """What the columns say, as dicts: one a resident."""

    def __init__(self) -> None:
        self.members: list[dict[str, object]] = []
        self.superseded: set[tuple[bytes, int]] = set()
        self.events: list[bytes] = [t.event() for t in TERMS]

    def admit(self, place: int, consent: int, terms: int, sequence: int, ends: int) -> None:
        place = min(place, len(self.members))
        head = np.zeros(1, dtype=events.HEAD)
        head[0] = (
            b"A", place, terms, consent, 5, 10, ends, 7, 0, sequence, 9, list(digest(10**6 + place)),
            list(digest(consent)), list(digest(sequence)),
        )  # fmt: skip
        held = self.members[place]["held"] if place < len(self.members) else 0
        if place < len(self.members) and self.members[place]["consent"] != consent:
            self.superseded.add((digest(int(self.members[place]["consent"])), place))  # type: ignore[call-overload]
        self.events.append(head.tobytes() + b"token %d" % consent)
        member = {
            "consent": consent, "terms": terms, "sequence": sequence, "ends": ends, "live": True, "pending": True,
            "event": len(self.events), "held": held,
        }  # fmt: skip
        self.members[place : place + 1] = [member]

    def revoke(self, place: int) -> None:
        if place < len(self.members):
            self.events.append(cbor.encode(["revoke", place, 3]))
            self.members[place] |= {"live": False, "pending": False}

    def fold(self, keep: set[int]) -> None:
        places = sorted(p for p in keep if p < len(self.members))
        self.events.append(cbor.encode(["fold", 0, 1, bytes(32), [0, len(self.members)], places]))
        for place, member in enumerate(self.members):
            if place in places and member["pending"]:
                member |= {"held": member["event"], "pending": False}
            elif place not in places:
                member["held"] = 0

    def lapse(self, now: int) -> None:
        gone = [i for i, m in enumerate(self.members) if m["pending"] and int(m["ends"]) <= now]  # type: ignore[call-overload]
        self.events.append(cbor.encode(["lapse", gone]))
        for place in gone:
            self.members[place]["pending"] = False


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 8), st.integers(0, 30), st.integers(0, 2), st.integers(1, 99),
                  st.integers(11, 30)),
        st.tuples(st.just("revoke"), st.integers(0, 8)),
        st.tuples(st.just("fold"), st.sets(st.integers(0, 8))),
        st.tuples(st.just("lapse"), st.integers(0, 31)),
    ),
    max_size=40,
)  # fmt: skip


@given(STEPS, st.lists(st.integers(1, 9), max_size=30), st.integers(9, 31))
def test_events_in_any_grouping_say_what_plain_dicts_say(steps, groups, now):
    plain, partition, at = Plain(), Partition(NAME), 0
    for name, *given_ in steps:
        getattr(plain, name)(*given_)
    for size in [*groups, len(plain.events)]:
        partition.apply(plain.events[at : at + size])
        at += size
    assert partition.version == len(plain.events)
    assert len(partition) == len(plain.members)
    for column in ("terms", "sequence", "ends", "live", "pending", "event", "held"):
        assert partition.columns[column].tolist() == [m[column] for m in plain.members]
    for place, member in enumerate(plain.members):
        consent = int(member["consent"])  # type: ignore[call-overload]
        assert partition.places[digest(10**6 + place)] == place
        assert place in partition.statuses[consent]
        assert partition.member(place).digest == digest(consent)
        assert events.token_of(plain.events[partition.member(place).event]) == b"token %d" % consent
        assert all(
            partition.superseded(digest(c), place) == ((digest(c), place) in plain.superseded) for c in range(31)
        )
    assert partition.lapsed(now) == [
        i
        for i, m in enumerate(plain.members)
        if m["pending"] and int(m["ends"]) <= now  # type: ignore[call-overload]
    ]
    asked = partition.eligible(["km"], {"trips": bytes(32)}, "central", "zcdp", now)
    assert asked.tolist() == [m["live"] and now < m["ends"] and m["terms"] < 2 and now >= 10 for m in plain.members]


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 5), st.integers(0, 2**32 - 1)))))
def test_an_index_is_a_dict_of_lists(batches):
    held, index = defaultdict(list), Index()
    least, columns._LEAST = columns._LEAST, 3
    try:
        for batch in batches:
            numbers = np.array([n for n, _ in batch], dtype=np.uint64)
            index.add(numbers, np.array([p for _, p in batch], dtype=np.uint32))
            for number, place in batch:
                held[number].append(place)
        for number in [*held, 1, 2**63, 77]:
            assert sorted(index[number]) == sorted(held.get(number, []))
            assert (number in index) == (number in held)
        asked = np.array([*held, 3, 2**64 - 1], dtype=np.uint64)
        assert index.holds(asked).tolist() == [int(n) in held for n in asked]
    finally:
        columns._LEAST = least
