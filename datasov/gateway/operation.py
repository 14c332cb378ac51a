"""Operations: what the gateway can be asked, once; its routes and its OpenAPI document are both made from these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from datasov.gateway.shared import Shared

Role: TypeAlias = Literal["analyst", "operator", "auditor"]
Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]
JsonSchema: TypeAlias = Mapping[str, Any]
JSON, PROBLEM, OCTETS, TEXT, HTML = (
    "application/json", "application/problem+json", "application/octet-stream", "text/plain", "text/html",
)  # fmt: skip
ANYBODY: frozenset[Role] = frozenset(("analyst", "operator", "auditor"))
"""Every role; `roles=None` is for the public, without a token."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as their token says.

    Attributes:
        subject: of the issuer, unique there. roles: those of the gateway that the token grants.
    """

    subject: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was let in: authenticated, within its limits, and of the form that its operation declares.

    Attributes:
        caller: None where the operation is public.
        path: the path's parameters. query: those of the query and the headers, by their declared names, read as their
            schemas say; those left out are absent, or their default.
        body: as it came. document: of a JSON body what it says, valid under the operation's schema; else None.
    """

    shared: Shared
    request: Request
    caller: Caller | None
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: bytes = b""
    document: Any = None


Handler: TypeAlias = Callable[[Call], Response] | Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path (always required), the query or the headers, with a JSON Schema of a scalar."""

    name: str
    where: Literal["path", "query", "header"]
    schema: JsonSchema
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A response other than a problem.

    Attributes:
        content: media type to JSON Schema; an empty schema for what is no JSON; no media type at all for no body.
        headers: name to description.
    """

    status: int
    description: str
    content: Mapping[str, JsonSchema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path.

    Attributes:
        path: with parameters in braces, "/v1/releases/{id}".
        handler: an async function is awaited; another one runs in a bounded pool of threads, `pool`.
        name: the OpenAPI operationId, unique, in camelCase: "getRelease".
        roles: any of them may; None: everybody may, without a token.
        body: media type to JSON Schema (an empty one for what is no JSON); none where there is no body.
        most: bytes of a body.
        problems: statuses of the problems that it answers beside those that every operation has (400 where it takes
            anything, 401 and 403 where it has roles, 413 and 415 where it has a body, 406, 429, 500, 503).
        pool: "kernel" for what computes over the pooled rows, "quick" for all else.
    """

    method: Method
    path: str
    handler: Handler
    name: str
    summary: str
    tag: str
    roles: frozenset[Role] | None
    replies: Sequence[Reply]
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: Mapping[str, JsonSchema] = field(default_factory=dict)
    body_required: bool = True
    most: int = 64 * 1024
    problems: Sequence[int] = ()
    pool: Literal["quick", "kernel"] = "quick"
