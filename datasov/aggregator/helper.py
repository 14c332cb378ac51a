"""The helper: answers the leader, and nobody else. Asked the same again, it gives the answer that it gave before."""

from __future__ import annotations

from typing import Any

from datasov.aggregator.batch import begin, combine, finish
from datasov.aggregator.held import Held, parted
from datasov.aggregator.leader import AHEAD, KEY_INFO, UPLOAD, batch_size
from datasov.aggregator.messages import asked, pack, reply, unpack
from datasov.aggregator.noising import noised, share_key
from datasov.aggregator.state import State
from datasov.errors import InvalidDataError, StoreError, VerificationError
from datasov.mpc.prio3 import NONCE_SIZE
from datasov.mpc.report import Columns, sealed_size
from datasov.mpc.task import Task
from datasov.wire import cbor, fields


def serve(me: State, path: str, request: bytes) -> bytes:
    """Answer the leader of a task: its verify key, a batch, or the end.

    Raises:
        VerificationError: (or its subclasses) not the leader's, not for this aggregator, or not as agreed.
    """

    def leader(body: Any) -> bytes:
        named = fields.octets(fields.items(body, 2, 6)[0], 32)
        return me.task(named, 1).trust.aggregators[0].verify_key

    body, digest = asked(request, path, me.me, leader)
    with me.working(body[0], 1) as held:
        answer = {"keys": _key, "jobs": _job, "close": _close}[path](me, held, body, digest)
    return reply(digest, answer, me.signing)


def _verify_key(me: State, held: Held) -> bytes | None:
    try:
        return me.store.blob("key/" + held.name)
    except StoreError:
        return None


def _key(me: State, held: Held, body: Any, _: bytes) -> bytes:
    """Keep the task's verify key, once: another one later is refused."""
    _, sealed = fields.items(body, 2, 2)
    key = fields.octets(me.opening.open(fields.blob(sealed, 256), KEY_INFO + held.task.id), 32)
    kept = _verify_key(me, held)
    if kept is None:
        me.store.append({}, {"key/" + held.name: key})
    elif kept != key:
        raise VerificationError("the task has another verify key, which is fixed before the first report")
    return cbor.encode(b"")


def _job(me: State, held: Held, body: Any, digest: bytes) -> bytes:
    """Verify a batch: of each statistic the messages, with None where a report is refused.

    The last two batches are answered again, since the leader may have two under way that it has not recorded.
    """
    _, told, nonces, public, sealed, shares = fields.items(body, 6, 6)
    number, first = fields.integer(told, 0, 2**62), held.jobs - len(held.last)
    if first <= number < held.jobs and held.last[number - first][0] == digest:
        return held.last[number - first][1]
    if me.ledger.stored(share_key(held.task.id)) is not None:
        raise InvalidDataError("the task was collected: no batch is added to it")
    if number != held.jobs:
        raise VerificationError(f"the next batch of this task is number {held.jobs}: ask for that one")
    key = _verify_key(me, held)
    if key is None:
        raise VerificationError("the task has no verify key yet: send it first")
    reports, others = _read(held.task, nonces, public, sealed, shares)
    batch = begin(held, reports, key, me.opening, me.check)
    messages = combine(held.task, batch, [[each[place] for place in batch.places] for each in others])
    accepted = finish(held, batch, messages)
    answers = []
    for found, made in zip(held.task.fits, messages, strict=True):
        answer: list[bytes | None] = [None] * len(reports.nonces)
        for place, message, counted in zip(batch.places, made, accepted, strict=True):
            answer[place] = message if counted else None
        answers.append(pack(answer, found.vdaf.message_size))
    before, encoded = held.jobs, cbor.encode(answers)
    held.jobs, held.last = held.jobs + 1, [*held.last, (digest, encoded)][-AHEAD:]
    entry = held.entry(batch.reports.nonces, batch.nullifiers)
    me.store.append({"jobs/" + held.name: (before, [entry])}, {"sum/" + held.name: held.pack()})
    return encoded


def _read(task: Task, nonces: Any, public: Any, sealed: Any, shares: Any) -> tuple[Columns, list[list[bytes | None]]]:
    """The reports of a batch, and the leader's verifier shares of each statistic."""
    parts, size = len(task.fits), sealed_size(task, 1)
    count = len(fields.blob(nonces, NONCE_SIZE * (batch_size(task) + UPLOAD - 1))) // NONCE_SIZE
    told = zip(fields.items(public, parts, parts), (f.vdaf.public_size for f in task.fits), strict=True)
    reports = Columns(
        parted(fields.octets(nonces, count * NONCE_SIZE), NONCE_SIZE),
        [parted(fields.octets(each, count * n), n) if n else [b""] * count for each, n in told],
        ([], parted(fields.octets(sealed, count * size), size)),
    )
    others = zip(fields.items(shares, parts, parts), (f.vdaf.verifier_size for f in task.fits), strict=True)
    return reports, [unpack(each, n, count) for each, n in others]


def _close(me: State, held: Held, body: Any, _: bytes) -> bytes:
    """This aggregator's noised share, once the task is over and both counted the same reports."""
    _, reports, checksum = fields.items(body, 3, 3)
    if me.now() < held.task.until:
        raise InvalidDataError("the task is still open: compare the clocks, and collect it after its end")
    if (reports, checksum) != (held.reports, held.checksum):
        raise VerificationError("the aggregators counted different reports: one of them is at fault")
    return cbor.encode(noised(held, me.ledger, me.signing))
