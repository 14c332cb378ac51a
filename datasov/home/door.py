"""Who may come in: an ASGI middleware in front of the resident's page.

- The address is 127.0.0.1 and the request's Host must say so, port included: a name that an outsider points at this
  machine (DNS rebinding) is refused.
- Whoever starts the page gets a secret on the terminal. It lets one browser in, once, and never stands in a request's
  path: the fragment of an address is not sent, and the form posts it.
- The browser then holds a cookie (HttpOnly, SameSite=Strict) that is sent below a random path alone. Cookies do not
  tell ports apart, so another program on this machine that lures the browser to its own port gets none: it does not
  know the path. The path by itself opens nothing.
- Whatever changes something is a POST with this Origin and a token of the session that only its own pages hold.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "datasov-home"
MOST_BODY, MOST_FIELDS = 1 << 20, 500
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), clipboard-read=()"),
)


class Door:
    """The secrets of one sitting.

    Args:
        port: of 127.0.0.1.

    Attributes:
        place: the path below which everything private stands.
        token: what a form of the session's own pages holds.
    """

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.origin = f"http://{self.host}"
        self.place, self.token = f"/{secrets.token_urlsafe(16)}", secrets.token_urlsafe(32)
        self._secret: str | None = secrets.token_urlsafe(24)
        self._cookie = secrets.token_urlsafe(32)

    @property
    def address(self) -> str:
        """What to open in a browser, once: for the terminal alone, never for the arguments of another program."""
        return f"{self.origin}/#{self._secret or ''}"

    @property
    def code(self) -> str:
        return self._secret or ""

    def enter(self, given: str) -> str | None:
        """The cookie of the session for the secret, which is spent by this; None for anything else."""
        if self._secret is None or not _same(given, self._secret):
            return None
        self._secret = None
        return f"{COOKIE}={self._cookie}; Path={self.place}/; HttpOnly; SameSite=Strict"

    def known(self, headers: Headers) -> bool:
        """Whether a request brings the session's cookie, among whatever others bear its name."""
        if self._secret is not None:
            return False
        return any(_same(value, self._cookie) for value in _cookies(headers.getlist("cookie")))

    def own(self, given: str) -> bool:
        """Whether a form is of this session's pages."""
        return _same(given, self.token)


def _same(given: str, held: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), held.encode())


def _cookies(lines: Iterable[str]) -> list[str]:
    found = []
    for pair in ";".join(lines).split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            found.append(value)
    return found


class Guarded:
    """The middleware: the checks above, and headers on every answer."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS:
                    headers[name] = value
            await send(message)

        fault = self._fault(scope)
        if fault is not None:
            await PlainTextResponse(fault[1], fault[0])(scope, receive, headed)
            return
        await self._app(scope, receive, headed)

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the text of a refusal, which tell nothing of the vault; None where the request may pass."""
        headers, path = Headers(scope=scope), scope["path"]
        if headers.getlist("host") != [self._door.host]:
            return 421, "This page is not served under that name.\n"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Not here.\n"
        if scope["method"] == "POST":
            if headers.getlist("origin") != [self._door.origin]:
                return 403, "This form was not sent by the page itself.\n"
            if headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return 403, "This form was not sent by the page itself.\n"
        if path == "/" or path.startswith("/static/"):
            return None
        inside = path.startswith(self._door.place + "/")
        if not inside or not self._door.known(headers):
            return 403, "Open the address that the terminal shows. / 端末に表示されたアドレスを開いてください。\n"
        return None


async def fields(request: Request) -> dict[str, list[str]]:
    """The fields of a form, urlencoded; ValueError where it is longer or stranger than the page's own are."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise ValueError("not a form")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise ValueError("too long")
    found: dict[str, list[str]] = {}
    pairs = parse_qsl(
        body.decode("ascii"),
        keep_blank_values=True,
        strict_parsing=bool(body),
        max_num_fields=MOST_FIELDS,
        errors="strict",
    )
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
