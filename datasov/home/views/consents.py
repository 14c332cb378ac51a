"""Consents: what is allowed, ending and renewing it, and what a city must still be told."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov.authority import parcel
from datasov.home.outbox import Message
from datasov.home.shared import Form, NotFoundError, Shared
from datasov.home.views import common
from datasov.model.consent import CityId, Consent


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""
    box = shared.desk.outbox

    def show(request: Request) -> Response:
        resident, seen = shared.resident, shared.desk.seen()
        cards = [common.card(resident, c, seen) for c in reversed(resident.consents)]
        return shared.page(
            request, "consents", cards=[c for c in cards if not c.over], past=[c for c in cards if c.over],
            ended=[common.card(resident, c, seen) for c in reversed(resident.revoked)], outbox=box,
            next_year=common.next_year,
        )  # fmt: skip

    def record(request: Request) -> Response:
        resident = shared.resident
        consent = common.find((*resident.consents, *resident.revoked), request.path_params["name"])
        text = resident.record(consent).text("ja" if shared.speaks(request) == "ja" else "en")
        return shared.page(request, "record", text=text)

    def revoke(_: Form, request: Request) -> str:
        # One that was ended here may not have reached the city: it is signed once more.
        consent = common.find((*shared.resident.consents, *shared.resident.revoked), request.path_params["name"])
        box.ready()
        city = CityId.parse(consent.claims.audience)
        signed = shared.resident.revoke(consent)
        if signed:  # where no row ever left, there is nothing to send
            box.put(Message("revocation", city, signed))
        shared.desk.stale()
        shared.say(request, "consents.revoked_done")
        return "/consents"

    def renew(form: Form, request: Request) -> str:
        resident = shared.resident
        consent = common.find(resident.consents, request.path_params["name"])
        until = common.coming(form.one("until"))
        box.ready()
        admit(shared, resident.renew(consent, until=until))
        shared.say(request, "consents.renewed_done", day=until)
        return "/consents"

    def again(_: Form, request: Request) -> str:
        if box.again(request.path_params["name"]) is None:
            raise NotFoundError("no such message")
        return "/consents"

    return [
        shared.get("/consents", show),
        shared.get("/consents/{name}", record),
        shared.post("/consents/{name}/revoke", revoke, back="/consents"),
        shared.post("/consents/{name}/renew", renew, back="/consents"),
        shared.post("/outbox/{name}", again, back="/consents"),
    ]


def admit(shared: Shared, consent: Consent) -> None:
    """Send a consent with the rows that it covers now; nothing where no row leaves the vault under it."""
    shared.desk.stale()
    if consent.claims.trust.name != "central":
        return
    sealed = shared.resident.contribute(consent)
    city = CityId.parse(consent.claims.audience)
    shared.desk.outbox.put(Message("admission", city, parcel.parcel(consent, sealed)))
