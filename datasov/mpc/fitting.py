"""The smallest circuits that a compiled question fits in, and its vectors as their measurements and back.

Each statistic has a circuit of its own, so that each is proved as closely as its values allow: one cell of a resident
(a histogram with one more cell, for nothing), at most so many cells (a multi-hot vector), numbers within a range
(sums; signed ones are moved by a public offset, which is taken off again once for each report).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np

from datasov.errors import InvalidQueryError, VerificationError
from datasov.kernel.plan import MAX_RESIDENTS
from datasov.model.plan import Plan
from datasov.model.privacy import Loss
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic
from datasov.mpc import circuits
from datasov.mpc.circuits import Circuit
from datasov.mpc.field import FIELD64
from datasov.mpc.prio3 import Prio3

Kind: TypeAlias = Literal["count", "sum", "sum-vec", "histogram", "multihot"]
MOST_ENCODED = 1 << 17
"""Elements of all encoded measurements of one report: 2 MiB at the leader."""
MOST_STATISTICS = 1024
"""Circuits of one report."""
REACH = 200
"""Scales of noise that two draws together leave with a probability below 1e-80."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One statistic's circuit.

    Attributes:
        entries: of the statistic's vector.
        maximum: of "sum" and "sum-vec" the largest measured number, of "multihot" the most entries that are set.
        offset: added to each entry before it is measured.
        chunk: pairs that a call of the gadget takes; 0 where there are none.
    """

    kind: Kind
    entries: int
    maximum: int
    offset: int
    chunk: int

    @property
    def encoded(self) -> int:
        """Elements of an encoded measurement, before there is a circuit of that size."""
        bits = self.maximum.bit_length()
        return {
            "count": 1, "sum": bits, "sum-vec": self.entries * bits, "histogram": self.entries + 1,
            "multihot": self.entries + bits,
        }[self.kind]  # fmt: skip

    @property
    def vdaf(self) -> Prio3:
        """The verifiable function, for two aggregators."""
        return _vdaf(self)

    def document(self) -> list[Any]:
        return [self.kind, self.entries, self.maximum, self.offset, self.chunk]

    def measure(self, vector: Integers) -> Any:
        """A resident's dense vector as a measurement: zeros are what a null report holds."""
        if self.kind == "histogram":
            found = np.flatnonzero(vector)
            return int(found[0]) if len(found) else self.entries
        moved = [int(v) + self.offset for v in vector]
        return moved[0] if self.kind in ("count", "sum") else moved

    def words(self, share: bytes) -> list[int]:
        """The elements of an aggregate share, of its statistic's entries alone.

        Raises:
            VerificationError: another length, or an element at or above the modulus.
        """
        size, modulus = self.vdaf.circuit.field.size, self.vdaf.circuit.field.modulus
        found = [int.from_bytes(share[at : at + size], "little") for at in range(0, len(share), size)]
        if len(share) != size * self.entries or any(word >= modulus for word in found):
            raise VerificationError("an aggregate share of another form: an aggregator is at fault")
        return found

    def joined(self, one: bytes, two: bytes, reports: int) -> Integers:
        """The aggregate of so many reports, from both noised shares: noise may have made it negative.

        Raises:
            VerificationError: a share of another form, or a number that no honest aggregators could have sent.
        """
        modulus = self.vdaf.circuit.field.modulus
        numbers = [(a + b) % modulus for a, b in zip(self.words(one), self.words(two), strict=True)]
        signed = [(v if v <= modulus // 2 else v - modulus) - self.offset * reports for v in numbers]
        if any(not -(2**63) <= v < 2**63 for v in signed):
            raise VerificationError("an aggregate beyond all bounds: an aggregator is at fault, so do not rely on it")
        return np.array(signed, dtype=np.int64)


def fit(plan: Plan, loss: Loss) -> tuple[Fit, ...]:
    """A circuit for each statistic of a plan.

    Raises:
        InvalidQueryError: the question does not fit, with the trust models that would.
    """
    if plan.unknown or plan.top:
        what = "unknown keys" if plan.unknown else "the highest cells"
        raise InvalidQueryError(f"two servers add vectors, and cannot look for {what}: ask for it under central trust")
    if len(plan.statistics) > MOST_STATISTICS:
        raise InvalidQueryError(f"two servers add at most {MOST_STATISTICS} statistics: ask for fewer aggregates")
    scales = plan.scales(loss)
    found = tuple(_fit(s, s.size(plan.cells), scale) for s, scale in zip(plan.statistics, scales, strict=True))
    if sum(f.encoded for f in found) > MOST_ENCODED:
        raise InvalidQueryError(
            "a report of this question would be too large for two servers: ask for fewer cells or lower bounds, or ask "
            "under central trust"
        )
    return found


def _fit(statistic: Statistic, entries: int, scale: float) -> Fit:
    low = statistic.low - statistic.centre
    offset = statistic.most if statistic.kind == "sum" and low < 0 else 0
    most = statistic.most + offset
    if most == 1:
        if entries == 1:
            return Fit("count", 1, 1, 0, 0)
        if statistic.touched == 1:
            return Fit("histogram", entries, 1, 0, _chunk(entries + 1))
        weight = min(statistic.touched, entries)
        return Fit("multihot", entries, weight, 0, _chunk(entries + weight.bit_length()))
    if entries == 1 and MAX_RESIDENTS * most + REACH * scale < FIELD64.modulus // 2:
        return Fit("sum", 1, most, offset, 0)
    if MAX_RESIDENTS * most + REACH * scale >= 2**62:
        raise InvalidQueryError("sums could overflow: give a larger loss, or lower the bounds")
    return Fit("sum-vec", entries, most, offset, _chunk(entries * most.bit_length()))


@lru_cache(maxsize=256)
def _chunk(length: int) -> int:
    """The chunk length of the shortest proof for so many elements: a little above the square root of twice as many."""
    if length > MOST_ENCODED:
        return 1  # refused by its length
    reach = range(1, min(length, 4 * int(length**0.5) + 8) + 1)
    return min(reach, key=lambda chunk: (circuits.histogram(length, chunk).proof_length, chunk))


@lru_cache(maxsize=256)
def _vdaf(found: Fit) -> Prio3:
    circuit: Circuit
    match found.kind:
        case "count":
            circuit = circuits.count()
        case "sum":
            circuit = circuits.total(found.maximum)
        case "sum-vec":
            circuit = circuits.sum_vec(found.entries, found.maximum, found.chunk)
        case "histogram":
            circuit = circuits.histogram(found.entries + 1, found.chunk)
        case "multihot":
            circuit = circuits.multihot_count_vec(found.entries, found.maximum, found.chunk)
    return Prio3(circuit, 2)
