"""Who asked what and why, with receipts verified here; the account for life; what council and assembly signed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov import receipts
from datasov.errors import DatasovError
from datasov.home import describe, plain
from datasov.home.seen import Seen
from datasov.home.shared import Form, NotFoundError, SaidError, Shared
from datasov.home.views import common
from datasov.model import charter
from datasov.model.consent import CityId
from datasov.model.privacy import Loss, zcdp
from datasov.model.purposes import Purpose
from datasov.resident import Resident
from datasov.tlog.receipt import Receipt

LIMITS = ("0.05", "0.1", "0.2", "0.5", "1")


@dataclass(frozen=True, slots=True)
class Line:
    """One question as it is shown; `fault` says why it is not verified."""

    city: str
    time: int
    purpose: Purpose
    words: str
    tables: tuple[str, ...]
    loss: Loss
    right: int
    approved: str
    programme: str
    index: int
    size: int
    raw: str
    fault: str


def lines(resident: Resident, seen: Seen, language: str) -> list[Line]:
    """The receipts of one log, newest first."""
    names = {c.claims.purpose: common.called(resident, c) for c in (*resident.revoked, *resident.consents)}
    return [_line(s.receipt, s.fault, seen, names, language) for s in seen.receipts]


def _line(receipt: Receipt, fault: str, seen: Seen, names: Mapping[str, Purpose], language: str) -> Line:
    release = receipt.release
    subject = receipt.approval.notice.subject if receipt.approval else ""
    raw = json.dumps(json.loads(receipt.question), indent=2, ensure_ascii=False)
    return Line(
        seen.city, receipt.time, names.get(receipt.purpose, Purpose(receipt.purpose)),
        describe.question(receipt.question, language), tuple(describe.table(n, language) for n, _, _ in release.tables),
        receipt.loss, plain.right(receipt.loss), subject, release.programme.hex()[:16], receipt.index, receipt.size,
        raw, fault,
    )  # fmt: skip


def together(seen: Sequence[Seen]) -> Loss | None:
    """What all verified receipts add up to, in zCDP; None where there are none."""
    found = [loss.concentrated for s in seen for loss in receipts.totals(s.verified()).values()]
    return sum(found, Loss(0)) if found else None


def instant_of(document: Mapping[str, object]) -> float:
    """When a charter or a programme expires, in Unix seconds."""
    return charter.instant(document["expires"], "expires")


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""

    def show(request: Request) -> Response:
        resident, seen = shared.resident, shared.desk.seen()
        language = shared.speaks(request)
        granted, limit = resident.granted, resident.lifetime
        choices = [(text, plain.right(zcdp(rho=text))) for text in LIMITS if granted <= zcdp(rho=text)]
        return shared.page(
            request, "questions", seen=[(s, lines(resident, s, language)) for s in seen], together=together(seen),
            granted=granted, limit=limit, share=plain.share(granted, limit), choices=choices, until=instant_of,
            called=lambda c: common.called(resident, c), has_consent=bool(resident.consents or resident.revoked),
        )  # fmt: skip

    def again(*_: object) -> str:
        shared.desk.seen(anew=True)
        return "/questions"

    def save(_: Form, request: Request) -> Response:
        place = request.path_params["place"]
        if not place.isascii() or not place.isdigit() or len(place) > 4 or int(place) >= len(shared.desk.sources):
            raise NotFoundError("no such log")
        resident = shared.resident
        held = [CityId.parse(c.claims.audience) for c in (*resident.consents, *resident.revoked)]
        with shared.desk.sources[int(place)].open(list(dict.fromkeys(held))) as log:
            data = resident.bundle(log)
        named = {"content-disposition": 'attachment; filename="receipts.datasov"'}
        return Response(data, media_type="application/octet-stream", headers=named)

    def limit(form: Form, request: Request) -> str:
        try:
            resident, loss = shared.resident, zcdp(rho=form.one("rho"))
        except DatasovError:
            raise SaidError("fault.form") from None
        resident.lifetime = loss
        shared.say(request, "questions.account_done")
        return "/questions"

    return [
        shared.get("/questions", show),
        shared.post("/questions/again", again, back="/questions"),
        shared.post("/questions/limit", limit, back="/questions"),
        shared.post("/questions/{place}/save", save, back="/questions"),
    ]
