"""What Prio3 derives from seeds (draft-irtf-cfrg-vdaf-20, section 7.2; VERSION 18, one proof), for a batch of them.

Every derivation is separated by its use, by the algorithm and by the context, and binds what the draft says it binds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasov.errors import InvalidQueryError
from datasov.mpc.circuits import Circuit
from datasov.mpc.codec import encode
from datasov.mpc.field import Elements, Words
from datasov.mpc.xof import SEED_SIZE, Octets, Part, derive_seed, expand

VERSION = 18
PROOFS = bytes([1])
MEASUREMENT, PROOF, JOINT_RAND, PROVE, QUERY, JOINT_RAND_SEED, JOINT_RAND_PART = range(1, 8)
_MOST_CONTEXT = 65535 - 8


def _dst(circuit: Circuit, usage: int, ctx: bytes) -> bytes:
    """The domain separation tag."""
    if len(ctx) > _MOST_CONTEXT:
        raise InvalidQueryError(f"a context has at most {_MOST_CONTEXT} bytes")
    return bytes([VERSION, 0]) + circuit.algorithm.to_bytes(4, "big") + usage.to_bytes(2, "big") + ctx


def draw(
    circuit: Circuit, usage: int, ctx: bytes, seed: Part, binder: Sequence[Part], length: int, batch: int
) -> Words:
    """Elements for one use: (length, words, batch)."""
    return expand(circuit.field, batch, seed, _dst(circuit, usage, ctx), binder, length)


def helper_share(circuit: Circuit, ctx: bytes, agg_id: int, seeds: Octets, usage: int) -> Words:
    """A helper's share of the measurement or of the proof, of its seeds, (batch, 32)."""
    proof = usage == PROOF
    binder = (PROOFS if proof else b"") + bytes([agg_id])
    return draw(circuit, usage, ctx, seeds, [binder], circuit.proof_length if proof else circuit.length, len(seeds))


def joint_rand_part(
    circuit: Circuit, ctx: bytes, agg_id: int, blinds: Octets, nonces: Octets, measurement: Words
) -> Octets:
    """An aggregator's part of the joint randomness, which binds its share of the measurement: (batch, 32)."""
    binder: list[Part] = [bytes([agg_id]), nonces, encode(measurement)]
    return derive_seed(len(blinds), blinds, _dst(circuit, JOINT_RAND_PART, ctx), binder)


def joint_rand_seed(circuit: Circuit, ctx: bytes, parts: Octets) -> Octets:
    """The seed of the joint randomness, (batch, 32), of all parts, (batch, 32 shares)."""
    return derive_seed(len(parts), bytes(SEED_SIZE), _dst(circuit, JOINT_RAND_SEED, ctx), [parts])


def joint_rand(circuit: Circuit, ctx: bytes, seeds: Octets) -> Elements:
    """The joint randomness, (limbs, joint_rand_length, batch); empty for circuits without any."""
    length = circuit.joint_rand_length
    if not length:
        return np.zeros((circuit.field.limbs, 0, len(seeds)), np.int64)
    return circuit.field.of_words(draw(circuit, JOINT_RAND, ctx, seeds, [PROOFS], length, len(seeds)))
