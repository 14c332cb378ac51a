"""Attacks on the resident's page: from the web, from another user of the machine, from a city and its log.

Each test names the claim that it tries to break.
"""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import httpx
import pytest

import datasov as ds
from datasov.crypto.sign import SigningKey
from datasov.home import logs
from datasov.home.door import COOKIE, MOST_BODY
from datasov.home.shared import SECTIONS
from datasov.tlog.export import HeldLog
from tests.browser import Visit
from tests.home import HOSTILE, World, until, world


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """A world whose texts are all hostile, and the cookie of its one session."""
    name = ds.Purpose(HOSTILE, "", HOSTILE, HOSTILE)
    with world(tmp_path_factory.mktemp("held"), name=HOSTILE, purpose=name) as found:
        answer = httpx.post(f"{found.door.origin}/", data={"code": found.door.code}, headers=_own(found))
        assert answer.status_code == 303
        yield found, answer.headers["set-cookie"].partition(";")[0]


def _own(w: World, **more: str) -> dict[str, str]:
    return {"origin": w.door.origin, **more}


def test_no_page_is_served_under_another_name(held: tuple[World, str]) -> None:
    """DNS rebinding: a name of an outsider that leads to 127.0.0.1 gets nothing, with or without the cookie."""
    w, cookie = held
    port = w.door.host.partition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", f"127.0.0.1.:{port}", ""):
        for path in ("/", f"{w.door.place}/", "/static/page.js"):
            answer = httpx.get(w.door.origin + path, headers={"host": host, "cookie": cookie})
            assert answer.status_code in (400, 421), host
            assert "html" not in answer.text
    with socket.create_connection(("127.0.0.1", int(port))) as raw:
        raw.sendall(
            f"GET / HTTP/1.1\r\nHost: {w.door.host}\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode()
        )
        assert b"421" in raw.recv(200) or b"400" in raw.recv(200)


def test_who_has_no_secret_sees_nothing(held: tuple[World, str]) -> None:
    """Another user of this machine can connect, and learns neither rows nor whether a path is the session's."""
    w, cookie = held
    places = [f"{w.door.place}/{s}" for s in ("", *SECTIONS)]
    wrong = [{}, {"cookie": f"{COOKIE}=x"}, {"cookie": f"{COOKIE}="}, {"cookie": cookie.replace(COOKIE, "other")}]
    answers = {(a.status_code, a.text) for p in (*places, "/guess/", "/guess/data") for h in wrong
               for a in [httpx.get(w.door.origin + p, headers=h)]}  # fmt: skip
    assert len(answers) == 1
    assert next(iter(answers))[0] == 403
    for code in ("", "x", w.door.place[1:], w.door.token):
        answer = httpx.post(f"{w.door.origin}/", data={"code": code}, headers=_own(w))
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert httpx.get(f"{w.door.origin}{w.door.place}/", headers={"cookie": cookie}).status_code == 200


def test_the_code_works_once(tmp_path) -> None:
    """Who reads the terminal later, or a browser's history, cannot come in a second time."""
    with world(tmp_path) as w:
        code = w.door.code
        assert httpx.post(f"{w.door.origin}/", data={"code": code}, headers=_own(w)).status_code == 303
        again = httpx.post(f"{w.door.origin}/", data={"code": code}, headers=_own(w))
        assert (again.status_code, again.headers.get("set-cookie")) == (403, None)


def test_a_change_needs_the_origin_the_cookie_and_the_token(held: tuple[World, str]) -> None:
    """Forms of other sites, and replays without the page's token, change nothing."""
    w, cookie = held
    digest = w.desk.resident.consents[0].digest.hex()
    url = f"{w.door.origin}{w.door.place}/consents/{digest}/revoke"
    body = {"token": w.door.token}
    for headers, sent in (
        ({"cookie": cookie}, body),
        ({"cookie": cookie, "origin": "http://evil.example"}, body),
        ({"cookie": cookie, "origin": "null"}, body),
        ({"cookie": cookie, "origin": w.door.origin.replace("127.0.0.1", "localhost")}, body),
        ({"cookie": cookie, "origin": w.door.origin, "sec-fetch-site": "same-site"}, body),
        ({"cookie": cookie, "origin": w.door.origin, "content-type": "text/plain"}, body),
        ({"origin": w.door.origin}, body),
        ({"cookie": cookie, "origin": w.door.origin}, {}),
        ({"cookie": cookie, "origin": w.door.origin}, {"token": "x"}),
        (
            {"cookie": cookie, "origin": w.door.origin},
            {"token": w.door.token + "\udcff".encode("utf-8", "replace").decode()},
        ),
    ):
        assert httpx.post(url, data=sent, headers=headers).status_code == 403, headers
        assert len(w.desk.resident.consents) == 2
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = httpx.request(method, url, headers=_own(w, cookie=cookie))
        assert answer.status_code in (404, 405)
    assert len(w.desk.resident.consents) == 2
    lock = httpx.post(f"{w.door.origin}{w.door.place}/lock", headers=_own(w, cookie=cookie), data={"token": "x"})
    assert (lock.status_code, w.desk.locked) == (403, False)


def test_every_form_of_every_page_carries_the_token(held: tuple[World, str]) -> None:
    w, cookie = held
    for place in ("", *SECTIONS[1:]):
        text = httpx.get(f"{w.door.origin}{w.door.place}/{place}", headers={"cookie": cookie}).text
        forms = re.findall(r"<form.*?</form>", text, re.S)
        assert forms
        assert all(f'name="token" value="{w.door.token}"' in form for form in forms)


def test_answers_are_not_kept_nor_framed_nor_shared(held: tuple[World, str]) -> None:
    w, cookie = held
    for path in ("/", f"{w.door.place}/", f"{w.door.place}/nothing", "/static/style.css", "/nothing"):
        headers = httpx.get(w.door.origin + path, headers={"cookie": cookie}).headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in headers
    cookie_line = httpx.post(f"{w.door.origin}/", data={"code": "x"}, headers=_own(w)).headers.get("set-cookie")
    assert cookie_line is None


def test_a_body_without_end_is_cut(held: tuple[World, str]) -> None:
    w, cookie = held
    url = f"{w.door.origin}{w.door.place}/consents/x/revoke"
    for body in (
        f"token={w.door.token}&x=" + "y" * MOST_BODY,
        f"token={w.door.token}" + "&x=y" * 1000,
        "\xff",
        "a=%ff",
    ):
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = httpx.post(url, content=body.encode("latin-1"), headers={**_own(w, cookie=cookie), **form})
        assert answer.status_code == 403


def test_no_text_becomes_script(held: tuple[World, str], visit: Visit) -> None:
    """A category, a city's name, a purpose: whoever chose them, they are text."""
    w, cookie = held
    window = visit(w.door.origin)
    name, _, value = cookie.partition("=")
    window.context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": w.door.place + "/"}])
    said: list[str] = []
    window.page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    for place in ("/", "/data/mobility", "/consents", "/questions", "/delegation", "/leaving"):
        w.open(window, place)
        window.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert window.page.locator("img, script:not([src]), style, iframe, object, [style]").count() == 0
        named = (
            "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
        )
        assert window.page.evaluate(named) == []
        if place != "/leaving":
            assert HOSTILE in window.page.locator("body").inner_text() or place == "/delegation"
    consent = w.desk.resident.consents[0].digest.hex()
    w.open(window, f"/consents/{consent}")
    assert HOSTILE in window.page.locator("pre").inner_text()
    assert said == []
    assert not any("x" in r.rsplit("/", 1)[-1].split("?")[0] == "x" for r in window.requests)


def test_what_a_log_holds_is_text_too(tmp_path, visit: Visit) -> None:
    """A log that does not verify, whose words come from whoever forged it."""
    with world(tmp_path) as w:
        note = w.city.log.checkpoint().note + f"— {HOSTILE} AAAA\n".encode()
        w.desk.sources = [logs.Source(HOSTILE, lambda _: nullcontext(HeldLog(note, w.city.log.leaves()[:-1])))]
        page = w.open(w.enter(visit(w.door.origin)), "/questions").page
        assert HOSTILE in page.locator("h2").first.inner_text()
        assert page.locator("img, script:not([src])").count() == 0
        assert page.locator(".seal.good").count() == 0


def test_another_program_of_this_machine_is_given_no_cookie(tmp_path, visit: Visit) -> None:
    """Cookies ignore ports: a browser that is lured to another port of 127.0.0.1 must not bring the session there."""
    with world(tmp_path) as w, _listener() as (port, seen):
        window = visit(w.door.origin)
        w.enter(window)
        assert [c["path"] for c in window.context.cookies()] == [w.door.place + "/"]
        window.page.goto(f"http://127.0.0.1:{port}/lure")
        window.page.goto(f"http://127.0.0.1:{port}/{'x' * 22}/")
        assert seen == [None, None]
        window.requests.clear()


def test_another_site_can_neither_frame_nor_post(tmp_path, visit: Visit) -> None:
    """A page of another origin submits the right form to the right path: the browser brings no cookie there."""
    with world(tmp_path) as w, _listener() as (port, _):
        window = visit(w.door.origin)
        w.enter(window)
        digest = w.desk.resident.consents[0].digest.hex()
        action = f"{w.door.origin}{w.door.place}/consents/{digest}/revoke"
        window.expected += ["403", "frame", "Framing", "ERR_BLOCKED", "Permissions"]
        window.page.goto(f"http://localhost:{port}/?{action}&{w.door.token}")
        window.page.wait_for_url(action)
        assert window.page.locator("body").inner_text().startswith("This form was not sent by the page itself")
        assert len(w.desk.resident.consents) == 2
        window.requests.clear()


@contextmanager
def _listener() -> Iterator[tuple[int, list[str | None]]]:
    """A server of somebody else on this machine; it notes the cookies that it gets, and posts forms elsewhere."""
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "favicon" not in self.path:
                seen.append(self.headers.get("cookie"))
            action, _, token = self.path.partition("?")[2].partition("&")
            post = f"<form method=post action='{action}'><input name=token value='{token}'></form>" if action else ""
            script = "<script>document.forms[0].submit()</script>" if action else ""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><html lang=en><title>x</title>{post}{script}".encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, seen
        finally:
            server.shutdown()
            thread.join()


def test_a_button_that_is_pressed_twice_does_it_once(tmp_path) -> None:
    """Two clicks, or a page that is sent again: one delegation is signed, and not two that each may be used up."""
    with world(tmp_path) as w:
        entered = httpx.post(f"{w.door.origin}/", data={"code": w.door.code}, headers=_own(w))
        cookie = entered.headers["set-cookie"].partition(";")[0]
        page = httpx.get(f"{w.door.origin}{w.door.place}/delegation", headers={"cookie": cookie}).text
        once = re.search(r'name="once" value="([^"]+)"', page)
        assert once is not None
        form = {
            "token": w.door.token, "once": once[1], "key": SigningKey(bytes(32)).public.hex(), "city": str(w.city.id),
            "table": "trips", "kind": "guardian", "purposes": "clinics", "loss": "0.01", "until": until(),
        }  # fmt: skip

        def press(**more: str) -> httpx.Response:
            place = f"{w.door.origin}{w.door.place}/delegation/give"
            return httpx.post(place, data={**form, **more}, headers=_own(w, cookie=cookie))

        with ThreadPoolExecutor(4) as many:
            answers = list(many.map(lambda _: press(), range(4)))
        assert {a.status_code for a in answers} == {303}
        assert len(w.desk.resident.delegations) == 1
        press(loss="0.05")  # filled in anew, after going back
        assert len(w.desk.resident.delegations) == 2


def test_no_number_of_a_log_is_taken_for_another(held: tuple[World, str]) -> None:
    w, cookie = held
    for place in ("²", "٣", "9" * 5000, "-1", "1e0", "99"):
        answer = httpx.post(
            f"{w.door.origin}{w.door.place}/questions/{place}/save", data={"token": w.door.token},
            headers=_own(w, cookie=cookie),
        )  # fmt: skip
        assert answer.status_code == 404, place
