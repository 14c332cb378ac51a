"""The leader: takes reports in, aggregates them with the helper a batch at a time, and is asked for the result.

Which reports make a batch is fixed by the order in which they came, so that after a crash the same batch is asked for
again, byte for byte, and the helper gives the answer that it gave before.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from datasov.aggregator.batch import Batch, begin, finish
from datasov.aggregator.held import Held
from datasov.aggregator.messages import MOST_BODY, ask
from datasov.aggregator.noising import noised, share_key
from datasov.aggregator.state import State
from datasov.crypto.seal import seal
from datasov.errors import ConflictError, InvalidDataError, PeerError, VerificationError
from datasov.mpc.report import Report
from datasov.mpc.task import Task, check_open
from datasov.wire import cbor, fields

UPLOAD, BATCH = 256, 1024
"""Reports in an upload, at most; and in a batch, where so many of the task are verified at a time."""
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
    ask(me.post, me.signing, helper, "keys", [task.id, sealed])
    me.introduced.add(task.id)


def upload(me: State, body: bytes) -> bytes:
    """Keep reports, durably: a list of up to 256 of one task, each of the one size that the task has.

    Raises:
        InvalidDataError, VerificationError: no such task, over, or bytes of another form. One report's fault refuses
            the whole request: a device sends its own alone.
    """
    reports = [
        Report.from_bytes(fields.blob(r, len(body)))
        for r in fields.items(cbor.decode(body, cbor.MOST_ITEMS), 1, UPLOAD)
    ]
    task = me.task(reports[0].task, 0)
    shape = _shape(task)
    for report in reports:
        if report.task != task.id or [len(p) for p in (*report.public, *report.sealed)] != shape:
            raise VerificationError("a report of another task or another size: make it with resident.answer(task)")
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


def _shape(task: Task) -> list[int]:
    public = [64 if f.vdaf.circuit.joint_rand_length else 0 for f in task.fits]
    return [*public, *(32 + sum(task.share_sizes[role]) + task.token + 16 for role in (0, 1))]


def _blob(task: Task, at: int) -> str:
    return f"reports/{task.id.hex()}/{at:09d}"


def drive(me: State, task: bytes) -> int:
    """Aggregate what makes whole batches, and everything once the task is over. How many batches were aggregated.

    One batch is verified here while the helper verifies the one before.

    Raises:
        PeerError, VerificationError: the helper does not answer as agreed; what was not persisted is done again later.
    """
    with me.working(task, 0) as held:
        if me.ledger.stored(share_key(task)) is not None or not _uploads(me, held, held.uploads):
            return 0
        if task not in me.introduced:
            introduce(me, held.task)
        with ThreadPoolExecutor(1) as sender:
            return _drive(me, held, sender)


def _drive(me: State, held: Held, sender: ThreadPoolExecutor) -> int:
    """Batch after batch: one is begun here while the helper has the one before, and sent once that one is recorded.

    Sent any sooner, the helper could have taken it when the answer to the one before is lost, and would never answer
    that one again.
    """
    begun: tuple[Batch, list[str], Future[Any]] | None = None
    first, at, helper = held.jobs, held.uploads, held.task.trust.aggregators[1]
    while True:
        found = _uploads(me, held, at)
        prepared: tuple[Batch, list[str]] | None = None
        if found:
            blobs = [_blob(held.task, at + i) for i in range(found)]
            reports = [Report.from_bytes(r) for name in blobs for r in cbor.decode(me.store.blob(name))]
            prepared = begin(held, reports, me.verify_key(held.task), me.opening, me.check), blobs
            at += found
        if begun is not None:
            _record(me, held, *begun)
        if prepared is None:
            return held.jobs - first
        batch, blobs = prepared
        request = [held.task.id, held.jobs, [_told(batch, i) for i in range(len(batch.reports))]]
        begun = batch, blobs, sender.submit(ask, me.post, me.signing, helper, "jobs", request)


def _told(batch: Batch, place: int) -> list[Any]:
    """What the helper gets of a report: all that both see, its own sealed share, and the leader's verifier shares."""
    report = batch.reports[place]
    return [
        report.nonce, list(report.public), report.sealed[1],
        [shares[place] for shares in batch.shares],
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
    told = fields.items(answer.result(), len(batch.reports), len(batch.reports))
    parts = range(len(held.task.fits))
    messages = [
        [None if each is None else fields.items(each, len(parts), len(parts))[p] for each in told] for p in parts
    ]
    finish(held, batch, messages)
    stream, before = "jobs/" + held.name, held.jobs
    held.jobs, held.uploads = held.jobs + 1, held.uploads + len(blobs)
    entry = held.entry([r.nonce for r in batch.reports], batch.nullifiers)
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
        other = ask(me.post, me.signing, helper, "close", [task.id, held.reports, held.checksum])
        return cbor.encode([noised(held, me.ledger, me.signing), fields.blob(other, MOST_BODY)])
