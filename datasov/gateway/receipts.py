"""Receipts for everybody: of every release, in one file, the same for whoever asks.

There is no call by which anybody asks for their own: that would tell the city who was concerned. A resident reads the
whole log, or checks this file at home, and finds there what their consents covered.
"""

from __future__ import annotations

import threading
import weakref

from starlette.responses import Response

from datasov.city import City
from datasov.gateway.operation import OCTETS, Call, Operation, Reply
from datasov.tlog.bundle import Statement, pack
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, decode_leaf
from datasov.tlog.log import Log
from datasov.tlog.operators import SUBJECT
from datasov.tlog.receipt import Approval, Receipt

_PAGE = 64
_CACHED = {"cache-control": "public, max-age=60"}


class _Told:
    """What was read of one city's log so far, and the bundle of one tick: it is made once a tick, not once a call."""

    def __init__(self) -> None:
        self.making, self._reading = threading.Lock(), threading.Lock()
        self._read, self._leaves = 0, list[tuple[int, bytes]]()
        self.tick, self.bundle = -1, b""

    def leaves(self, log: Log, size: int) -> list[tuple[int, bytes]]:
        """The releases and notices among the first leaves of a log, by index."""
        with self._reading:
            while self._read < size:
                end = min(self._read + _PAGE, size)
                for index, data in enumerate(log.leaves(self._read, end), self._read):
                    if isinstance(decode_leaf(data), NoticeLeaf | ReleaseLeaf):
                        self._leaves.append((index, data))
                self._read = end
            return [(index, data) for index, data in self._leaves if index < size]


_TOLD: weakref.WeakKeyDictionary[City, _Told] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def operations() -> list[Operation]:
    """What everybody can ask of receipts."""
    return [
        Operation(
            "GET", "/v1/receipts", _receipts, "getReceipts", "Receipts of every release, to be verified offline",
            "receipts", None, [Reply(200, "what `datasov receipts verify FILE --city ID` reads", {OCTETS: {}})],
            "Each process makes the same bytes for everybody, once a tick. That nothing else concerned a resident, "
            "only the whole log shows: /log/export, or `datasov receipts VAULT --log ADDRESS`.",
        ),
    ]  # fmt: skip


def _receipts(call: Call) -> Response:
    headers = {**_CACHED, "content-disposition": 'attachment; filename="receipts"'}
    return Response(bundle(call.shared.city, call.shared.clock()), media_type=OCTETS, headers=headers)


def public_leaves(city: City) -> list[bytes]:
    """The releases and notices in the log, in its order."""
    return [data for _, data in _told(city).leaves(city.log, city.log.size)]


def public_leaves_at(city: City, size: int) -> list[tuple[int, bytes]]:
    """The releases and notices among the first `size` leaves of the log, by index."""
    return _told(city).leaves(city.log, size)


def bundle(city: City, now: float) -> bytes:
    """The bundle of this tick; while another thread makes it, that of the tick before."""
    told, tick = _told(city), int(now) // city.periods.tick
    if told.tick == tick or not told.making.acquire(blocking=not told.bundle):
        return told.bundle
    try:
        if told.tick != tick:
            told.bundle, told.tick = _made(city, told), tick
        return told.bundle
    finally:
        told.making.release()


def _told(city: City) -> _Told:
    with _GUARD:
        return _TOLD.setdefault(city, _Told())


def _made(city: City, told: _Told) -> bytes:
    checkpoint, log = city.checkpoint(), city.log
    size, approvals = checkpoint.size, dict[bytes, Approval]()
    statements, receipts = list[Statement](), list[Receipt]()
    for index, data in told.leaves(log, size):
        leaf, proof = decode_leaf(data), tuple(log.inclusion(index, size))
        if isinstance(leaf, ReleaseLeaf):
            approval = approvals.get(leaf.programme) if leaf.programme else None
            receipts.append(Receipt(data, index, proof, size, log.public, log.origin, approval))
        elif isinstance(leaf, NoticeLeaf):
            approvals.setdefault(leaf.identity, Approval(data, index, proof))
            if leaf.subject == SUBJECT:
                grown = tuple(log.consistency(index, size)) if index else ()
                statements.append(Statement(index, data, proof, grown))
    return pack(checkpoint, statements, receipts)
