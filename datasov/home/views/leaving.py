"""Taking everything along, and erasing: a domain, or the whole vault."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasov.home import plots
from datasov.home.shared import Form, SaidError, Shared
from datasov.model.schema import DOMAINS
from datasov.portability import Form as Format
from datasov.vault.keychain import KeySlot

FORMS = ("parquet", "csv", "json")
_PASSPHRASE, _GUARDIAN = "passphrase", "guardian"


def routes(shared: Shared) -> list[Route]:
    """The routes of this section."""
    desk = shared.desk

    def show(request: Request) -> Response:
        resident = shared.resident
        rows, tables = plots.counts(resident), resident.tables()
        held = {d: sum(rows[n] for n, s in tables.items() if s.domain == d) for d in DOMAINS}
        slots = resident.keys.slots()
        return shared.page(
            request, "leaving", forms=FORMS, held={d: n for d, n in held.items() if n},
            dropped=[s for s in slots if s.kind not in (_PASSPHRASE, _GUARDIAN)], by_passphrase=_by_passphrase(shared),
            consents=len(resident.consents), vault=desk.path.resolve().name,
        )  # fmt: skip

    def export(form: Form, request: Request) -> str:
        kind, wrap = form.one("form"), form.one("wrap")
        if kind not in FORMS or wrap not in ("passphrase", "recipient", "plain"):
            raise SaidError("fault.form")
        passphrase = _twice(form, "passphrase") if wrap == "passphrase" else None
        recipients = [form.one("recipient")] if wrap == "recipient" else []
        if wrap == "plain" and form.one("sure") != "yes":
            raise SaidError("leaving.need_sure")
        desk.outbox.ready()
        path = _free(desk.outbox.folder / f"export-{time.strftime('%Y%m%d')}", "" if wrap == "plain" else ".age")
        shared.resident.export(path, form=cast(Format, kind), passphrase=passphrase, recipients=recipients)
        shared.say(request, "leaving.export_done", path=path)
        return "/leaving"

    def erase_domain(form: Form, request: Request) -> str:
        domain = form.one("domain")
        if domain not in DOMAINS or form.one("name") != domain:
            raise SaidError("leaving.not_name")
        if not _by_passphrase(shared):
            raise SaidError("leaving.domain_terminal")
        passphrase = _twice(form, "passphrase")
        drop = [s.id for s in _own(shared) if s.kind != _PASSPHRASE]
        shared.resident.erase_domain(domain, passphrase=passphrase, drop=drop)
        shared.say(request, "leaving.domain_done")
        return "/leaving"

    def erase(form: Form, _: Request) -> str:
        if form.one("name") != desk.path.resolve().name:
            raise SaidError("leaving.not_name")
        desk.erase()
        return "/"

    return [
        shared.get("/leaving", show),
        shared.post("/leaving/export", export, back="/leaving"),
        shared.post("/leaving/erase-domain", erase_domain, back="/leaving"),
        shared.post("/leaving/erase", erase, back="/leaving"),
    ]


def _own(shared: Shared) -> list[KeySlot]:
    """What opens the vault, but for guardians, who keep their part."""
    return [s for s in shared.resident.keys.slots() if s.kind != _GUARDIAN]


def _by_passphrase(shared: Shared) -> bool:
    """Whether one passphrase alone opens the vault, so that a new one can take its place here."""
    found = [s for s in _own(shared) if s.kind == _PASSPHRASE]
    return len(found) == 1 and found[0].opened and shared.desk.reopen is not None


def _twice(form: Form, name: str) -> str:
    given = form.raw(name)
    if not given:
        raise SaidError("fault.form")
    if given != form.raw(f"{name}_again"):
        raise SaidError("leaving.differ")
    return given


def _free(base: Path, ending: str) -> Path:
    """The first path of a name that nothing has yet."""
    for number in range(1, 1000):
        path = base.with_name(f"{base.name}{'' if number == 1 else f'-{number}'}{ending}")
        if not os.path.lexists(path):
            return path
    raise SaidError("fault.form")
