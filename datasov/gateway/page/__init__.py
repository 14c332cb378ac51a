"""The city's page: what was asked and answered, the budget, the programmes, the log. Made here, without a script.

It shows what is public: released answers, what the log holds, and the city's own declarations.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from datasov.city import City
from datasov.errors import MissingExtraError
from datasov.gateway.operation import HTML, Call, Operation, Parameter, Reply
from datasov.gateway.page import view
from datasov.gateway.page.words import LANGUAGES, Language, preferred, words
from datasov.gateway.problems import ProblemError

if TYPE_CHECKING:
    from jinja2 import Environment

CSS, SVG = "text/css", "image/svg+xml"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY, "cache-control": "public, max-age=30", "vary": "accept-language",
    "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY",
}  # fmt: skip
_SECONDS = 10
"""So long a page that was made is shown to everybody; a new leaf of the log makes it anew at once."""
_LANGUAGE = Parameter("lang", "query", {"enum": list(LANGUAGES)}, "of the page; else as Accept-Language says")
_ACCEPTED = Parameter("accept-language", "header", {"type": "string"}, "RFC 9110, section 12.5.4")
_TAG = "page"


def operations() -> list[Operation]:
    """The pages."""
    identifier = Parameter("id", "path", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "of the release")
    return [
        Operation(
            "GET", "/", _city, "getPage", "The city's page", _TAG, None, [Reply(200, "for people", {HTML: {}})],
            parameters=[_LANGUAGE],
        ),
        Operation(
            "GET", "/answers/{id}", _answer, "getAnswerPage", "One answer, for people", _TAG, None,
            [Reply(200, "for people", {HTML: {}})], parameters=[identifier, _LANGUAGE], problems=[404],
        ),
        Operation(
            "GET", "/page.css", _style, "getStyle", "The pages' style", _TAG, None, [Reply(200, "CSS", {CSS: {}})],
        ),
        Operation(
            "GET", "/page.svg", _icon, "getIcon", "The pages' icon", _TAG, None, [Reply(200, "SVG", {SVG: {}})],
        ),
    ]  # fmt: skip


class _Pages:
    """The pages of one city that were made last, by name and language."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, Language], tuple[tuple[int, int], str]] = {}

    def get(self, name: tuple[str, Language], state: tuple[int, int], make: Callable[[], str]) -> str:
        """The page of this state; one thread makes it."""
        with self._lock:
            found = self._made.get(name)
            if found is None or found[0] != state:
                if len(self._made) > 256:
                    self._made.clear()
                found = state, make()
                self._made[name] = found
            return found[1]


_PAGES: weakref.WeakKeyDictionary[City, _Pages] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def _city(call: Call) -> Response:
    return _page(call, "city.html", lambda language: view.city(call.shared, language))


def _answer(call: Call) -> Response:
    def shown(language: Language) -> dict[str, Any]:
        found = view.answer(call.shared, call.path["id"], language)
        if found is None:
            raise ProblemError("not-found", "no such answer, or its programme's days of retention are over: see /")
        return found

    return _page(call, "answer.html", shown)


def _page(call: Call, template: str, shown: Callable[[Language], dict[str, Any]]) -> Response:
    city = call.shared.city
    language = preferred(call.query.get("lang"), call.request.headers.get("accept-language", ""))
    with _GUARD:
        pages = _PAGES.setdefault(city, _Pages())
    state = city.log.size, int(call.shared.clock()) // _SECONDS
    text = pages.get(
        (template + call.path.get("id", ""), language), state,
        lambda: _environment().get_template(template).render(w=words(language), lang=language, **shown(language)),
    )  # fmt: skip
    return Response(text, media_type=HTML, headers={**_HEADERS, "content-language": language})


def _style(_: Call) -> Response:
    return _file("page.css", CSS)


def _icon(_: Call) -> Response:
    return _file("page.svg", SVG)


def _file(name: str, media: str) -> Response:
    data = resources.files(__package__).joinpath(name).read_bytes()
    return Response(data, media_type=media, headers={"cache-control": "public, max-age=300"})


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("the city's page needs jinja2: pip install 'datasov[gateway]'") from None
    return Environment(
        loader=PackageLoader("datasov.gateway", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
