"""Receipts for everybody: of every release, in one file, the same for whoever asks.

There is no call by which anybody asks for their own: that would tell the city who was concerned. A resident reads the
whole log, or checks this file at home, and finds there what their consents covered.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

from starlette.responses import Response

from datasov.city import City
from datasov.gateway.operation import OCTETS, Call, Operation, Reply
from datasov.tlog.bundle import Statement, pack
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, decode_leaf
from datasov.tlog.log import Log
from datasov.tlog.note import Checkpoint
from datasov.tlog.operators import SUBJECT
from datasov.tlog.receipt import Approval, Receipt

_PAGE = 64
_CACHED = {"cache-control": "public, max-age=60"}


@dataclass
class _Told:
    """What was read of one city's log so far, and the bundle of one tick: it is made once a tick, not once a call."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    read: int = 0
    leaves: list[tuple[int, bytes]] = field(default_factory=list)
    tick: int = -1
    bundle: bytes = b""


_TOLD: weakref.WeakKeyDictionary[City, _Told] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def operations() -> list[Operation]:
    """What everybody can ask of receipts."""
    return [
        Operation(
            "GET", "/v1/receipts", _receipts, "getReceipts", "Receipts of every release, to be verified offline",
            "receipts", None, [Reply(200, "what `datasov receipts verify FILE --city ID` reads", {OCTETS: {}})],
            "The same bytes for everybody, made once a tick. That nothing else concerned a resident, only the whole "
            "log shows: /log/export, or `datasov receipts VAULT --log ADDRESS`.",
        ),
    ]  # fmt: skip


def _receipts(call: Call) -> Response:
    headers = {**_CACHED, "content-disposition": 'attachment; filename="receipts"'}
    return Response(bundle(call.shared.city, call.shared.clock()), media_type=OCTETS, headers=headers)


def bundle(city: City, now: float) -> bytes:
    """The bundle of this tick; while another thread makes it, that of the tick before."""
    with _GUARD:
        told = _TOLD.setdefault(city, _Told())
    tick = int(now) // city.periods.tick
    if told.tick == tick:
        return told.bundle
    if not told.lock.acquire(blocking=not told.bundle):
        return told.bundle
    try:
        if told.tick != tick:
            told.bundle, told.tick = _made(city, told), tick
        return told.bundle
    finally:
        told.lock.release()


def _made(city: City, told: _Told) -> bytes:
    checkpoint, log = city.checkpoint(), city.log
    while told.read < checkpoint.size:
        end = min(told.read + _PAGE, checkpoint.size)
        for index, data in enumerate(log.leaves(told.read, end), told.read):
            if isinstance(decode_leaf(data), NoticeLeaf | ReleaseLeaf):
                told.leaves.append((index, data))
        told.read = end
    return pack(checkpoint, _statements(log, checkpoint, told), _all(log, checkpoint, told))


def _statements(log: Log, checkpoint: Checkpoint, told: _Told) -> list[Statement]:
    size, found = checkpoint.size, list[Statement]()
    for index, data in told.leaves:
        leaf = decode_leaf(data)
        if isinstance(leaf, NoticeLeaf) and leaf.subject == SUBJECT:
            grown = tuple(log.consistency(index, size)) if index else ()
            found.append(Statement(index, data, tuple(log.inclusion(index, size)), grown))
    return found


def _all(log: Log, checkpoint: Checkpoint, told: _Told) -> list[Receipt]:
    size, approvals, found = checkpoint.size, dict[bytes, Approval](), list[Receipt]()
    for index, data in told.leaves:
        leaf, proof = decode_leaf(data), tuple(log.inclusion(index, size))
        if isinstance(leaf, NoticeLeaf):
            approvals.setdefault(leaf.identity, Approval(data, index, proof))
        elif isinstance(leaf, ReleaseLeaf):
            approval = approvals.get(leaf.programme) if leaf.programme else None
            found.append(Receipt(data, index, proof, size, log.public, log.origin, approval))
    return found
