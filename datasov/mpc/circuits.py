"""The validity circuits of Prio3 (draft-irtf-cfrg-vdaf-20, section 7.4): what a measurement is, as values.

Every encoded measurement is a vector of bits, which the circuit checks; and everything else in a circuit is linear:
what is aggregated, and what else must come out as zero. So a circuit is data here, and flp.py evaluates all five.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.mpc.field import FIELD64, FIELD128, Field

Bits = NDArray[np.int64]
MOST_ELEMENTS = 1 << 24


class Gadget(Enum):
    """The draft's Mul, PolyEval of x^2 - x, and ParallelSum of Mul. All have degree 2."""

    MUL = "mul"
    RANGE = "range"
    CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class Circuit:
    """A validity circuit with one gadget.

    Attributes:
        algorithm: its number in the registry of VDAFs.
        field: where it computes.
        gadget: what multiplies.
        length: of the encoded measurement.
        chunk: pairs that a call of the gadget takes; 0 unless the gadget is CHUNKS.
        calls: of the gadget.
        weights: rows of the aggregate: output i is the sum of weights[j] times element i * len(weights) + j.
        outputs: how many.
        sum_weights, sum_constant: a second output of the circuit: the sum over all elements, weighted, less the
            constant over the number of shares; empty where there is none.
        scalar: whether the aggregate is one number.
        maximum: of an entry of a measurement.
    """

    algorithm: int
    field: Field
    gadget: Gadget
    length: int
    chunk: int
    calls: int
    weights: tuple[int, ...]
    outputs: int
    sum_weights: tuple[int, ...] = ()
    sum_constant: int = 0
    scalar: bool = False
    maximum: int = 1

    @property
    def arity(self) -> int:
        """Wires into the gadget."""
        return {Gadget.MUL: 2, Gadget.RANGE: 1, Gadget.CHUNKS: 2 * self.chunk}[self.gadget]

    @property
    def values(self) -> int:
        """Outputs of the circuit, each of which is zero for a valid measurement."""
        if self.gadget is Gadget.RANGE:
            return self.calls
        return 2 if self.sum_weights else 1

    @property
    def wire_size(self) -> int:
        """Values that give a wire's polynomial: the least power of two that holds the seed and the calls."""
        return 1 << self.calls.bit_length()

    @property
    def joint_rand_length(self) -> int:
        return self.calls if self.gadget is Gadget.CHUNKS else 0

    @property
    def prove_rand_length(self) -> int:
        return self.arity

    @property
    def query_rand_length(self) -> int:
        return 1 + (self.values if self.values > 1 else 0)

    @property
    def proof_length(self) -> int:
        return self.arity + 2 * self.wire_size - 1

    @property
    def verifier_length(self) -> int:
        return self.arity + 2


def _positive(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidQueryError(f"{name} is a positive whole number")
    if "length" in name and value > MOST_ELEMENTS:
        raise InvalidQueryError(f"{name} is at most {MOST_ELEMENTS}")


def _bits(maximum: int, field: Field) -> tuple[int, ...]:
    """The weights of the bits of a number up to a maximum: powers of two, and a last one; their sum is the maximum.

    Raises:
        InvalidQueryError: the field does not hold 2^bits, bits the length of the maximum.
    """
    bits = maximum.bit_length()
    if 1 << bits >= field.modulus:
        raise InvalidQueryError(f"the largest measurement takes fewer than {field.top} bits")
    return (*(1 << i for i in range(bits - 1)), maximum - ((1 << bits - 1) - 1))


def _chunked(algorithm: int, length: int, chunk_length: int, **rest: Any) -> Circuit:
    if length > MOST_ELEMENTS:
        raise InvalidQueryError(f"an encoded measurement has at most {MOST_ELEMENTS} elements: fewer entries, or bits")
    calls = -(-length // chunk_length)
    return Circuit(algorithm, FIELD128, Gadget.CHUNKS, length, chunk_length, calls, **rest)


def count() -> Circuit:
    """Prio3Count: 0 or 1."""
    return Circuit(1, FIELD64, Gadget.MUL, 1, 0, 1, (1,), 1, scalar=True)


def total(max_measurement: int) -> Circuit:
    """Prio3Sum: a whole number from 0 to a maximum below 2^63."""
    _positive("max_measurement", max_measurement)
    weights = _bits(max_measurement, FIELD64)
    bits = len(weights)
    return Circuit(2, FIELD64, Gadget.RANGE, bits, 0, bits, weights, 1, scalar=True, maximum=max_measurement)


def sum_vec(length: int, max_measurement: int, chunk_length: int) -> Circuit:
    """Prio3SumVec: so many whole numbers, each from 0 to a maximum below 2^127."""
    for name, value in (("length", length), ("max_measurement", max_measurement), ("chunk_length", chunk_length)):
        _positive(name, value)
    weights = _bits(max_measurement, FIELD128)
    return _chunked(3, length * len(weights), chunk_length, weights=weights, outputs=length, maximum=max_measurement)


def histogram(length: int, chunk_length: int) -> Circuit:
    """Prio3Histogram: one of so many cells."""
    _positive("length", length)
    _positive("chunk_length", chunk_length)
    ones = (1,) * length
    return _chunked(4, length, chunk_length, weights=(1,), outputs=length, sum_weights=ones, sum_constant=1)


def multihot_count_vec(length: int, max_weight: int, chunk_length: int) -> Circuit:
    """Prio3MultihotCountVec: so many bits, of which at most max_weight are set."""
    for name, value in (("length", length), ("max_weight", max_weight), ("chunk_length", chunk_length)):
        _positive(name, value)
    if max_weight > length:
        raise InvalidQueryError("max_weight is at most length")
    weight = _bits(max_weight, FIELD128)
    sums = (1,) * length + tuple(-w for w in weight)
    return _chunked(5, len(sums), chunk_length, weights=(1,), outputs=length, sum_weights=sums, maximum=max_weight)


def _number(value: int, weights: tuple[int, ...], maximum: int) -> list[int]:
    if not isinstance(value, int | np.integer) or not 0 <= value <= maximum:
        raise InvalidDataError(f"a measurement is a whole number from 0 to {maximum}")
    number, bits = int(value), len(weights) - 1
    last = int(number >> bits > 0)
    rest = number - last * weights[-1]
    return [*(rest >> i & 1 for i in range(bits)), last]


def encode(circuit: Circuit, measurements: Sequence[Any]) -> Bits:
    """Measurements as bits, (length, batch).

    Args:
        measurements: of a count, 0 or 1 each; of a sum, numbers; of a histogram, cells from 0; of a vector of sums or a
            multi-hot vector, sequences of numbers or of bits.

    Raises:
        InvalidDataError: a measurement is not one of this circuit's.
    """
    out = np.zeros((circuit.length, len(measurements)), np.int64)
    for column, measurement in enumerate(measurements):
        if circuit.algorithm == 4:
            if not isinstance(measurement, int | np.integer) or not 0 <= measurement < circuit.length:
                raise InvalidDataError(f"a measurement is a cell from 0 to {circuit.length - 1}")
            out[measurement, column] = 1
        elif circuit.scalar:
            out[:, column] = _number(measurement, circuit.weights, circuit.maximum)
        else:
            if len(measurement) != circuit.outputs:
                raise InvalidDataError(f"a measurement has {circuit.outputs} entries")
            if circuit.algorithm == 3:
                bits = [bit for n in measurement for bit in _number(n, circuit.weights, circuit.maximum)]
            else:
                entries = [bit for n in measurement for bit in _number(n, (1,), 1)]
                weights = tuple(-w for w in circuit.sum_weights[circuit.outputs :])
                bits = entries + _number(sum(entries), weights, circuit.maximum)
            out[:, column] = bits
    return out
