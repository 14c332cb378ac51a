"""The leader: takes reports in, aggregates them with the helper a batch at a time, and is asked for the result.

Which reports make a batch is fixed by the order in which they came, so that after a crash the same batch is asked for
again, byte for byte, and the helper gives the answer that it gave before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from datasov.aggregator.batch import Batch, begin, finish
from datasov.aggregator.held import Held
from datasov.aggregator.messages import MOST_BODY, pack, request, unpack
from datasov.aggregator.noising import noised, share_key
from datasov.aggregator.state import State
from datasov.crypto.seal import seal
from datasov.errors import ConflictError, InvalidDataError, PeerError
from datasov.mpc.report import Report, read_columns
from datasov.mpc.task import Task, check_open
from datasov.wire import cbor, fields

UPLOAD, BATCH = 256, 1024
"""Reports in an upload, at most; and in a batch, where so many of the task are verified at a time."""
AHEAD = 2
"""Batches that the helper may have taken and the leader has not recorded: as many answers the helper keeps."""
KEY_INFO = b"datasov verify key v1"


def introduce(me: State, task: Task) -> None:
    """Hand the task and its verify key to the helper, before the first batch; again after a restart.

    Raises:
        DeniedError, PeerError: the helper does not take it.
    """
    helper = task.trust.aggregators[1]
    if me.post(helper, "tasks", me.ledger.stored(task.id) or b"") != task.id:
        raise PeerError("the helper took another task: check that both run the same version")
    sealed = seal(helper.seal_key, me.verify_key(task), KEY_INFO + task.id)
    request(me.signing, helper, "keys", [task.id, sealed]).send(me.post)
    me.introduced.add(task.id)


def upload(me: State, body: bytes) -> bytes:
    """Keep reports, durably: a list of up to 256 of one task, each of the one size that the task has.

    Raises:
        InvalidDataError, VerificationError: no such task, over, or bytes of another form. One report's fault refuses
            the whole request: a device sends its own alone.
    """
    reports = fields.items(cbor.decode(body, cbor.MOST_ITEMS), 1, UPLOAD)
    task = me.task(Report.from_bytes(fields.blob(reports[0], len(body))).task, 0)
    read_columns(task, reports)
    stream = "uploads/" + task.id.hex()
    while True:
        with me.door:
            check_open(task, me.now())
            at = me.store.length(stream)
            try:
                me.store.append({stream: (at, [len(reports).to_bytes(2, "big")])}, {_blob(task, at): body})
            except ConflictError:
                continue
            return b""


def _blob(task: Task, at: int) -> str:
    return f"reports/{task.id.hex()}/{at:09d}"


def drive(me: State, task: bytes) -> int:
    """Aggregate what makes whole batches, and everything once the task is over. How many batches were aggregated.

    One batch is begun here while the helper has up to two.

    Raises:
        PeerError, VerificationError: the helper does not answer as agreed; what was not persisted is done again later.
    """
    with me.working(task, 0) as held:
        if me.ledger.stored(share_key(task)) is not None or not _uploads(me, held, held.uploads):
            return 0
        if task not in me.introduced:
            introduce(me, held.task)
        sender = ThreadPoolExecutor(1)
        try:
            return _drive(me, held, sender)
        finally:
            sender.shutdown(cancel_futures=True)


def _drive(me: State, held: Held, sender: ThreadPoolExecutor) -> int:
    """Batch after batch: one is begun here, while two that were sent or wait to be are not recorded yet.

    Batch n goes out as soon as the request with n - 1 is over, and once n - 2 is recorded. So whenever this process
    ends, the helper took at most two batches that are not recorded here, and it answers those two again.
    """
    sent = deque[tuple[Batch, list[str], Future[Any]]]()
    helper, first, number, at = held.task.trust.aggregators[1], held.jobs, held.jobs, held.uploads
    while True:
        found = _uploads(me, held, at)
        if found:
            blobs = [_blob(held.task, at + i) for i in range(found)]
            reports = read_columns(held.task, [r for name in blobs for r in cbor.decode(me.store.blob(name))])
            batch = begin(held, reports, me.verify_key(held.task), me.opening, me.check)
            number, at = number + 1, at + found
            asking = request(me.signing, helper, "jobs", [held.task.id, number - 1, *_told(held.task, batch)])
        while sent and (not found or len(sent) == AHEAD):
            _record(me, held, *sent.popleft())
        if not found:
            return held.jobs - first
        sent.append((batch, blobs, sender.submit(asking.send, me.post)))


def _told(task: Task, batch: Batch) -> list[Any]:
    """What the helper gets of each report: all that both see, its own sealed share, and the leader's verifier shares.

    Each part stands in one byte string for all reports.
    """
    reports = batch.reports
    return [
        b"".join(reports.nonces), [b"".join(each) for each in reports.public], b"".join(reports.sealed[1]),
        [pack(shares, found.vdaf.verifier_size) for found, shares in zip(task.fits, batch.shares, strict=True)],
    ]  # fmt: skip


def batch_size(task: Task) -> int:
    """Reports in a batch, at least, as long as the task is open; less than `UPLOAD` more: one request holds them."""
    each = 64 + task.token + sum(task.share_sizes[1])
    each += sum(f.vdaf.circuit.verifier_length * f.vdaf.circuit.field.size + 128 for f in task.fits)
    room = max(1, MOST_BODY // each - UPLOAD)
    return min(BATCH, room, max(UPLOAD, min(found.vdaf.block for found in task.fits)))


def _uploads(me: State, held: Held, after: int) -> int:
    """How many uploads from there on make the next batch; 0 where it is not full and the task is open.

    At the door nothing comes in meanwhile: once the task is over here, what there is stays all that there is.
    """
    wanted = batch_size(held.task)
    with me.door:
        counts = [int.from_bytes(body, "big") for body in me.store.read("uploads/" + held.name, after, wanted)]
        over = me.now() >= held.task.until
    total = 0
    for place, count in enumerate(counts, 1):
        total += count
        if total >= wanted:
            return place
    return len(counts) if over else 0


def _record(me: State, held: Held, batch: Batch, blobs: Sequence[str], answer: Future[Any]) -> None:
    """Take the helper's messages, and persist the sums without the reports that are in them."""
    told = fields.items(answer.result(), len(held.task.fits), len(held.task.fits))
    messages = [
        unpack(each, found.vdaf.message_size, len(batch.places))
        for each, found in zip(told, held.task.fits, strict=True)
    ]
    finish(held, batch, messages)
    stream, before = "jobs/" + held.name, held.jobs
    held.jobs, held.uploads = held.jobs + 1, held.uploads + len(blobs)
    entry = held.entry(batch.reports.nonces, batch.nullifiers)
    gone: dict[str, bytes | None] = dict.fromkeys(blobs)
    me.store.append({stream: (before, [entry])}, {"sum/" + held.name: held.pack(), **gone})


def collect(me: State, identifier: bytes) -> bytes:
    """The noised shares of both, signed and sealed to the city; asked again, the same bytes.

    Raises:
        InvalidDataError: the task is still open.
        PeerError, VerificationError: the helper does not answer as agreed, or counted other reports.
    """
    task = me.task(identifier, 0)
    if me.now() < task.until:
        raise InvalidDataError("the task is still open: collect it after its end")
    with me.working(identifier, 0) as held:
        while drive(me, identifier):
            pass
        if identifier not in me.introduced:
            introduce(me, task)
        helper = task.trust.aggregators[1]
        other = request(me.signing, helper, "close", [task.id, held.reports, held.checksum]).send(me.post)
        return cbor.encode([noised(held, me.ledger, me.signing), fields.blob(other, MOST_BODY)])
