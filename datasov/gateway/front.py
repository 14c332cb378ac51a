"""The way in: an operation by its method and path from a table, before Starlette looks through all its routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from datasov.gateway.operation import Operation

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Front(Starlette):
    """Starlette with a shorter way to operations whose path has no parameter, or one that is all of its last segment.

    Everything else (other paths and methods, HEAD, a root path, the lifespan) goes Starlette's own way, and so these
    operations stand among its routes too. An endpoint answers for itself: it raises nothing.
    """

    def __init__(self, endpoints: Sequence[tuple[Operation, Endpoint]], **more: Any) -> None:
        super().__init__(**more)
        self._whole, self._last = _tables(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application's call."""
        found = None if scope["type"] != "http" or scope.get("root_path") else self._found(scope)
        if found is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"], (endpoint, scope["path_params"]) = self, found
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Endpoint, Mapping[str, str]] | None:
        method, path = scope["method"], scope["path"]
        whole = self._whole.get((method, path))
        if whole is not None:
            return whole, {}
        before, _, last = path.rpartition("/")
        named = self._last.get((method, before)) if last else None
        return None if named is None else (named[1], {named[0]: last})


def _tables(
    endpoints: Sequence[tuple[Operation, Endpoint]],
) -> tuple[dict[tuple[str, str], Endpoint], dict[tuple[str, str], tuple[str, Endpoint]]]:
    """Endpoints by method and whole path, and by method and what stands before a last segment that is a parameter."""
    whole: dict[tuple[str, str], Endpoint] = {}
    last: dict[tuple[str, str], tuple[str, Endpoint]] = {}
    for operation, endpoint in endpoints:
        before, _, segment = operation.path.rpartition("/")
        if "{" not in operation.path:
            whole.setdefault((operation.method, operation.path), endpoint)
        elif "{" not in before and segment[0] + segment[-1] == "{}" and ":" not in segment:
            last.setdefault((operation.method, before), (segment[1:-1], endpoint))
    return whole, last
