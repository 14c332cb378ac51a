"""The helper: answers the leader, and nobody else. Asked the same again, it gives the answer that it gave before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasov.aggregator.batch import begin, combine, finish
from datasov.aggregator.held import Held
from datasov.aggregator.leader import KEY_INFO, UPLOAD, batch_size
from datasov.aggregator.messages import REQUEST, asked, reply
from datasov.aggregator.noising import noised, share_key
from datasov.aggregator.state import State
from datasov.errors import InvalidDataError, StoreError, VerificationError
from datasov.mpc.report import MOST_REPORT, Report
from datasov.wire import cbor, cose, fields


def serve(me: State, path: str, request: bytes) -> bytes:
    """Answer the leader of a task: its verify key, a batch, or the end.

    Raises:
        VerificationError: (or its subclasses) not the leader's, not for this aggregator, or not as agreed.
    """
    _, _, peeked = fields.items(cbor.decode(cose.parts1(request, REQUEST).payload), 3, 3)
    named = cbor.decode(fields.blob(peeked, len(request)))
    task = me.task(fields.octets(fields.items(named, 2, 3)[0], 32), 1)
    body, digest = asked(request, task.trust.aggregators[0].verify_key, me.me, path)
    with me.working(task.id, 1) as held:
        answer = {"keys": _key, "jobs": _job, "close": _close}[path](me, held, body, digest)
    return reply(digest, answer, me.signing)


def _verify_key(me: State, held: Held) -> bytes | None:
    try:
        return me.store.blob("key/" + held.name)
    except StoreError:
        return None


def _key(me: State, held: Held, body: Any, _: bytes) -> bytes:
    """Keep the task's verify key, once: another one later is refused."""
    key = fields.octets(me.opening.open(fields.blob(body[1], 256), KEY_INFO + held.task.id), 32)
    kept = _verify_key(me, held)
    if kept is None:
        me.store.append({}, {"key/" + held.name: key})
    elif kept != key:
        raise VerificationError("the task has another verify key, which is fixed before the first report")
    return b""


def _job(me: State, held: Held, body: Any, digest: bytes) -> Any:
    """Verify a batch: for each report a message for each statistic, or None where it is refused."""
    _, number, told = fields.items(body, 3, 3)
    if number == held.jobs - 1 and digest == held.last[0]:
        return cbor.decode(held.last[1])
    if me.ledger.stored(share_key(held.task.id)) is not None:
        raise InvalidDataError("the task was collected: no batch is added to it")
    if number != held.jobs:
        raise VerificationError(f"the next batch of this task is number {held.jobs}: ask for that one")
    key = _verify_key(me, held)
    if key is None:
        raise VerificationError("the task has no verify key yet: send it first")
    reports, others = _read(held, told)
    places = {id(report): place for place, report in enumerate(reports)}
    batch = begin(held, reports, key, me.opening, me.check)
    kept = [places[id(report)] for report in batch.reports]
    messages = combine(held.task, batch, [[each[place] for place in kept] for each in others])
    accepted = finish(held, batch, messages)
    answer: list[Any] = [None] * len(reports)
    for i, place in enumerate(kept):
        if accepted[i]:
            answer[place] = [part[i] for part in messages]
    before = held.jobs
    held.jobs, held.last = held.jobs + 1, (digest, cbor.encode(answer))
    entry = held.entry([r.nonce for r in batch.reports], batch.nullifiers)
    me.store.append({"jobs/" + held.name: (before, [entry])}, {"sum/" + held.name: held.pack()})
    return answer


def _read(held: Held, told: Any) -> tuple[list[Report], list[list[bytes | None]]]:
    """The reports of a batch, and the leader's verifier shares of each statistic."""
    parts, reports = len(held.task.fits), list[Report]()
    others: list[list[bytes | None]] = [[] for _ in range(parts)]
    for item in fields.items(told, 0, batch_size(held.task) + UPLOAD):
        nonce, public, sealed, shares = fields.items(item, 4, 4)
        reports.append(Report.read([held.task.id, nonce, public, [b"", sealed]]))
        for part, share in enumerate(fields.items(shares, parts, parts)):
            others[part].append(None if share is None else fields.blob(share, MOST_REPORT))
    return reports, others


def _close(me: State, held: Held, body: Sequence[Any], _: bytes) -> bytes:
    """This aggregator's noised share, once the task is over and both counted the same reports."""
    _, reports, checksum = fields.items(body, 3, 3)
    if me.now() < held.task.until:
        raise InvalidDataError("the task is still open: compare the clocks, and collect it after its end")
    if (reports, checksum) != (held.reports, held.checksum):
        raise VerificationError("the aggregators counted different reports: one of them is at fault")
    return noised(held, me.ledger, me.signing)
