"""What residents' devices ask and send: the open tasks with their place in the log, noised reports, and tokens.

All without a login, and the same for everybody. A report tells nothing of who sent it, and its answer nothing of what
is in it: docs/gateway-public.md
"""

from __future__ import annotations

import threading
import weakref

from starlette.responses import JSONResponse, Response

from datasov.city import City
from datasov.gateway.operation import JSON, OCTETS, Call, Operation, Reply
from datasov.gateway.receipts import public_leaves_at
from datasov.gateway.rendered import Rendered
from datasov.mpc import listed
from datasov.mpc.listed import Entry, Listed
from datasov.mpc.noised import MOST

_CACHED = {"cache-control": "public, max-age=60"}
_TAG = "residents"
_RECEIVED = {"type": "object", "required": ["received"], "properties": {"received": {"const": True}}}


def operations() -> list[Operation]:
    """What devices can ask and send."""
    cached = {"ETag": "of these bytes", "Cache-Control": "how long they may be kept"}
    return [
        Operation(
            "GET", "/v1/tasks", _tasks, "listTasks", "The open tasks, as signed, with their place in the log", _TAG,
            None, [Reply(200, "what `resident.tasks` checks", {OCTETS: {}}, cached), Reply(304, "as you have it")],
            "The same bytes for everybody, as docs/spec/two-server.md says. A device compares each task with the log "
            "that it saw before it answers.",
        ),
        Operation(
            "POST", "/v1/reports", _report, "postReport", "Send a report that a device noised itself", _TAG, None,
            [Reply(202, "it was received; the answer is the same for every report of an open task", {JSON: _RECEIVED})],
            "What `resident.answer` gave under local trust. It is on the disk, unless another one of the vault or the "
            "person was there before, or the task has as many as a city keeps: nobody is told. Sending it again does "
            "no harm. Reports to two servers go to the address of the task's leader. Answers leave at ticks.",
            body={OCTETS: {}}, most=MOST, problems=[422],
        ),
        Operation(
            "POST", "/v1/tokens", _tokens, "postTokenRequests", "Get a blind enrolment token for an open task", _TAG,
            None, [Reply(200, "for each request an answer, or a text that says why there is none", {OCTETS: {}})],
            "Of a city that issues enrolment tokens itself: docs/spec/enrolment.md. A device asks alone, and asks for "
            "every task; a relay may bring up to 64 requests. When a token comes back nobody can tell whose it is.",
            body={OCTETS: {}}, most=64 * 1024, problems=[422],
        ),
    ]  # fmt: skip


class _Made:
    """The list that was made last of one city."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state: tuple[bytes, tuple[bytes, ...]] = b"", ()
        self.rendered: Rendered | None = None


_MADE: weakref.WeakKeyDictionary[City, _Made] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def _tasks(call: Call) -> Response:
    found = made(call.shared.city)
    return found.response(_CACHED, call.request.headers.get("if-none-match"))


def made(city: City) -> Rendered:
    """The list of the open tasks under the present checkpoint: made once for all who ask."""
    with _GUARD:
        kept = _MADE.setdefault(city, _Made())
    with kept.lock:
        tasks, checkpoint = city.tasks(), city.checkpoint()
        state = checkpoint.note, tuple(tasks)
        if kept.rendered is None or kept.state != state:
            places = listed.indices(public_leaves_at(city, checkpoint.size), tasks)
            entries = (
                Entry(task, places[task], tuple(city.log.inclusion(places[task], checkpoint.size)))
                for task in tasks if task in places
            )  # fmt: skip
            found = Listed(checkpoint.note, tuple(entries))
            kept.state, kept.rendered = state, Rendered.made(found.to_bytes(), OCTETS)
        return kept.rendered


async def _report(call: Call) -> Response:
    await call.shared.intake.put(call.body)
    return JSONResponse({"received": True}, 202, headers={"cache-control": "no-store"})


def _tokens(call: Call) -> Response:
    return Response(call.shared.city.tokens(call.body), media_type=OCTETS, headers={"cache-control": "no-store"})
