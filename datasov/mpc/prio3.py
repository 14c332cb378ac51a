"""Prio3 (draft-irtf-cfrg-vdaf-20, section 7; VERSION 18) with XofTurboShake128 and one proof, a batch at a time.

A client *shards* a measurement: a public share, and an input share for each aggregator. Aggregator 0, the leader, gets
elements of the measurement and of the proof; the others, the helpers, a seed for both. Each runs `verify_init` on its
share; the verifier shares of one report, from all aggregators, give a message or a refusal
(`verifier_shares_to_message`); `verify_next` gives each its output share; the sum of output shares (`aggregate`) goes
to the collector, who adds the aggregators' sums (`unshard`).

A report that does not decode or verify is marked and stops no other. What Prio3 asks of its callers stands in
docs/spec/two-server.md: above all, a report is verified once, and the verify key is fixed before reports arrive.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.mpc import circuits, flp
from datasov.mpc.circuits import Circuit
from datasov.mpc.codec import decode, decode_one, encode, encode_one, gather, scatter
from datasov.mpc.derive import (
    MEASUREMENT,
    PROOF,
    PROOFS,
    PROVE,
    QUERY,
    draw,
    helper_share,
    joint_rand,
    joint_rand_part,
    joint_rand_seed,
)
from datasov.mpc.field import Elements, Field, Mask
from datasov.mpc.xof import SEED_SIZE, Octets

NONCE_SIZE = 16
MOST_AT_ONCE = 1024
ELEMENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What a client sends: the public share to all aggregators, input share i to aggregator i alone."""

    nonce: bytes
    public_share: bytes
    input_shares: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OutShares:
    """One aggregator's output shares of a batch.

    Attributes:
        elements: (limbs, outputs, batch); meaningless where not valid.
        valid: which reports were accepted, (batch,).
    """

    field: Field
    elements: Elements
    valid: Mask

    def encode(self) -> list[bytes | None]:
        """The bytes of each report's output share; None where it was refused."""
        return scatter(encode(self.field.to_words(self.elements)), self.valid)


@dataclass(frozen=True, slots=True)
class VerifyState:
    """What an aggregator keeps of a batch between `verify_init` and `verify_next`.

    Attributes:
        seeds: the joint randomness' seed as this aggregator computed it, (batch, 32), or (batch, 0).
    """

    out_shares: OutShares
    seeds: Octets


@dataclass(frozen=True, slots=True)
class Prio3:
    """One of the five, with its parameters: see `prio3_count` and the others.

    Attributes:
        circuit: what a valid measurement is.
        shares: how many aggregators, 2 to 255.
    """

    circuit: Circuit
    shares: int

    def __post_init__(self) -> None:
        if not isinstance(self.shares, int) or not 2 <= self.shares <= 255:
            raise InvalidQueryError("shares is the number of aggregators: 2 to 255")

    @property
    def rand_size(self) -> int:
        """Bytes of randomness in one sharding."""
        return SEED_SIZE * (self.shares + (self.shares if self._joint else 0))

    @property
    def public_size(self) -> int:
        """Bytes of a public share."""
        return SEED_SIZE * self.shares if self._joint else 0

    @property
    def verifier_size(self) -> int:
        """Bytes of a verifier share."""
        return self.circuit.verifier_length * self.circuit.field.size + self.message_size

    @property
    def message_size(self) -> int:
        """Bytes of a verifier message."""
        return SEED_SIZE if self._joint else 0

    @property
    def block(self) -> int:
        """How many reports are worked on at a time: arrays stay near a processor's caches, and memory is bounded."""
        return max(1, min(MOST_AT_ONCE, ELEMENTS_AT_ONCE // (self.circuit.calls * self.circuit.arity)))

    @property
    def _joint(self) -> bool:
        return self.circuit.joint_rand_length > 0

    def shard(
        self, ctx: bytes, measurements: Sequence[Any], nonces: Sequence[bytes], rand: Sequence[bytes] | None = None
    ) -> list[Report]:
        """The reports of measurements, one each.

        Args:
            ctx: what the report is for; all parties hold the same.
            measurements: see `circuits.encode`.
            nonces: 16 random bytes each.
            rand: `rand_size` random bytes each; drawn from the system unless given, which only tests do.

        Raises:
            InvalidDataError: a measurement, a nonce or its randomness is not of this form.
        """
        if rand is None:
            rand = [secrets.token_bytes(self.rand_size) for _ in measurements]
        if not len(measurements) == len(nonces) == len(rand):
            raise InvalidDataError("give as many nonces as measurements")
        out: list[Report] = []
        step = max(1, self.block // 4)  # a proof takes about four times the room of its verification
        for at in range(0, len(measurements), step):
            block = slice(at, at + step)
            out += self._shard(ctx, measurements[block], nonces[block], rand[block])
        return out

    def _shard(
        self, ctx: bytes, measurements: Sequence[Any], nonces: Sequence[bytes], rand: Sequence[bytes]
    ) -> list[Report]:
        circuit, field, batch = self.circuit, self.circuit.field, len(measurements)
        nonce, good = gather(nonces, NONCE_SIZE)
        drawn, enough = gather(rand, self.rand_size)
        if not (good & enough).all():
            raise InvalidDataError(f"a nonce has {NONCE_SIZE} bytes, the randomness of a report {self.rand_size}")
        seeds = drawn.reshape(batch, -1, SEED_SIZE).swapaxes(0, 1)
        each = 2 if self._joint else 1
        helpers, last = seeds[: each * (self.shares - 1)], seeds[each * (self.shares - 1) :]
        bits = circuits.encode(circuit, measurements)
        whole = np.zeros((field.limbs, *bits.shape), np.int64)
        whole[0] = bits

        leader, parts = whole, []
        for j in range(1, self.shares):
            share = helper_share(circuit, ctx, j, helpers[each * (j - 1)], MEASUREMENT)
            leader = field.tidy(leader - field.of_words(share))
            if self._joint:
                parts.append(joint_rand_part(circuit, ctx, j, helpers[each * (j - 1) + 1], nonce, share))
        words = field.to_words(leader)
        public = np.zeros((batch, 0), np.uint8)
        if self._joint:
            public = np.concatenate([joint_rand_part(circuit, ctx, 0, last[0], nonce, words), *parts], axis=1)
        joint = joint_rand(circuit, ctx, joint_rand_seed(circuit, ctx, public) if self._joint else public)
        prove_rand = draw(circuit, PROVE, ctx, last[-1], [PROOFS], circuit.prove_rand_length, batch)
        proof = flp.prove(circuit, whole, field.of_words(prove_rand), joint)
        for j in range(1, self.shares):
            proof = field.tidy(proof - field.of_words(helper_share(circuit, ctx, j, helpers[each * (j - 1)], PROOF)))
        rows = [np.concatenate([encode(words), encode(field.to_words(proof)), *last[:-1]], axis=1)]
        rows += [np.concatenate(list(helpers[each * j : each * (j + 1)]), axis=1) for j in range(self.shares - 1)]
        return [Report(nonces[i], public[i].tobytes(), tuple(row[i].tobytes() for row in rows)) for i in range(batch)]

    def verify_init(
        self,
        verify_key: bytes,
        ctx: bytes,
        agg_id: int,
        nonces: Sequence[bytes],
        public_shares: Sequence[bytes],
        input_shares: Sequence[bytes],
    ) -> tuple[VerifyState, list[bytes | None]]:
        """An aggregator's first step, for a batch of reports.

        Returns:
            What to keep, and the verifier share of each report: None where it does not decode.

        Raises:
            InvalidDataError: the key, the aggregator's number or the numbers of things are not of this form.
        """
        if len(verify_key) != SEED_SIZE or agg_id not in range(self.shares):
            raise InvalidDataError(f"a verify key has {SEED_SIZE} bytes, and agg_id is from 0 to {self.shares - 1}")
        if not len(nonces) == len(public_shares) == len(input_shares):
            raise InvalidDataError("give a nonce, a public share and an input share for each report")
        states, shares = [], []
        for at in range(0, max(len(nonces), 1), self.block):
            block = slice(at, at + self.block)
            gathered = nonces[block], public_shares[block], input_shares[block]
            state, share = self._verify(verify_key, ctx, agg_id, *gathered)
            states.append(state)
            shares += share
        outs = [state.out_shares for state in states]
        out = OutShares(
            self.circuit.field,
            np.concatenate([o.elements for o in outs], axis=2),
            np.concatenate([o.valid for o in outs]),
        )
        return VerifyState(out, np.concatenate([state.seeds for state in states])), shares

    def _verify(
        self,
        verify_key: bytes,
        ctx: bytes,
        agg_id: int,
        nonces: Sequence[bytes],
        public_shares: Sequence[bytes],
        input_shares: Sequence[bytes],
    ) -> tuple[VerifyState, list[bytes | None]]:
        circuit, field, batch = self.circuit, self.circuit.field, len(nonces)
        blind_size = SEED_SIZE if self._joint else 0
        nonce, valid = gather(nonces, NONCE_SIZE)
        public, good = gather(public_shares, blind_size * self.shares)
        valid &= good
        if agg_id:
            raw, good = gather(input_shares, SEED_SIZE + blind_size)
            words = helper_share(circuit, ctx, agg_id, raw[:, :SEED_SIZE], MEASUREMENT)
            proof = helper_share(circuit, ctx, agg_id, raw[:, :SEED_SIZE], PROOF)
        else:
            length = (circuit.length + circuit.proof_length) * field.size
            raw, good = gather(input_shares, length + blind_size)
            both, below = decode(field, raw[:, :length])
            valid &= below
            words, proof = both[: circuit.length], both[circuit.length :]
        valid &= good
        blind = raw[:, raw.shape[1] - blind_size :]

        seeds, part = np.zeros((batch, 0), np.uint8), np.zeros((batch, 0), np.uint8)
        if self._joint:
            part = joint_rand_part(circuit, ctx, agg_id, blind, nonce, words)
            public[:, SEED_SIZE * agg_id : SEED_SIZE * (agg_id + 1)] = part
            seeds = joint_rand_seed(circuit, ctx, public)
        joint = joint_rand(circuit, ctx, seeds)
        drawn = draw(circuit, QUERY, ctx, verify_key, [PROOFS, nonce], circuit.query_rand_length, batch)
        measurement = field.of_words(words)
        verifier, refused = flp.query(
            circuit, measurement, field.of_words(proof), field.of_words(drawn), joint, self.shares
        )
        valid &= ~refused
        rows = np.concatenate([encode(field.to_words(verifier)), part], axis=1)
        out = OutShares(field, flp.truncate(circuit, measurement), valid)
        return VerifyState(out, seeds), scatter(rows, valid)

    def verifier_shares_to_message(
        self, ctx: bytes, verifier_shares: Sequence[Sequence[bytes | None]]
    ) -> list[bytes | None]:
        """The message of each report, from its verifier shares: `verifier_shares[agg_id][report]`.

        Returns:
            None for a report that is refused: a share is missing or malformed, or the proof does not hold.

        Raises:
            InvalidDataError: not a list a aggregator, of one length.
        """
        if len(verifier_shares) != self.shares or len({len(each) for each in verifier_shares}) != 1:
            raise InvalidDataError(f"give {self.shares} lists of verifier shares, in the aggregators' order")
        out: list[bytes | None] = []
        for at in range(0, len(verifier_shares[0]), self.block):
            out += self._message(ctx, [each[at : at + self.block] for each in verifier_shares])
        return out

    def _message(self, ctx: bytes, verifier_shares: Sequence[Sequence[bytes | None]]) -> list[bytes | None]:
        circuit, field, batch = self.circuit, self.circuit.field, len(verifier_shares[0])
        length, part_size = circuit.verifier_length * field.size, SEED_SIZE if self._joint else 0
        valid = np.ones(batch, np.bool_)
        verifier = np.zeros((field.limbs, circuit.verifier_length, batch), np.int64)
        parts = []
        for shares in verifier_shares:
            raw, good = gather(shares, length + part_size)
            words, below = decode(field, raw[:, :length])
            valid &= good & below
            verifier = field.tidy(verifier + field.of_words(words))
            parts.append(raw[:, length:])
        valid &= flp.decide(circuit, verifier)
        rows = np.concatenate(parts, axis=1)
        return scatter(joint_rand_seed(circuit, ctx, rows) if self._joint else rows, valid)

    def verify_next(self, state: VerifyState, messages: Sequence[bytes | None]) -> OutShares:
        """An aggregator's last step: its output shares, where the message is the joint randomness that it used itself.

        Raises:
            InvalidDataError: not as many messages as reports.
        """
        out = state.out_shares
        if len(messages) != len(out.valid):
            raise InvalidDataError("give a message, or None, for each report of the batch")
        received, good = gather(messages, state.seeds.shape[1])
        return OutShares(out.field, out.elements, out.valid & good & (received == state.seeds).all(axis=1))

    def aggregate(self, batches: Sequence[OutShares]) -> bytes:
        """One aggregator's aggregate share: the sum of its valid output shares."""
        field = self.circuit.field
        sum_ = np.zeros((field.limbs, self.circuit.outputs), np.int64)
        for out in batches:
            sum_ = field.tidy(sum_ + field.total(out.elements[:, :, out.valid].swapaxes(1, 2)))
        return encode_one(field, sum_)

    def merge(self, agg_shares: Sequence[bytes]) -> bytes:
        """The sum of aggregate shares of one aggregator.

        Raises:
            VerificationError: one does not decode.
        """
        return encode_one(self.circuit.field, self._sum(agg_shares))

    def _sum(self, agg_shares: Sequence[bytes]) -> Elements:
        field = self.circuit.field
        sum_ = np.zeros((field.limbs, self.circuit.outputs), np.int64)
        for share in agg_shares:
            sum_ = field.tidy(sum_ + decode_one(field, share, self.circuit.outputs))
        return sum_

    def unshard(self, agg_shares: Sequence[bytes]) -> int | list[int]:
        """The aggregate, from all aggregators' aggregate shares: a number, or a number for each entry.

        Raises:
            InvalidDataError: not one share from each aggregator.
            VerificationError: one does not decode.
        """
        if len(agg_shares) != self.shares:
            raise InvalidDataError(f"give the aggregate shares of all {self.shares} aggregators")
        values = self.circuit.field.ints(self._sum(agg_shares))
        return values[0] if self.circuit.scalar else values


def prio3_count(shares: int = 2) -> Prio3:
    """How many measurements are 1."""
    return Prio3(circuits.count(), shares)


def prio3_sum(max_measurement: int, shares: int = 2) -> Prio3:
    """The sum of numbers from 0 to a maximum."""
    return Prio3(circuits.total(max_measurement), shares)


def prio3_sum_vec(length: int, max_measurement: int, chunk_length: int, shares: int = 2) -> Prio3:
    """The sums of vectors of numbers, each from 0 to a maximum."""
    return Prio3(circuits.sum_vec(length, max_measurement, chunk_length), shares)


def prio3_histogram(length: int, chunk_length: int, shares: int = 2) -> Prio3:
    """How many measurements fall in each cell."""
    return Prio3(circuits.histogram(length, chunk_length), shares)


def prio3_multihot_count_vec(length: int, max_weight: int, chunk_length: int, shares: int = 2) -> Prio3:
    """How many measurements have each bit set, of at most max_weight bits each."""
    return Prio3(circuits.multihot_count_vec(length, max_weight, chunk_length), shares)
