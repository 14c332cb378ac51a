"""One batch of reports at one aggregator: opened, checked for replays, verified; what stays is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from datasov.aggregator.held import Held, mixed_in
from datasov.crypto.seal import OpeningKey
from datasov.errors import VerificationError
from datasov.mpc.prio3 import OutShares, VerifyState
from datasov.mpc.report import Report, open_share
from datasov.mpc.task import Task
from datasov.mpc.xof import SEED_SIZE

Check: TypeAlias = Callable[[Sequence[bytes], Task], Sequence[bytes | None]]
"""The nullifier (32 bytes) of each token of a task that asks for them, or None where it enrols nobody for it."""


@dataclass
class Batch:
    """Reports that this aggregator could open and had not seen, with its first step of verification.

    Attributes:
        states, shares: of each statistic; shares are its verifier shares, one a report, None where refused.
    """

    reports: list[Report]
    nullifiers: list[bytes]
    states: list[VerifyState]
    shares: list[list[bytes | None]]


def begin(held: Held, reports: Sequence[Report], verify_key: bytes, key: OpeningKey, check: Check) -> Batch:
    """Open what is new, mark it as seen, and take the first step. The caller persists the marks with the sums.

    A report whose share does not open is not marked: nobody can use up another one's nonce without a share of it.
    """
    task, kept, nullifiers = held.task, list[Report](), list[bytes]()
    opened: list[list[bytes]] = []
    for report, shares, nullifier in _opened(held, reports, key, check):
        if report.nonce in held.nonces or nullifier in held.nullifiers:
            continue
        if task.token:
            held.nullifiers.add(nullifier)
            nullifiers.append(nullifier)
        held.nonces.add(report.nonce)
        kept.append(report)
        opened.append(shares)
    states, verifier = [], []
    for part, found in enumerate(task.fits):
        state, made = found.vdaf.verify_init(
            verify_key, task.context(part), held.role, [r.nonce for r in kept],
            [r.public[part] if part < len(r.public) else b"?" for r in kept], [s[part] for s in opened],
        )  # fmt: skip
        states.append(state)
        verifier.append(made)
    return Batch(kept, nullifiers, states, verifier)


def _opened(
    held: Held, reports: Sequence[Report], key: OpeningKey, check: Check
) -> Iterator[tuple[Report, list[bytes], bytes]]:
    """The reports that open and are enrolled, with their shares and nullifiers (empty where none is asked for).

    All tokens of a batch are checked at once, which takes fewer inversions.
    """
    task, found = held.task, list[tuple[Report, list[bytes], bytes]]()
    for report in reports:
        if report.task != task.id or report.nonce in held.nonces:
            continue
        with suppress(VerificationError):
            shares, token = open_share(task, held.role, key, report)
            if len(token) == task.token:
                found.append((report, shares, token))
    marks = check([token for _, _, token in found], task) if task.token else [b""] * len(found)
    for (report, shares, _), mark in zip(found, marks, strict=True):
        if mark is not None:
            yield report, shares, mark


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
            told = [report.public[part] for report in batch.reports]
            tails = zip(*([None if s is None else s[-SEED_SIZE:] for s in shares] for shares in both), strict=True)
            made = [
                m if m is not None and (mine, theirs) == (public[:SEED_SIZE], public[SEED_SIZE:]) else None
                for m, public, (mine, theirs) in zip(made, told, tails, strict=True)
            ]
        messages.append(made)
    return messages


def finish(held: Held, batch: Batch, messages: Sequence[Sequence[bytes | None]]) -> list[bool]:
    """Add the reports whose every statistic verifies to the sums; which they are."""
    outs: list[OutShares] = [
        found.vdaf.verify_next(state, messages[part])
        for part, (found, state) in enumerate(zip(held.task.fits, batch.states, strict=True))
    ]
    valid = np.ones(len(batch.reports), dtype=np.bool_)
    for out in outs:
        valid &= out.valid
    for part, (found, out) in enumerate(zip(held.task.fits, outs, strict=True)):
        held.sums[part] = found.vdaf.merge([held.sums[part], found.vdaf.aggregate([replace(out, valid=valid)])])
    accepted = [report.nonce for report, ok in zip(batch.reports, valid, strict=True) if ok]
    held.reports += len(accepted)
    held.checksum = mixed_in(held.checksum, accepted)
    return [bool(ok) for ok in valid]
