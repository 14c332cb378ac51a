"""One batch of reports at one aggregator: opened, checked for replays, verified; what stays is added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from datasov.aggregator.held import Held, mixed_in
from datasov.aggregator.seen import Digests, Marks, digests, marks
from datasov.crypto.seal import OpeningKey
from datasov.mpc.prio3 import OutShares, VerifyState
from datasov.mpc.report import Columns, open_shares
from datasov.mpc.task import Task
from datasov.mpc.xof import SEED_SIZE

Check: TypeAlias = Callable[[Sequence[bytes], Task], Sequence[bytes | None]]
"""The nullifier (32 bytes) of each token of a task that asks for them, or None where it enrols nobody for it."""


@dataclass
class Batch:
    """Reports that this aggregator could open and had not seen, with its first step of verification.

    Attributes:
        places: where each stood among those that it was given.
        nonces: digests of the reports' nonces.
        states, shares: of each statistic; shares are its verifier shares, one a report, None where refused.
    """

    reports: Columns
    places: list[int]
    nonces: Digests
    nullifiers: list[bytes]
    states: list[VerifyState]
    shares: list[list[bytes | None]]


def begin(held: Held, reports: Columns, verify_key: bytes, key: OpeningKey, check: Check) -> Batch:
    """Open what is new, mark it as seen, and take the first step. The caller persists the marks with the sums.

    A report whose share does not open is not marked: nobody can use up another one's nonce without a share of it.
    """
    task, nonces = held.task, digests(reports.nonces)
    new = np.flatnonzero(~held.nonces.known(marks(nonces))).tolist()
    opened = open_shares(task, held.role, key, reports.at(new))
    found = {place: shares for place, shares in zip(new, opened, strict=True) if shares is not None}
    places, nullifiers = _once(held, marks(nonces), {place: token for place, (_, token) in found.items()}, check)
    kept, states, verifier = reports.at(places), [], []
    for part, fit in enumerate(task.fits):
        state, made = fit.vdaf.verify_init(
            verify_key, task.context(part), held.role, kept.nonces, kept.public[part],
            [found[place][0][part] for place in places],
        )  # fmt: skip
        states.append(state)
        verifier.append(made)
    return Batch(kept, places, nonces[places], nullifiers, states, verifier)


def _once(held: Held, nonces: Marks, tokens: Mapping[int, bytes], check: Check) -> tuple[list[int], list[bytes]]:
    """Of the reports that open, by their places, those that are enrolled and came for the first time, marked now.

    All tokens of a batch are checked at once, which takes fewer inversions.
    """
    enrolled = check(list(tokens.values()), held.task) if held.task.token else [b""] * len(tokens)
    spent = marks(digests([nullifier or b"" for nullifier in enrolled]))
    known = held.nullifiers.known(spent)
    places, nullifiers, came, used = list[int](), list[bytes](), set[int](), set[int]()
    for place, nonce, nullifier, mark, old in zip(
        tokens, nonces[list(tokens)].tolist(), enrolled, spent.tolist(), known.tolist(), strict=True
    ):
        if nullifier is None or nonce in came:
            continue
        if nullifier:
            if old or mark in used:
                continue
            used.add(mark)
            nullifiers.append(nullifier)
        came.add(nonce)
        places.append(place)
    held.nonces.add(nonces[places])
    held.nullifiers.add(np.array(sorted(used), np.uint64))
    return places, nullifiers


def combine(task: Task, batch: Batch, others: Sequence[Sequence[bytes | None]]) -> list[list[bytes | None]]:
    """The message of each statistic and report, from the leader's verifier shares and this batch's own.

    None also where the public share tells another joint randomness than both computed. Each would see that for its own
    part alone, and with all bits of a measurement set the proof may hold nonetheless: one would count the report, and
    the other not.
    """
    messages = []
    for part, found in enumerate(task.fits):
        both = [others[part], batch.shares[part]]
        made = found.vdaf.verifier_shares_to_message(task.context(part), both)
        if found.vdaf.circuit.joint_rand_length:
            made = [
                m if m is not None and m1 is not None and m2 is not None
                and m1[-SEED_SIZE:] + m2[-SEED_SIZE:] == public else None
                for m, public, m1, m2 in zip(made, batch.reports.public[part], *both, strict=True)
            ]  # fmt: skip
        messages.append(made)
    return messages


def finish(held: Held, batch: Batch, messages: Sequence[Sequence[bytes | None]]) -> list[bool]:
    """Add the reports whose every statistic verifies to the sums; which they are."""
    outs: list[OutShares] = [
        found.vdaf.verify_next(state, messages[part])
        for part, (found, state) in enumerate(zip(held.task.fits, batch.states, strict=True))
    ]
    valid = np.ones(len(batch.places), dtype=np.bool_)
    for out in outs:
        valid &= out.valid
    for part, (found, out) in enumerate(zip(held.task.fits, outs, strict=True)):
        held.sums[part] = found.vdaf.merge([held.sums[part], found.vdaf.aggregate([replace(out, valid=valid)])])
    held.reports += int(valid.sum())
    held.checksum = mixed_in(held.checksum, batch.nonces[valid])
    return [bool(ok) for ok in valid]
