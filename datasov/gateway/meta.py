"""What the gateway says of itself: its OpenAPI document, schemas, problems, and that it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from datasov.gateway.operation import JSON, Call, Operation, Parameter, Reply
from datasov.gateway.problems import KINDS, ProblemError
from datasov.gateway.rendered import Rendered
from datasov.gateway.schemas import COMPONENTS, ref, standalone

_PUBLIC = {"cache-control": "public, max-age=300"}
_OBJECT = {"type": "object"}
SCHEMA_JSON = "application/schema+json"


def operations(described: Mapping[str, Any]) -> list[Operation]:
    """The operations; `described` is the OpenAPI document, which is filled after these are in it."""

    async def openapi(call: Call) -> Response:
        made = Rendered.made(json.dumps(described).encode(), JSON)
        return made.response(_PUBLIC, call.request.headers.get("if-none-match"))

    async def health(_: Call) -> Response:
        return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})

    async def schema(call: Call) -> Response:
        name = call.path["name"]
        if name not in COMPONENTS:
            raise ProblemError("not-found", f"there is no schema of that name: there are {', '.join(COMPONENTS)}")
        return JSONResponse(standalone(name), media_type=SCHEMA_JSON, headers=_PUBLIC)

    async def problem(call: Call) -> Response:
        kind = KINDS.get(call.path["name"])
        if kind is None:
            raise ProblemError("not-found", f"there is no problem of that name: there are {', '.join(KINDS)}")
        shown = {"type": f"/problems/{kind.name}", "status": kind.status, "title": kind.title, "meaning": kind.meaning}
        return JSONResponse(shown, headers=_PUBLIC)

    name = Parameter("name", "path", {"type": "string", "pattern": "^[A-Za-z-]{1,64}$"}, "a name")
    return [
        Operation(
            "GET", "/openapi.json", openapi, "getOpenApi", "This document", "about", None,
            [Reply(200, "OpenAPI 3.1", {JSON: _OBJECT}), Reply(304, "as you have it")],
        ),
        Operation(
            "GET", "/healthz", health, "getHealth", "Whether the process answers", "about", None,
            [Reply(200, "it does", {JSON: ref("Health")})],
        ),
        Operation(
            "GET", "/schemas/{name}", schema, "getSchema", "A JSON Schema, such as Question", "about", None,
            [Reply(200, "JSON Schema 2020-12", {SCHEMA_JSON: _OBJECT})], parameters=[name],
        ),
        Operation(
            "GET", "/problems/{name}", problem, "getProblem", "What a problem means", "about", None,
            [Reply(200, "its status, title and meaning", {JSON: _OBJECT})], parameters=[name],
        ),
    ]  # fmt: skip
