"""Reports: a measurement of each statistic in two shares, each sealed to its aggregator, in one form for everybody.

Whoever holds a share sees bytes without meaning; a null report has the same length and the same shape as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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
        task, nonce, public, sealed = fields.items(cbor.decode(data), 4, 4)
        shares = [fields.blob(p, MOST_REPORT) for p in fields.items(public, 1, 1024)]
        mine, other = (fields.blob(s, MOST_REPORT) for s in fields.items(sealed, 2, 2))
        return Report(fields.octets(task, 32), fields.octets(nonce, NONCE_SIZE), tuple(shares), (mine, other))


@dataclass(frozen=True, slots=True)
class Columns:
    """Reports of one task, which all have one form: a list for each part, with a place for each report.

    Attributes:
        public: of each statistic. sealed: to the leader, to the helper; empty where the holder does not have them.
    """

    nonces: Sequence[bytes]
    public: Sequence[Sequence[bytes]]
    sealed: tuple[Sequence[bytes], Sequence[bytes]]

    def at(self, places: Sequence[int]) -> Columns:
        """Those at some places."""
        nonces, *rest = [
            [part[place] for place in places] if part else part for part in (self.nonces, *self.public, *self.sealed)
        ]
        return Columns(nonces, rest[:-2], (rest[-2], rest[-1]))


def sealed_size(task: Task, aggregator: int) -> int:
    """Bytes of what is sealed to an aggregator."""
    return 32 + sum(task.share_sizes[aggregator]) + task.token + 16


def _form(task: Task) -> list[tuple[bytes, int]]:
    """What every report of a task is, byte for byte: what stands before each of its parts, and the part's size."""
    public = [found.vdaf.public_size for found in task.fits]
    sizes = [NONCE_SIZE, *public, sealed_size(task, 0), sealed_size(task, 1)]
    lists = [b"\x84" + cbor.encode(task.id), cbor.head([None] * len(public)), *[b""] * (len(public) - 1), b"\x82", b""]
    return [(before + cbor.head(bytes(size)), size) for before, size in zip(lists, sizes, strict=True)]


def read_columns(task: Task, reports: Sequence[bytes]) -> Columns:
    """Reports of one task: canonical CBOR of parts of its sizes.

    Raises:
        VerificationError: one is of another task or another form.
    """
    at, heads, parts = 0, list[tuple[slice, bytes]](), list[slice]()
    for head, size in _form(task):
        heads.append((slice(at, at + len(head)), head))
        parts.append(slice(at + len(head), at + len(head) + size))
        at = parts[-1].stop
    for report in reports:
        if type(report) is not bytes or len(report) != at or any(report[where] != head for where, head in heads):
            raise VerificationError("a report of another task or another size: make it with resident.answer(task)")
    nonces, *public, mine, other = ([report[part] for report in reports] for part in parts)
    return Columns(nonces, public, (mine, other))


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


def open_shares(
    task: Task, aggregator: int, key: OpeningKey, reports: Columns
) -> list[tuple[list[bytes], bytes] | None]:
    """Of each report the input share of each statistic, and the enrolment token beside them.

    None where it is sealed to another key or under other circumstances, or is of another size.
    """
    ends = list(accumulate(task.share_sizes[aggregator], initial=0))
    size, found = ends[-1] + task.token, list[tuple[list[bytes], bytes] | None]()
    for nonce, sealed, *public in zip(reports.nonces, reports.sealed[aggregator], *reports.public, strict=True):
        try:
            whole = key.open(sealed, info(task, aggregator, nonce, public))
        except DecryptionError:
            whole = b""
        if len(whole) == size:
            found.append(([whole[at:end] for at, end in pairwise(ends)], whole[ends[-1] :]))
        else:
            found.append(None)
    return found
