"""The browser fixture sees what it says it sees."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.browser import Visit

_PAGE = """<!doctype html><html lang=en><title>A page</title><main><h1>Title</h1>%s</main>"""


_BODIES = {
    "/fine": "<p>Text</p>",
    "/image": "<img src=/fine>",
    "/outside": '<img alt="" src="http://127.0.0.1:1/x">',
    "/error": "<script>console.error('said this'); throw Error('and that')</script>",
    "/wide": "<div style=width:3000px>x</div>",
    "/favicon.ico": "",
}


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _BODIES.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((_PAGE % body).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def origin() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_without_fault_passes(visit: Visit, origin: str) -> None:
    window = visit(origin, language="ja", phone=True)
    window.go("/fine")
    assert (window.outside(), window.faults(), window.axe(), window.overflow()) == ([], [], [], 0)
    assert window.requests[0] == origin + "/fine"
    assert window.page.evaluate("navigator.language") == "ja-JP"


def test_what_a_page_asks_of_others_says_and_lacks_is_seen(visit: Visit, origin: str) -> None:
    window = visit(origin)
    window.go("/outside")
    assert window.outside() == ["http://127.0.0.1:1/x"]
    window.go("/error")
    assert any("said this" in e for e in window.errors)
    assert any("and that" in e for e in window.errors)
    assert window.faults() != []
    window.go("/image")
    assert any("image-alt" in found for found in window.axe())
    window.go("/wide")
    assert window.overflow() > 1000
    window.requests.clear()
    window.errors.clear()
