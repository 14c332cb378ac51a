"""The OpenAPI 3.1 document, from the operations alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datasov.gateway.operation import Operation
from datasov.gateway.problems import PROBLEM
from datasov.gateway.schemas import COMPONENTS, DIALECT, ref

_STATUSES = {
    400: "the request or the question is not as it should be", 401: "no valid token", 403: "not allowed",
    404: "there is nothing", 406: "no such form", 408: "it did not arrive in time",
    409: "the same is under way, or another one was first", 413: "too large",
    415: "another media type", 422: "understood, and not acceptable", 429: "too much, or no budget is left",
    500: "a fault of the gateway", 503: "not now",
}  # fmt: skip


def statuses(operation: Operation) -> list[int]:
    """Of the problems that an operation may answer with."""
    found = {400, 406, 429, 500, 503, *operation.problems}
    if operation.roles is not None:
        found |= {401, 403}
    if operation.body:
        found |= {403, 408, 413, 415, 422}
    if any(p.where == "path" for p in operation.parameters) or "{" in operation.path:
        found.add(404)
    return sorted(found)


def document(operations: Sequence[Operation], version: str, components: Mapping[str, Any]) -> dict[str, Any]:
    """The document. `components` are schemas beside those of :data:`COMPONENTS`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "datasov gateway", "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Bounded questions about a city's residents, answered under differential privacy alone.",
        },
        "jsonSchemaDialect": DIALECT,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(o.tag for o in operations)],
        "paths": paths,
        "components": {
            "schemas": {**COMPONENTS, **components},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }  # fmt: skip


def _operation(operation: Operation) -> dict[str, Any]:
    roles = sorted(operation.roles or ())
    found: dict[str, Any] = {
        "operationId": operation.name, "summary": operation.summary, "tags": [operation.tag],
        "description": " ".join([operation.description, *([f"Roles: {', '.join(roles)}."] if roles else [])]).strip(),
        "security": [{"token": []}] if roles else [],
        "parameters": [
            {
                "name": p.name, "in": p.where, "required": p.required or p.where == "path", "schema": dict(p.schema),
                "description": p.description,
            }
            for p in operation.parameters
        ],
        "responses": {
            **{str(r.status): _reply(r.description, r.content, r.headers) for r in operation.replies},
            **{str(s): _reply(_STATUSES[s], {PROBLEM: ref("Problem")}, {}) for s in statuses(operation)},
        },
    }  # fmt: skip
    if operation.body:
        found["requestBody"] = {
            "required": operation.body_required,
            "content": {media: {"schema": dict(schema)} for media, schema in operation.body.items()},
        }
    return found


def _reply(description: str, content: Mapping[str, Mapping[str, Any]], headers: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description}
    if content:
        found["content"] = {media: {"schema": dict(schema)} for media, schema in content.items()}
    if headers:
        found["headers"] = {n: {"description": d, "schema": {"type": "string"}} for n, d in headers.items()}
    return found
