"""The fully linear proof of Prio3 (draft-irtf-cfrg-vdaf-20, section 7.3): prove, query, decide, for a batch at a time.

Arrays of elements have the shape (limbs, length, batch). The draft's recorded wires are computed in one go: wire j of
call k is an affine function of the measurement, and the polynomial of wire j has the seed at w^0 and call k at w^k, w
of order `wire_size`. The draft pads the unused calls with zeros, which weigh nothing here.
"""

from __future__ import annotations

import numpy as np

from datasov.mpc.circuits import Circuit, Gadget
from datasov.mpc.field import Elements, Mask
from datasov.mpc.ntt import lagrange, odd_values, scalar, short_lagrange


def _chunks(circuit: Circuit, measurement: Elements) -> Elements:
    """The measurement as (limbs, calls, chunk, batch), padded with zeros."""
    limbs, length, batch = measurement.shape
    padded = np.zeros((limbs, circuit.calls * circuit.chunk, batch), np.int64)
    padded[:, :length] = measurement
    return padded.reshape(limbs, circuit.calls, circuit.chunk, batch)


def _of_a_share(circuit: Circuit, value: int, shares: int) -> Elements:
    """A public constant that the shares add up to: each holds value / shares."""
    field = circuit.field
    return field.of([value * pow(shares, -1, field.modulus)]).reshape(field.limbs, 1, 1)


def _wires(circuit: Circuit, measurement: Elements, joint_rand: Elements) -> Elements:
    """Of one share that is the whole: (limbs, calls, arity, batch)."""
    field = circuit.field
    if circuit.gadget is Gadget.MUL:
        return np.stack([measurement, measurement], axis=2)
    if circuit.gadget is Gadget.RANGE:
        return measurement[:, :, None]
    chunks = _chunks(circuit, measurement)
    wires = np.empty((field.limbs, circuit.calls, circuit.arity, measurement.shape[2]), np.int64)
    power = rand = field.prepare(joint_rand)
    for j in range(circuit.chunk):
        wires[:, :, 2 * j] = field.mul(chunks[:, :, j], power)
        power = field.mul(power, rand) if j + 1 < circuit.chunk else power
    wires[:, :, 1::2] = field.tidy(chunks - _of_a_share(circuit, 1, 1)[..., None])
    return wires


def _gadget(circuit: Circuit, wires: Elements) -> Elements:
    """The gadget on (limbs, arity, ...)."""
    field = circuit.field
    if circuit.gadget is Gadget.RANGE:
        x = wires[:, 0]
        return field.tidy(field.mul(x, field.prepare(x)) - x)
    return field.dot(wires[:, 0::2], field.prepare(wires[:, 1::2]))


def prove(circuit: Circuit, measurement: Elements, prove_rand: Elements, joint_rand: Elements) -> Elements:
    """The proof, (limbs, proof_length, batch): the wires' seeds, and the gadget polynomial's values at 2 wire_size - 1
    roots of order 2 wire_size.

    Args:
        measurement: encoded, whole.
        prove_rand: the seeds, (limbs, arity, batch).
        joint_rand: (limbs, joint_rand_length, batch).
    """
    field, size = circuit.field, circuit.wire_size
    limbs, _, batch = measurement.shape
    wires = np.zeros((limbs, size, circuit.arity, batch), np.int64)
    wires[:, 0] = prove_rand
    wires[:, 1 : 1 + circuit.calls] = _wires(circuit, measurement, joint_rand)
    values = np.empty((limbs, 2 * size, batch), np.int64)
    values[:, 0::2] = _gadget(circuit, wires.swapaxes(1, 2))
    values[:, 1::2] = _gadget(circuit, odd_values(field, wires).swapaxes(1, 2))
    return np.concatenate([prove_rand, values[:, :-1]], axis=1)


def _wires_at(
    circuit: Circuit, measurement: Elements, joint_rand: Elements, seeds: Elements, weights: Elements, shares: int
) -> Elements:
    """The wire polynomials at the test point, (limbs, arity, batch), from the weights of the calls' values there."""
    field = circuit.field
    first, calls = weights[:, :1], weights[:, 1 : 1 + circuit.calls]
    seeded = field.mul(seeds, first)
    if circuit.gadget is not Gadget.CHUNKS:
        return field.tidy(seeded + field.dot(measurement, calls)[:, None])
    chunks = _chunks(circuit, measurement)
    scaled = np.empty(chunks.shape, np.int64)
    rand, power = field.prepare(joint_rand), calls
    for j in range(circuit.chunk):
        power = field.mul(power, rand)
        scaled[:, :, j] = power
    out = np.empty(seeded.shape, np.int64)
    out[:, 0::2] = field.dot(chunks, scaled)
    out[:, 1::2] = field.dot(chunks, calls[:, :, None])
    out[:, 1::2] -= field.mul(_of_a_share(circuit, 1, shares), field.total(calls)[:, None])
    return field.tidy(out + seeded)


def _values(circuit: Circuit, measurement: Elements, outputs: Elements, shares: int) -> Elements:
    """The circuit's outputs, (limbs, values, batch), from the gadget's, (limbs, calls, batch)."""
    field = circuit.field
    if circuit.gadget is Gadget.MUL:
        return field.tidy(outputs - measurement)
    if circuit.gadget is Gadget.RANGE:
        return outputs
    checks = field.total(outputs)[:, None]
    if not circuit.sum_weights:
        return checks
    weights = field.of(circuit.sum_weights, prepared=True)[:, :, None]
    linear = field.dot(measurement, weights)[:, None] - _of_a_share(circuit, circuit.sum_constant, shares)
    return np.concatenate([checks, field.tidy(linear)], axis=1)


def query(
    circuit: Circuit,
    measurement: Elements,
    proof: Elements,
    query_rand: Elements,
    joint_rand: Elements,
    shares: int,
) -> tuple[Elements, Mask]:
    """A share of the verifier from shares of the measurement and the proof.

    Returns:
        (limbs, verifier_length, batch), and which reports drew a test point that is a root of unity and so must be
        refused, (batch,): with probability 2^-58 at most.
    """
    field, size = circuit.field, circuit.wire_size
    seeds, gadget = proof[:, : circuit.arity], proof[:, circuit.arity :]
    values = _values(circuit, measurement, gadget[:, 2 : 2 * circuit.calls + 2 : 2], shares)
    rand = field.prepare(query_rand)
    if circuit.values > 1:
        values = field.dot(values, rand[:, :-1])[:, None]
    weights, power = lagrange(field, rand[:, -1], size)
    refused = field.zero((power - scalar(field, 1, 1))[:, None])[0]
    wires = _wires_at(circuit, measurement, joint_rand, seeds, weights, shares)
    check = field.dot(gadget, short_lagrange(field, rand[:, -1], 2 * size))[:, None]
    return np.concatenate([values, wires, check], axis=1), refused


def decide(circuit: Circuit, verifier: Elements) -> Mask:
    """Which of (limbs, verifier_length, batch), summed over the shares, are accepted."""
    field = circuit.field
    test = _gadget(circuit, verifier[:, 1:-1]) - verifier[:, -1]
    return np.asarray(field.zero(np.stack([verifier[:, 0], test], axis=1)).all(axis=0))


def truncate(circuit: Circuit, measurement: Elements) -> Elements:
    """What is aggregated of an encoded measurement: (limbs, outputs, batch)."""
    field, each = circuit.field, len(circuit.weights)
    if circuit.weights == (1,):
        return measurement[:, : circuit.outputs]
    limbs, _, batch = measurement.shape
    rows = measurement.reshape(limbs, circuit.outputs, each, batch).swapaxes(1, 2)
    return field.dot(rows, field.of(circuit.weights, prepared=True)[:, :, None, None])
