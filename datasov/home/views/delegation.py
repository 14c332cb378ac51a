"""Acting for others: delegations given and received, ended, signed, taken in."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov.authority.held import HeldDelegation
from datasov.authority.qr import consent_from_text
from datasov.errors import InvalidQueryError
from datasov.home import plain
from datasov.home.outbox import Message
from datasov.home.shared import Form, NotFoundError, SaidError, Shared
from datasov.home.views import common
from datasov.home.views.consents import admit
from datasov.model.consent import CityId
from datasov.model.delegation import Delegation, Kind
from datasov.model.privacy import zcdp
from datasov.model.schema import DOMAINS

KINDS = ("carer", "guardian", "parental")
LOSSES = ("0.01", "0.05", "0.1", "0.2")


@dataclass(frozen=True, slots=True)
class Shown:
    """A delegation as it is shown."""

    name: str
    claims: Delegation
    city: str
    whom: str
    revoked: bool
    right: int
    links: int

    @property
    def tables(self) -> dict[str, list[str]]:
        """The columns that may be covered, by table."""
        found: dict[str, list[str]] = {}
        for name in self.claims.columns:
            table, _, column = name.partition(".")
            found.setdefault(table, []).append(column)
        return found


def _shown(one: HeldDelegation) -> Shown:
    claims = one.claims
    city = CityId.parse(claims.audience).name
    right = plain.right(claims.loss)
    return Shown(one.digest.hex(), claims, city, one.whom, one.revoked, right, len(one.chain))


def chain_text(chain: Sequence[bytes]) -> str:
    """A chain of delegations as text: a line for each, base64url, the person's own first."""
    return "\n".join(base64.urlsafe_b64encode(token).rstrip(b"=").decode() for token in chain)


def chain_from_text(text: str) -> tuple[bytes, ...]:
    """The chain of a text that :func:`chain_text` gave; SaidError where it is none."""
    try:
        found = tuple(
            base64.b64decode(line + "=" * (-len(line) % 4), altchars=b"-_", validate=True) for line in text.split()
        )
    except (binascii.Error, ValueError):
        found = ()
    if not found:
        raise SaidError("delegation.bad_text")
    return found


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""

    def cities() -> dict[str, CityId]:
        """The cities that this vault has anything to do with, by the text of their ids."""
        resident = shared.resident
        named = [c.claims.audience for c in (*resident.consents, *resident.revoked)]
        return {text: CityId.parse(text) for text in dict.fromkeys([*named, *_of(resident.delegations)])}

    def city_of(form: Form) -> CityId:
        text = form.one("city_id") or form.one("city")
        try:
            return CityId.parse(text)
        except InvalidQueryError:
            raise SaidError("fault.form") from None

    def show(request: Request) -> Response:
        resident = shared.resident
        found = list(reversed(resident.delegations))
        names = {c.claims.purpose: common.called(resident, c) for c in (*resident.consents, *resident.revoked)}
        return shared.page(
            request, "delegation", given=[_shown(d) for d in found if d.given],
            received=[_shown(d) for d in found if not d.given], cities=cities(), kinds=KINDS, losses=[
                (text, plain.right(zcdp(rho=text))) for text in LOSSES
            ],
            tables=sorted(resident.tables().values(), key=lambda s: s.name), purposes=sorted(names), names=names,
            year=(dt.date.today() + dt.timedelta(days=365)).isoformat(),
        )  # fmt: skip

    def give(form: Form, request: Request) -> str:
        resident, tables = shared.resident, shared.resident.tables()
        try:
            key = bytes.fromhex(form.one("key"))
        except ValueError:
            key = b""
        if len(key) != 32:
            raise SaidError("delegation.bad_key")
        chosen = [tables[name] for name in form.many("table") if name in tables]
        purposes = [line.strip() for line in form.raw("purposes").splitlines() if line.strip()]
        if form.one("kind") not in KINDS or not chosen or not purposes:
            raise SaidError("fault.form")
        handover = common.coming(form.one("handover")) if form.one("handover") else None
        token = resident.delegate(
            city_of(form), chosen, to=key, kind=cast(Kind, form.one("kind")), purposes=purposes,
            loss=zcdp(rho=form.one("loss")), until=common.coming(form.one("until")), handover=handover,
        )  # fmt: skip
        shared.say(request, "delegation.given_done", code=chain_text([token]))
        return "/delegation"

    def key(form: Form, request: Request) -> str:
        if form.one("domain") not in DOMAINS:
            raise SaidError("fault.form")
        public = shared.resident.delegate_key(city_of(form), form.one("domain"), whom=form.one("whom"))
        shared.say(request, "delegation.key_done", code=public.hex())
        return "/delegation"

    def receive(form: Form, request: Request) -> str:
        shared.resident.receive(chain_from_text(form.raw("text")), whom=form.one("whom"))
        shared.say(request, "delegation.received_done")
        return "/delegation"

    def accept(form: Form, request: Request) -> str:
        shared.desk.outbox.ready()
        consent = shared.resident.accept(consent_from_text(form.one("text")))
        shared.say(request, "delegation.accepted_done")
        admit(shared, consent)
        return "/consents"

    def revoke(_: Form, request: Request) -> str:
        one = next((d for d in shared.resident.delegations if d.digest.hex() == request.path_params["name"]), None)
        if one is None:
            raise NotFoundError("no such delegation")
        shared.desk.outbox.ready()
        city = CityId.parse(one.claims.audience)
        shared.desk.outbox.put(Message("revocation", city, shared.resident.revoke_delegation(one.chain)))
        shared.desk.stale()
        shared.say(request, "delegation.revoked_done")
        return "/consents"

    return [
        shared.get("/delegation", show),
        shared.post("/delegation/give", give, back="/delegation"),
        shared.post("/delegation/key", key, back="/delegation"),
        shared.post("/delegation/receive", receive, back="/delegation"),
        shared.post("/delegation/accept", accept, back="/delegation"),
        shared.post("/delegation/{name}/revoke", revoke, back="/delegation"),
    ]


def _of(delegations: Sequence[HeldDelegation]) -> list[str]:
    return [d.claims.audience for d in delegations]
