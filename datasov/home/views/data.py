"""My data: the ten domains, and the tables of each with charts."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov.home import plots
from datasov.home.shared import NotFoundError, Shared
from datasov.model.schema import DOMAINS


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""

    def every(request: Request) -> Response:
        rows, tables = plots.counts(shared.resident), shared.resident.tables()
        held = {d: [(s, rows[n]) for n, s in sorted(tables.items()) if s.domain == d] for d in DOMAINS}
        return shared.page(request, "data", held=held)

    def one(request: Request) -> Response:
        name = request.path_params["domain"]
        if name not in DOMAINS:
            raise NotFoundError(name)
        language, resident = shared.speaks(request), shared.resident
        mine = [s for _, s in sorted(resident.tables().items()) if s.domain == name]
        return shared.page(request, "domain", place=name, tables=[plots.drawn(resident, s, language) for s in mine])

    return [shared.get("/data", every), shared.get("/data/{domain}", one)]
