"""Problem details (RFC 9457): every refusal of the gateway has one form, and names the next step."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from starlette.responses import JSONResponse

from datasov.errors import (
    BudgetExceededError,
    CollectionError,
    ConsentError,
    DatasovError,
    DeniedError,
    InternalError,
    InvalidDataError,
    InvalidQueryError,
    PeerError,
    ProgrammeError,
    StoreError,
    VerificationError,
    WitnessError,
)

PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of problem: the last part of its URI `/problems/NAME`, where the gateway tells what it means."""

    name: str
    status: int
    title: str
    meaning: str


_KINDS = (
    Kind("invalid-question", 400, "The question cannot be asked as written", "The detail says what to write instead."),
    Kind("invalid-request", 400, "The request is not of the form that the operation takes",
         "See the operation in /openapi.json; the detail names the place."),
    Kind("not-verified", 400, "The bytes are not what they claim to be",
         "A signature, a token or a proof does not verify, or a message does not open: make it anew."),
    Kind("unauthorized", 401, "A bearer token is missing or not valid",
         "Send `Authorization: Bearer TOKEN` with a token of the issuer that is not over."),
    Kind("forbidden", 403, "The token's roles do not allow this", "Ask the operator for the role that it names."),
    Kind("denied", 403, "The city refuses", "The city's own rules do not allow it, whoever asks."),
    Kind("consent-refused", 403, "The consent or its purpose is not acceptable",
         "See /v1/catalogue for the purposes that the city declares."),
    Kind("programme-refused", 403, "No approved programme covers the question",
         "See /v1/programmes for those under which questions may be asked."),
    Kind("not-found", 404, "There is nothing here", "Check the path, or list what there is."),
    Kind("method-not-allowed", 405, "The path has no such method", "See the header Allow."),
    Kind("not-acceptable", 406, "The answer has none of the media types asked for", "The detail lists those it has."),
    Kind("request-timeout", 408, "The request did not arrive in time", "Send it again, at once and whole."),
    Kind("conflict", 409, "The same request is being answered", "Send it again after the time in Retry-After."),
    Kind("collection-open", 409, "Devices may still answer", "Ask again after the collection's end: /v1/collections."),
    Kind("not-collected", 409, "Devices were not asked this",
         "Open a collection with POST /v1/collections, and ask for its release after its end."),
    Kind("too-large", 413, "The body is too large", "The detail names the limit."),
    Kind("unsupported-media-type", 415, "The body has another media type", "The detail lists those taken."),
    Kind("idempotency-key-reused", 422, "The Idempotency-Key came with another request before",
         "Draw a new key for each new request, and send the same body with the same key."),
    Kind("invalid-data", 422, "Rows do not fit their schema", "The detail names the row and the column."),
    Kind("budget-exceeded", 429, "The city's budget does not cover the loss",
         "See /v1/budget for what is left; ask with a smaller loss, or in the next period."),
    Kind("too-many-requests", 429, "Too many requests", "Wait for the time in Retry-After."),
    Kind("headers-too-large", 431, "The headers are too large", "Send fewer or shorter ones."),
    Kind("internal", 500, "A fault of the gateway", "Report it with the time at which it happened."),
    Kind("unavailable", 503, "The city cannot answer now", "Try again later; the operator sees why."),
)  # fmt: skip
KINDS: Mapping[str, Kind] = {k.name: k for k in _KINDS}


class ProblemError(Exception):
    """What a handler raises to answer with a problem of its own; errors of datasov become problems by themselves."""

    def __init__(self, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.kind, self.detail, self.headers = KINDS[name], detail, dict(headers or {})
        super().__init__(detail)

    @property
    def status(self) -> int:
        return self.kind.status


_OF: tuple[tuple[type[DatasovError], str], ...] = (
    (BudgetExceededError, "budget-exceeded"),
    (ProgrammeError, "programme-refused"),
    (ConsentError, "consent-refused"),
    (DeniedError, "denied"),
    (CollectionError, "not-collected"),
    (InvalidQueryError, "invalid-question"),
    (InvalidDataError, "invalid-data"),
    (VerificationError, "not-verified"),
)


def problem_of(fault: BaseException) -> ProblemError:
    """The problem that an error is: of what is no refusal nothing is told but that it happened."""
    if isinstance(fault, ProblemError):
        return fault
    if isinstance(fault, StoreError | PeerError):
        return ProblemError("unavailable", "the city's store or a peer cannot be used now: try again later")
    if isinstance(fault, InternalError) or not isinstance(fault, DatasovError):
        return ProblemError("internal", "the gateway could not answer: report it with the time of this response")
    if isinstance(fault, WitnessError) and fault.status in (404, 409, 422):
        return ProblemError({404: "not-found", 409: "conflict", 422: "invalid-data"}[fault.status], str(fault))
    name = next((name for kind, name in _OF if isinstance(fault, kind)), "denied")
    return ProblemError(name, str(fault))


def trace(fault: BaseException) -> str:
    """Where a fault arose, file and line alone: its message may hold what was asked, or worse."""
    frames = traceback.extract_tb(fault.__traceback__)[-8:]
    return " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))


def response(problem: ProblemError) -> JSONResponse:
    """The problem as application/problem+json; it is never stored by a cache."""
    kind = problem.kind
    detail = problem.detail.encode("utf-8", "replace").decode()
    body = {"type": f"/problems/{kind.name}", "title": kind.title, "status": kind.status, "detail": detail}
    return JSONResponse(body, kind.status, media_type=PROBLEM, headers={"cache-control": "no-store", **problem.headers})


SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [f"/problems/{k.name}" for k in _KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
    },
}
"""The JSON Schema of a problem."""
