"""The first page: the account, what is allowed now, what was asked last, what the vault holds."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov.home import plain, plots
from datasov.home.shared import Shared
from datasov.home.views import common
from datasov.home.views.questions import instant_of, lines
from datasov.model.schema import DOMAINS

LAST = 3


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""

    def show(request: Request) -> Response:
        resident, seen = shared.resident, shared.desk.seen()
        language, now = shared.speaks(request), time.time()
        granted, limit = resident.granted, resident.lifetime
        cards = [common.card(resident, c, seen) for c in reversed(resident.consents)]
        rows, tables = plots.counts(resident), resident.tables()
        held = {d: sum(rows[n] for n, s in tables.items() if s.domain == d) for d in DOMAINS}
        asked = sorted((r for s in seen for r in lines(resident, s, language)), key=lambda r: -r.time)
        return shared.page(
            request, "overview", granted=granted, limit=limit, right_now=plain.right(granted),
            right_limit=None if limit is None else plain.right(limit), share=plain.share(granted, limit),
            cards=[c for c in cards if not c.over], asked=asked[:LAST], held=held, seen=seen,
            emergencies=[(s.city, n) for s in seen for n in s.emergencies if instant_of(n.document) > now],
            until=instant_of, next_year=common.next_year, outbox=shared.desk.outbox,
        )  # fmt: skip

    def lock(*_: object) -> str:
        shared.desk.lock()
        return "/"

    return [shared.get("/", show), shared.post("/lock", lock, back="/", locked=True)]
