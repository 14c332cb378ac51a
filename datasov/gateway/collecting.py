"""Questions to devices: collections are opened, and listed with how they stand. docs/gateway.md"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from datasov.city.collections import Collection
from datasov.errors import InvalidQueryError
from datasov.gateway import formats
from datasov.gateway.answering import KEY, of_devices, on_ticks, once
from datasov.gateway.asking import ANALYST
from datasov.gateway.operation import ANYBODY, JSON, Call, Operation, Parameter, Reply
from datasov.gateway.problems import ProblemError
from datasov.gateway.question import loss_of, question_of
from datasov.gateway.schemas import ref
from datasov.model.query import Query

_TAG = "collections"


def operations() -> list[Operation]:
    """What analysts ask of collections."""
    identifier = Parameter(
        "id", "path", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "64 hexadecimal digits: the task's identity"
    )
    opened = {"Location": "of the collection"}
    return [
        Operation(
            "POST", "/v1/collections", _open, "createCollection", "Ask devices: open a collection", _TAG, ANALYST,
            [Reply(201, "the collection, new or opened before", {JSON: ref("Collection")}, opened)],
            "The loss is spent now. Residents' devices answer until the end; then POST /v1/releases with the same "
            "question, loss and purpose gives the answer. Asked again in the same data epoch it is the same "
            "collection, with the end that it was opened with. It leaves after 1, 2, 4, 8 ... ticks.",
            parameters=[KEY], body={JSON: ref("CollectionRequest")}, most=128 * 1024, problems=(404, 409, 422),
            pool="kernel",
        ),
        Operation(
            "GET", "/v1/collections", _list, "listCollections", "Collections, the newest first", _TAG, ANYBODY,
            [Reply(200, "a page", {JSON: ref("CollectionList")})],
            parameters=[
                Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "a page"),
                Parameter("before", "query", {"type": "integer", "minimum": 0, "maximum": 2**53}, "`next` of the last"),
            ],
        ),
        Operation(
            "GET", "/v1/collections/{id}", _get, "getCollection", "A collection by its task's identity", _TAG, ANYBODY,
            [Reply(200, "the collection", {JSON: ref("Collection")})], parameters=[identifier], problems=(404,),
        ),
    ]  # fmt: skip


async def _open(call: Call) -> Response:
    query = await call.shared.quick.run(lambda: _checked(call))
    with of_devices(call):
        found = await on_ticks(call, lambda: _opened(call, query))
    headers = {"location": f"/v1/collections/{found.task.id.hex()}", "cache-control": "no-store"}
    return JSONResponse(_shown(call, found), 201, headers=headers)


def _checked(call: Call) -> Query:
    """The question, before anything is spent: of a size that its answer can be sent in."""
    doc, shared = call.document, call.shared
    query = question_of(doc["question"], shared.tables)
    if shared.city.preview(query, loss=loss_of(doc["loss"])).cells > shared.limits.cells:
        raise InvalidQueryError(f"the answer would have more than {shared.limits.cells:,} rows: ask for fewer keys")
    return query


def _opened(call: Call, query: Query) -> Collection:
    """The collection; what is bound to an idempotency key is that it was opened, also where no aggregator knows yet."""
    doc, city, known = call.document, call.shared.city, call.shared.collections
    asked: dict[str, Any] = {
        "loss": loss_of(doc["loss"]), "purpose": doc["purpose"], "programme": doc.get("programme"),
    }  # fmt: skip
    zone = {"zone": doc["zone"]} if "zone" in doc else {}

    def ask(epoch: int | None) -> Collection:
        if epoch is not None:
            found = known.of(query, **asked, epoch=epoch)
        else:
            task = city.collect(query, **asked, until=doc["until"], every=doc.get("every", 0), announce=False, **zone)
            found = known.of_task(task)
        if found is None:
            raise InvalidQueryError("no collection of the question was opened in that epoch")
        return found

    found = once(call, ask, lambda c: c.task.id.hex(), known.find)
    if found.state == "open":
        city.announce(found.signed)
    return found


def _get(call: Call) -> Response:
    found = call.shared.collections.find(call.path["id"])
    if found is None:
        raise ProblemError("not-found", "there is no such collection: see /v1/collections")
    return JSONResponse(_shown(call, found), headers={"cache-control": "private, no-cache"})


def _list(call: Call) -> Response:
    items = call.shared.collections.newest(call.query.get("before"), call.query["limit"])
    more = len(items) == call.query["limit"] and items[-1].place > 0
    shown = {"collections": [_line(call, i) for i in items], "next": items[-1].place if more else None}
    return JSONResponse(shown, headers={"cache-control": "private, no-cache"})


def _shown(call: Call, found: Collection) -> dict[str, Any]:
    return {**_line(call, found), "question": found.task.query.document()}


def _line(call: Call, found: Collection) -> dict[str, Any]:
    task, shelf = found.task, call.shared.shelf
    kept = found.release and (shelf.kept(found.release) or shelf.find(found.release) is not None)
    return {
        "id": task.id.hex(), "state": found.state, "table": task.query.schema.name, "purpose": task.purpose,
        "programme": task.programme, "loss": formats.loss_shown(task.loss), "epoch": task.epoch,
        "opened": formats.instant(task.opened), "until": formats.instant(task.until), "trust": task.trust.text,
        "release": found.release if kept else None,
    }  # fmt: skip
