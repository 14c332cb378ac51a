"""The analysts' operations: catalogue, budget, previews, releases and series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from datasov.errors import InvalidQueryError
from datasov.gateway import formats
from datasov.gateway.answering import KEY, of_devices, on_ticks, once
from datasov.gateway.operation import ANYBODY, JSON, Call, Operation, Parameter, Reply, Role
from datasov.gateway.question import loss_of, question_of, series_of
from datasov.gateway.rendered import Rendered
from datasov.gateway.schemas import ref
from datasov.gateway.shelf import found, wanted
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.model.series import Series, SeriesRelease

ANALYST: frozenset[Role] = frozenset(("analyst",))
_PREVIEWERS: frozenset[Role] = frozenset(("analyst", "operator"))
_OCTETS: Mapping[str, Any] = {}
_SHOWN = {
    JSON: ref("Release"), formats.CSV: {"type": "string"}, formats.PARQUET: _OCTETS, formats.ARROW: _OCTETS,
}  # fmt: skip
_ANSWER_HEADERS = {
    "Location": "of the release", "Datasov-Release": "its identifier", "Datasov-Digest": "SHA-256 in the log's leaf",
    "Datasov-Confidence": "of the intervals", "Datasov-Loss": "what it cost",
}  # fmt: skip
CONFIDENCE = Parameter(
    "confidence", "query", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.95},
    "with which each interval covers the exact bounded statistic",
)  # fmt: skip
PART = Parameter(
    "part", "query", {"enum": ["rows", "overall"], "default": "rows"},
    "of CSV, Parquet and Arrow: the keys' rows, or what was asked about the whole question",
)  # fmt: skip
LAST = Parameter(
    "last", "query", {"type": "integer", "minimum": 1, "maximum": 16_384},
    "of a series: totals of the last so many steps, instead of from the first step on",
)  # fmt: skip


def _preview(call: Call) -> Response:
    doc, city = call.document, call.shared.city
    asked = _asked(call)
    shown = city.preview(asked, loss=loss_of(doc["loss"]), confidence=float(doc.get("confidence", 0.95)))
    return JSONResponse({
        "loss": formats.loss_shown(shown.loss), "confidence": shown.confidence, "cells": shown.cells,
        "statistics": formats.plain(shown.frame), "notes": list(shown.notes),
        "energy": shown.energy.document(),
    })  # fmt: skip


def _asked(call: Call) -> Query | Series:
    doc, tables = call.document, call.shared.tables
    return series_of(doc["series"], tables) if "series" in doc else question_of(doc["question"], tables)


def _checked(call: Call) -> tuple[Query | Series, Loss]:
    """The question and its loss, before anything is spent: of a size that an answer can be sent in."""
    asked, loss = _asked(call), loss_of(call.document["loss"])
    cells = call.shared.city.preview(asked, loss=loss).cells
    most = call.shared.limits.cells
    if cells * (asked.steps if isinstance(asked, Series) else 1) > most:
        raise InvalidQueryError(f"the answer would have more than {most:,} rows: ask for fewer keys, or fewer steps")
    return asked, loss


async def _release(call: Call) -> Response:
    media = formats.negotiated(call.request.headers.get("accept"), formats.MEDIA)
    asked, loss = await call.shared.quick.run(lambda: _checked(call))

    def ask(as_of: int | None) -> Release | SeriesRelease:
        doc, city = call.document, call.shared.city
        if isinstance(asked, Series):
            return city.follow(asked, loss=loss, purpose=doc["purpose"], programme=doc.get("programme"))
        return city.release(
            asked, loss=loss, purpose=doc["purpose"], as_of=doc.get("as_of", as_of), programme=doc.get("programme")
        )  # fmt: skip

    with of_devices(call):
        answer = await on_ticks(call, lambda: once(call, ask, lambda a: a.identifier.hex(), call.shared.shelf.find))
    return await _shown(call, answer, media)


async def _shown(call: Call, answer: Release | SeriesRelease, media: str) -> Response:
    confidence, part, last = call.query["confidence"], call.query["part"], call.query.get("last")

    def render() -> Rendered:
        return Rendered.of(answer, media, confidence, part, last)

    rendered = await call.shared.quick.run(render)
    place = f"/v1/releases/{answer.identifier.hex()}"
    return rendered.response({"location": place, "cache-control": "no-store"})


async def _get(call: Call) -> Response:
    media = formats.negotiated(call.request.headers.get("accept"), formats.MEDIA)
    return await found(call, media)


def _list(call: Call) -> Response:
    items = call.shared.shelf.newest(call.query.get("before"), call.query["limit"])
    shown = [
        {
            "id": i.identifier, "kind": i.kind, "table": i.table, "purpose": i.purpose, "programme": i.programme,
            "loss": formats.loss_shown(Loss.from_document(i.loss)), "epoch": i.epoch, "time": formats.instant(i.time),
        }
        for i in items
    ]  # fmt: skip
    more = len(items) == call.query["limit"] and items[-1].place > 0
    return JSONResponse({"releases": shown, "next": items[-1].place if more else None})


def _budget(call: Call) -> Response:
    city = call.shared.city
    under = [
        {
            "id": a.identity.hex(), "name": a.programme.name, "purpose": a.programme.purpose,
            "remaining": formats.loss_shown(city.remaining_under(a.identity)),
        }
        for a in city.programmes
    ]  # fmt: skip
    return JSONResponse({
        "budget": formats.loss_shown(city.budget), "remaining": formats.loss_shown(city.remaining),
        "allowance": formats.loss_shown(city.allowance), "epoch": city.epoch, "programmes": under,
    })  # fmt: skip


def _catalogue(call: Call) -> Response:
    return wanted(call, call.shared.catalogue)


def operations() -> list[Operation]:
    """The analysts' half."""
    answer = Reply(200, "the answer, new or stored", _SHOWN, _ANSWER_HEADERS)
    cached = {"ETag": "of this form of the release", "Cache-Control": "how long it may be kept"}
    return [
        Operation(
            "GET", "/v1/catalogue", _catalogue, "getCatalogue", "Tables, purposes and trust", "catalogue", ANYBODY,
            [Reply(200, "what may be asked about", {JSON: ref("Catalogue")}, cached), Reply(304, "as you have it")],
            parameters=[Parameter("domain", "query", {"type": "string", "maxLength": 32}, "tables of one domain only")],
        ),
        Operation(
            "GET", "/v1/budget", _budget, "getBudget", "What is left of the budget, exactly", "budget", ANYBODY,
            [Reply(200, "the budget", {JSON: ref("Budget")})],
        ),
        Operation(
            "POST", "/v1/previews", _preview, "createPreview", "The error to expect, before anything is spent",
            "questions", _PREVIEWERS, [Reply(200, "the preview", {JSON: ref("Preview")})],
            body={JSON: ref("PreviewRequest")}, most=128 * 1024,
            description="It touches no data. The margins are in the columns' units.",
        ),
        Operation(
            "POST", "/v1/releases", _release, "createRelease", "Ask, or get the stored answer", "questions", ANALYST,
            [answer], parameters=[KEY, CONFIDENCE, PART], body={JSON: ref("ReleaseRequest")}, most=128 * 1024,
            problems=(404, 409, 422), pool="kernel",
            description="The same question with the same loss and purpose has one answer in a data epoch, and is paid "
            "once. Answers and refusals leave after 1, 2, 4, 8 ... ticks.",
        ),
        Operation(
            "POST", "/v1/series", _release, "createSeries", "Open a series, or continue it", "questions", ANALYST,
            [answer], parameters=[KEY, CONFIDENCE, PART, LAST], body={JSON: ref("SeriesRequest")}, most=128 * 1024,
            problems=(404, 409, 422), pool="kernel",
            description="The whole horizon is paid when it is opened. Send it again for the steps that are over since.",
        ),
        Operation(
            "GET", "/v1/releases", _list, "listReleases", "Answers, the newest first", "releases", ANYBODY,
            [Reply(200, "a page", {JSON: ref("ReleaseList")})],
            parameters=[
                Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "a page"),
                Parameter("before", "query", {"type": "integer", "minimum": 0, "maximum": 2**53}, "`next` of the last"),
            ],
        ),
        Operation(
            "GET", "/v1/releases/{id}", _get, "getRelease", "An answer by its identifier", "releases", ANYBODY,
            [Reply(200, "the answer", _SHOWN, {**_ANSWER_HEADERS, **cached}), Reply(304, "as you have it")],
            parameters=[
                Parameter("id", "path", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "32 hexadecimal digits"),
                CONFIDENCE, PART, LAST,
            ],
            problems=(404,),
        ),
    ]  # fmt: skip
