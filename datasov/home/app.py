"""The resident's page as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from datasov.errors import DatasovError, DecryptionError
from datasov.home.desk import Desk
from datasov.home.door import Door, Guarded, fields
from datasov.home.shared import HERE, Form, Shared
from datasov.home.views import consents, data, delegation, leaving, overview, questions

STATIC = ("style.css", "page.js", "icon.svg")


def app(desk: Desk, door: Door) -> ASGIApp:
    """The application for one sitting at a desk, behind a door."""
    shared = Shared(desk, door)
    sections = (overview, data, consents, questions, delegation, leaving)
    routes = [*_entrance(shared), *(route for section in sections for route in section.routes(shared))]
    missing = {404: lambda request, _: shared.page(request, "missing", status=404)}
    return Guarded(Starlette(routes=routes, exception_handlers=missing), door)


def _entrance(shared: Shared) -> list[Route]:
    async def enter(request: Request) -> Response:
        if request.method != "POST":
            return shared.page(request, "enter", wrong=False)
        try:
            given = Form(await fields(request)).one("code")
        except ValueError:
            given = ""
        cookie = shared.door.enter(given)
        if cookie is None:
            return shared.page(request, "enter", wrong=True, status=403)
        answer = shared.to("/")
        answer.headers["set-cookie"] = cookie
        return answer

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(HERE / "static" / name) if name in STATIC else Response(status_code=404)

    def unlock(form: Form, request: Request) -> str:
        try:
            shared.desk.unlock(form.raw("passphrase"))
        except DecryptionError:
            shared.say(request, "locked.wrong", kind="fault")
        except DatasovError as why:
            shared.say(request, "fault.done_nothing", kind="fault", detail=str(why))
        return "/"

    async def locked(_: Request) -> Response:
        """Where a page goes by itself when its time is over: what it showed is no longer on the screen."""
        await run_in_threadpool(shared.desk.lock_if_idle)
        return shared.to("/")

    return [
        Route("/", enter, methods=["GET", "POST"]),
        Route("/static/{name}", static, methods=["GET"]),
        Route(f"{shared.door.place}/idle", locked, methods=["GET"]),
        shared.post("/unlock", unlock, back="/", locked=True),
    ]
