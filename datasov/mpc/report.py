"""Reports: a measurement of each statistic in two shares, each sealed to its aggregator, in one form for everybody.

Whoever holds a share sees bytes without meaning; a null report has the same length and the same shape as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasov.crypto.kdf import random, sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.errors import DecryptionError, VerificationError
from datasov.model.shard import Integers
from datasov.mpc.prio3 import NONCE_SIZE
from datasov.mpc.task import Task
from datasov.wire import cbor, fields

MOST_REPORT = 8 * 1024 * 1024
"""Bytes in a report."""
_INFO = b"datasov report share v1"


@dataclass(frozen=True, slots=True)
class Report:
    """What a device sends.

    Attributes:
        task: identity of the task, 32 bytes.
        nonce: 16 bytes, random to everybody but its maker.
        public: the public share of each statistic.
        sealed: the input shares of all statistics, and an enrolment token or nothing, to the leader and to the helper.
    """

    task: bytes
    nonce: bytes
    public: tuple[bytes, ...]
    sealed: tuple[bytes, bytes]

    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode([self.task, self.nonce, list(self.public), list(self.sealed)])

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """The report of these bytes; VerificationError where they are none."""
        if len(data) > MOST_REPORT:
            raise VerificationError("a report that is too long: make it with resident.answer(task)")
        return Report.read(cbor.decode(data, cbor.MOST_ITEMS))

    @staticmethod
    def read(value: Any) -> Report:
        """The report of a decoded list; VerificationError where it is none."""
        task, nonce, public, sealed = fields.items(value, 4, 4)
        shares = [fields.blob(p, MOST_REPORT) for p in fields.items(public, 1, 1024)]
        mine, other = (fields.blob(s, MOST_REPORT) for s in fields.items(sealed, 2, 2))
        return Report(fields.octets(task, 32), fields.octets(nonce, NONCE_SIZE), tuple(shares), (mine, other))


def info(task: Task, aggregator: int, nonce: bytes, public: Sequence[bytes]) -> bytes:
    """What a sealed share is bound to: the task, its aggregator, and all else in the report but the other share."""
    beside = [len(part).to_bytes(4, "big") + part for part in public]
    return _INFO + task.id + bytes([aggregator]) + nonce + sha256(*beside)


def make_reports(
    task: Task, vectors: Sequence[Sequence[Integers]], tokens: Sequence[tuple[bytes, bytes]] | None = None,
    nonces: Sequence[bytes] | None = None,
) -> list[bytes]:  # fmt: skip
    """A report of each resident's dense vectors, one a statistic; zeros make a null report.

    Args:
        tokens: of enrolment, for the leader and for the helper, where the task asks for them; each is sealed to its
            aggregator with the share.
        nonces: 16 bytes each that nobody can foresee, one of a resident and a task: of two reports under one nonce an
            aggregator counts one. Drawn where not given.

    Raises:
        InvalidDataError: a vector that the task's circuits do not hold.
    """
    nonces = [random(NONCE_SIZE) for _ in vectors] if nonces is None else nonces
    sharded = [
        found.vdaf.shard(task.context(part), [found.measure(v[part]) for v in vectors], nonces)
        for part, found in enumerate(task.fits)
    ]
    made = []
    for place, nonce in enumerate(nonces):
        public = tuple(each[place].public_share for each in sharded)
        token = tokens[place] if tokens else (b"", b"")
        sealed = [
            seal(
                party.seal_key, b"".join(each[place].input_shares[number] for each in sharded) + token[number],
                info(task, number, nonce, public),
            )
            for number, party in enumerate(task.trust.aggregators)
        ]  # fmt: skip
        made.append(Report(task.id, nonce, public, (sealed[0], sealed[1])).to_bytes())
    return made


def open_share(task: Task, aggregator: int, key: OpeningKey, report: Report) -> tuple[list[bytes], bytes]:
    """The input share of each statistic, and the enrolment token beside them.

    Raises:
        DecryptionError: sealed to another key or under other circumstances, or of another size.
    """
    bound = info(task, aggregator, report.nonce, report.public)
    whole, at, found = key.open(report.sealed[aggregator], bound), 0, []
    for size in task.share_sizes[aggregator]:
        found.append(whole[at : at + size])
        at += size
    if at > len(whole):
        raise DecryptionError("a share of another task's size: make the report anew")
    return found, whole[at:]
