"""What all views share: the desk, the door, the templates, and how a view answers."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from datasov import catalogue
from datasov.crypto.kdf import sha256
from datasov.errors import DatasovError
from datasov.home import describe, plain, plots, words
from datasov.home.desk import Desk, LockedError
from datasov.home.door import Door, fields
from datasov.model.purposes import Purpose
from datasov.resident import Resident

MOST_DONE = 256
"""Forms that are remembered, so that a second press of the same button does nothing more."""
HERE = Path(__file__).resolve().parent
SECTIONS = ("overview", "data", "consents", "questions", "delegation", "leaving")


class NotFoundError(DatasovError):
    """There is no such page, consent or delegation."""


class SaidError(DatasovError):
    """A refusal that the page has words for: their name."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent."""

    values: Mapping[str, Sequence[str]]

    def one(self, name: str) -> str:
        """A field, without spaces around it; "" where it is missing."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        return self.values.get(name, [""])[0]

    def many(self, name: str) -> list[str]:
        return list(self.values.get(name, []))

    def name(self, path: str) -> str:
        """What this form, as it was filled in on that one showing of its page, is known by; "" where it has none."""
        if not self.raw("once"):
            return ""
        return sha256(repr((path, sorted((n, list(v)) for n, v in self.values.items()))).encode()).hex()


View: TypeAlias = Callable[[Request], Response]
Act: TypeAlias = Callable[[Form, Request], str | Response]
"""Does what a form asks; where to go then, below the session's path, or an answer."""


@dataclass(frozen=True, slots=True)
class Flash:
    """What is said once, on the next page: "done" or "fault"; `detail` is an error's own English text."""

    kind: str
    text: str
    detail: str = ""
    code: str = ""


@dataclass
class Shared:
    """One sitting as the views see it."""

    desk: Desk
    door: Door
    language: str | None = None
    flashes: list[Flash] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    """Forms that did what they say, by `Form.name`, and where that led."""

    @functools.cached_property
    def pages(self) -> Environment:
        """The templates: everything that is put into them is escaped."""
        found = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        found.filters["table_name"] = describe.table
        found.globals.update(right=plain.right, domains=catalogue.DOMAIN_LABELS, sections=SECTIONS)
        return found

    @property
    def resident(self) -> Resident:
        return self.desk.resident

    def speaks(self, request: Request) -> str:
        """The language of an answer: what the page's switch said, in a session also before, or the browser prefers."""
        chosen = request.query_params.get("lang")
        found = chosen if chosen in words.LANGUAGES else None
        if self.inside(request):
            self.language = found = found or self.language
        return found or words.accepted(request.headers.get("accept-language", ""))

    def inside(self, request: Request) -> bool:
        """Whether a request is the session's, which the door has checked."""
        return request.url.path.startswith(self.door.place + "/")

    def page(self, request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page of a template, with what every page needs."""
        language = self.speaks(request)
        inside = self.inside(request)
        flashes = self._said() if inside else []
        text = self.pages.get_template(f"{name}.html").render(
            lang=language, other="en" if language == "ja" else "ja", t=functools.partial(words.say, language),
            day=functools.partial(words.day, language), base=self.door.place, token=self.door.token if inside else "",
            once=secrets.token_urlsafe(9), path=request.url.path, current=name, inside=inside, desk=self.desk,
            flashes=flashes,
            column=functools.partial(describe.column, language=language),
            table=lambda schema: plots.table_label(schema, language),
            domain=lambda d: getattr(catalogue.DOMAIN_LABELS[d], language) if d in catalogue.DOMAIN_LABELS else d,
            purpose=lambda p: p.label(language) if isinstance(p, Purpose) else p, **values,
        )  # fmt: skip
        return HTMLResponse(text, status)

    def _said(self) -> list[Flash]:
        said, self.flashes = self.flashes, []
        return said

    def say(self, request: Request, name: str, /, *, kind: str = "done", detail: str = "", **values: object) -> None:
        """Say something on the next page."""
        code = str(values.pop("code", ""))
        self.flashes.append(Flash(kind, words.say(self.speaks(request), name, **values), detail, code))

    def to(self, place: str) -> RedirectResponse:
        """Go on with another page of the session."""
        return RedirectResponse(self.door.place + place, 303)

    def get(self, path: str, view: View) -> Route:
        """A page, shown while the vault is open."""

        async def handle(request: Request) -> Response:
            return await run_in_threadpool(self._show, view, request)

        return Route(self.door.place + path, handle, methods=["GET"])

    def _show(self, view: View, request: Request) -> Response:
        with self.desk.turn:
            try:
                if self.desk.locked:
                    raise LockedError("locked")
                return view(request)
            except LockedError:
                return self.page(request, "locked")
            except NotFoundError:
                return self.page(request, "missing", status=404)
            except DatasovError as why:
                self.flashes.append(Flash("fault", words.say(self.speaks(request), "fault.not_shown"), str(why)))
                return self.page(request, "fault", status=503)

    def post(self, path: str, act: Act, *, back: str, locked: bool = False) -> Route:
        """What a form does, with the session's token; where it is refused, the page `back` says why.

        Args:
            locked: whether it is done also where the vault is closed.
        """

        async def handle(request: Request) -> Response:
            try:
                form = Form(await fields(request))
            except ValueError:
                form = Form({})
            return await run_in_threadpool(self._do, act, form, request, back, locked)

        return Route(self.door.place + path, handle, methods=["POST"])

    def _do(self, act: Act, form: Form, request: Request, back: str, locked: bool) -> Response:
        with self.desk.turn:
            if not self.door.own(form.raw("token")):
                self.say(request, "fault.token", kind="fault")
                return self.page(request, "missing", status=403)
            if self.desk.locked and not locked:
                return self.to("/")
            sent = form.name(request.url.path)
            if sent in self.done:
                return self.to(self.done[sent])
            try:
                answer = act(form, request)
                if sent and isinstance(answer, str):
                    self.done[sent] = answer
                    if len(self.done) > MOST_DONE:
                        del self.done[next(iter(self.done))]
            except NotFoundError:
                return self.page(request, "missing", status=404)
            except SaidError as why:
                self.say(request, str(why), kind="fault")
                answer = back
            except (DatasovError, OSError) as why:
                text = str(why) if isinstance(why, DatasovError) else (why.strerror or str(why))
                self.say(request, "fault.done_nothing", kind="fault", detail=text)
                answer = back
            return answer if isinstance(answer, Response) else self.to(answer)
