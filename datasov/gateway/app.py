"""The application: operations in, an ASGI application out. Each request passes the same steps, in one order.

Rates of all; the token; roles; the client's rate; parameters; the body; the handler. Every refusal is a problem.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import datasov
from datasov.city import City
from datasov.gateway import asking, collecting, meta, openapi, problems, public, reading, schedule
from datasov.gateway.auth import Verifier, unauthorized
from datasov.gateway.front import Front
from datasov.gateway.limits import Buckets, Room, network
from datasov.gateway.operation import Call, Caller, Operation
from datasov.gateway.problems import ProblemError
from datasov.gateway.schemas import COMPONENTS
from datasov.gateway.shared import Limits, Shared
from datasov.model.schema import Schema

log = logging.getLogger("datasov.gateway")
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)  # fmt: skip


def app(
    city: City,
    *,
    verifier: Verifier,
    tables: Mapping[str, Schema],
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
    more: Sequence[Operation] = (),
    close: Callable[[], None] | None = None,
) -> Starlette:
    """The gateway of an open city.

    Args:
        verifier: of bearer tokens: :mod:`datasov.gateway.auth`.
        tables: by name, those that may be asked about.
        clock: Unix seconds, for what is cached. more: operations beside its own.
        close: called when the application ends.
    """
    shared = Shared(city, tables, limits or Limits(), clock)
    described: dict[str, Any] = {}
    operations = [
        *meta.operations(described),
        *asking.operations(),
        *collecting.operations(),
        *public.operations(),
        *more,
    ]
    described |= openapi.document(operations, datasov.__version__, {})
    gate = Gate(shared, verifier)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        publishing = asyncio.create_task(schedule.follow(shared))
        yield
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
        await asyncio.to_thread(shared.close)
        if close is not None:
            close()

    endpoints = [(o, gate.endpoint(o)) for o in operations]
    made = Front(
        endpoints,
        routes=[Route(o.path, endpoint, methods=[o.method], name=o.name) for o, endpoint in endpoints],
        exception_handlers={404: _nothing, 405: _no_method, Exception: _fault},
        lifespan=lifespan,
    )
    made.router.redirect_slashes = False
    made.state.shared, made.state.operations, made.state.openapi = shared, operations, described
    made.state.gate = gate
    return made


class Gate:
    """What stands before every handler."""

    def __init__(self, shared: Shared, verifier: Verifier) -> None:
        limits = shared.limits
        self._shared, self._verifier = shared, verifier
        self._all = Buckets(limits.all_rate, limits.all_burst)
        self._each = Buckets(limits.client_rate, limits.client_burst, limits.clients)
        self._failed = Buckets(limits.client_rate, limits.client_burst, limits.clients)
        self.room = Room(limits.bodies, limits.bodies_each)

    def endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        """The route of an operation."""
        form = reading.Form.of(operation, COMPONENTS)
        awaited = inspect.iscoroutinefunction(operation.handler)

        async def answer(request: Request) -> Response:
            began, caller = time.monotonic(), None
            try:
                self._all.take()
                caller = await self._caller(operation, request)
                path, query = reading.parameters(form, request)
                with self.room.held(_address(request)) if operation.body else nullcontext(int) as take:
                    data, document = await reading.body(form, request, self._shared.limits.body_seconds, take)
                    call = Call(self._shared, request, caller, path, query, data, document)
                    response: Any
                    if awaited:
                        response = await operation.handler(call)  # type: ignore[misc]
                    else:
                        pool = self._shared.kernel if operation.pool == "kernel" else self._shared.quick
                        response = await pool.run(lambda: operation.handler(call))
            except asyncio.CancelledError:
                raise
            except BaseException as fault:  # a panic in Rust is no Exception; its message is not for the log either
                if isinstance(fault, KeyboardInterrupt | SystemExit):
                    raise
                response = problems.response(_told(fault, operation))
            named = {name for name, _ in response.raw_headers}
            response.raw_headers.extend(pair for pair in _ALWAYS if pair[0] not in named)
            _accessed(operation, response, caller, time.monotonic() - began)
            return response  # type: ignore[no-any-return]

        return answer

    async def _caller(self, operation: Operation, request: Request) -> Caller | None:
        address = _address(request)
        if operation.roles is None:
            self._each.take("address " + address)
            return None
        self._failed.check(address)
        try:
            sent = [value for name, value in request.scope["headers"] if name == b"authorization"]
            scheme, _, token = sent[0].decode("latin-1").partition(" ") if len(sent) == 1 else ("", "", "")
            if scheme.lower() != "bearer" or not token.strip():
                raise unauthorized("a token is missing: send `Authorization: Bearer TOKEN`")
            caller = await self._verifier(token.strip())
        except ProblemError:
            self._failed.take(address)
            raise
        self._each.take("subject " + caller.subject)
        if not caller.roles & operation.roles:
            named = " or ".join(sorted(operation.roles))
            raise ProblemError("forbidden", f"this takes the role {named}: ask the operator for it")
        return caller


def _address(request: Request) -> str:
    return network(request.client.host) if request.client else ""


def _told(fault: BaseException, operation: Operation) -> ProblemError:
    found = problems.problem_of(fault)
    if found.status >= 500:
        log.error("%s of %s: %s", type(fault).__name__, operation.name, problems.trace(fault))
    return found


def _accessed(operation: Operation, response: Response, caller: Caller | None, seconds: float) -> None:
    """One line a request, with the operation and no more of what was asked: no path, query, token, body or address."""
    if log.isEnabledFor(logging.INFO):
        line = {
            "operation": operation.name, "status": response.status_code, "ms": round(seconds * 1000, 1),
            "subject": None if caller is None else caller.subject,
        }  # fmt: skip
        log.info("%s", json.dumps(line, ensure_ascii=True))


async def _nothing(_: Request, __: Exception) -> Response:
    return problems.response(ProblemError("not-found", "there is nothing at this path: see /openapi.json"))


async def _no_method(request: Request, _: Exception) -> Response:
    routes = (r for r in request.app.routes if isinstance(r, Route) and r.path_regex.match(request.scope["path"]))
    allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return problems.response(
        ProblemError("method-not-allowed", "the path has other methods: see Allow", {"allow": allowed})
    )


async def _fault(_: Request, fault: Exception) -> Response:
    return problems.response(problems.problem_of(fault))
