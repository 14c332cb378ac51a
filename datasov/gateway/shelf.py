"""Stored answers and the catalogue, as they are read again and again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from datasov.errors import InvalidQueryError
from datasov.gateway.operation import Call
from datasov.gateway.problems import ProblemError
from datasov.gateway.rendered import Rendered
from datasov.model.schema import DOMAINS

_CHECKED_FOR, _KEPT_FOR = 5.0, 300
"""Seconds for which it is known that an answer is retained still, and for which a client may keep one."""


async def found(call: Call, media: str) -> Response:
    """A stored answer by the `id` in the path, in the form asked for; ProblemError (404) where there is none."""
    shared, query, identifier = call.shared, call.query, call.path["id"]
    name = (identifier, media, query["confidence"], query["part"], query.get("last"))
    now = shared.clock()
    known = shared.cache.get(name)
    if known is not None and (not known[0].programme or now < known[1] + _CHECKED_FOR):
        return _sent(call, known[0])

    def look() -> Rendered | None:
        if known is not None and shared.shelf.kept(identifier):
            return known[0]
        answer = shared.shelf.find(identifier)
        return None if answer is None else Rendered.of(answer, media, *name[2:])

    rendered = await shared.quick.run(look)
    if rendered is None:
        shared.cache.drop(name)
        raise ProblemError("not-found", "no release has this identifier, or its days of retention are over")
    if rendered.lasting:
        shared.cache.put(name, rendered, now)
    return _sent(call, rendered)


def _sent(call: Call, rendered: Rendered) -> Response:
    kept = f"private, max-age={_KEPT_FOR}" if rendered.lasting else "private, no-cache"
    return rendered.response({"cache-control": kept}, call.request.headers.get("if-none-match"))


def wanted(call: Call, made: Mapping[str, Rendered]) -> Response:
    """The catalogue, of one domain where the query names it."""
    domain = call.query.get("domain", "")
    if domain not in made:
        raise InvalidQueryError(f"domain is one of {', '.join(DOMAINS)}")
    return made[domain].response({"cache-control": "private, max-age=60"}, call.request.headers.get("if-none-match"))
