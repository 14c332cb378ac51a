"""A hostile client of a real server: slow, large, many, and with bodies that no reader likes."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

import datasov as ds
from datasov.gateway.app import app
from datasov.gateway.auth import Issuer, JwtVerifier
from datasov.gateway.protocol import GuardedProtocol
from tests.gateways import AUDIENCE, KEY, QUESTION, TABLES, URL, Keys, bearer, city_of, client_of, short
from tests.helpers import Clock

SECONDS = 0.6


@contextlib.contextmanager
def listening(city: ds.City, protocol: type[GuardedProtocol], **limits: float) -> Iterator[tuple[str, int]]:
    verifier = JwtVerifier(Issuer(URL, AUDIENCE), Keys(KEY), Clock())
    made = app(city, verifier=verifier, tables=TABLES, limits=short(**limits), clock=Clock())
    config = uvicorn.Config(made, http=protocol, ws="none", log_config=None, access_log=False, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ds.City]:
    with city_of(tmp_path_factory.mktemp("attack") / "c", Clock(), 0) as city:
        yield city


@pytest.fixture(scope="module")
def server(city: ds.City) -> Iterator[tuple[str, int]]:
    quick = type("Quick", (GuardedProtocol,), {"header_seconds": SECONDS, "write_seconds": SECONDS, "per_address": 40})
    with listening(city, quick, body_seconds=SECONDS) as address:
        yield address


def closed(sock: socket.socket, seconds: float = 30) -> bytes:
    """What comes until the server closes; fails where it does not."""
    sock.settimeout(seconds)
    got = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(65536):
            got += chunk
    return got


def alive(address: tuple[str, int]) -> None:
    assert httpx.get(f"http://{address[0]}:{address[1]}/healthz", timeout=30).status_code == 200


@pytest.mark.parametrize("start", [b"", b"\r\n", b"G", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: "])
def test_headers_that_drip_are_cut_off(server: tuple[str, int], start: bytes) -> None:
    with socket.create_connection(server) as sock:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.1):
                    sock.sendall(start[-1:] if start else b"")

        sock.sendall(start)
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert closed(sock) == b"" or start == b"G"
        finally:
            stop.set()
            thread.join()
    alive(server)


def test_drip_after_an_answer_is_cut_off(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in sock.recv(65536)
        sock.sendall(b"\r\n")
        closed(sock)


def test_a_body_that_drips_is_408_or_cut_off(server: tuple[str, int]) -> None:
    head = f"POST /v1/releases HTTP/1.1\r\nhost: x\r\nauthorization: {bearer('analyst')['authorization']}\r\n"
    for more, status in (("", b"408"), ("authorization: Bearer x\r\n", b"401")):
        with socket.create_connection(server) as sock:
            sock.sendall((head + more + "content-type: application/json\r\ncontent-length: 9999\r\n\r\n{").encode())
            assert status in closed(sock)
    alive(server)


def test_headers_too_large_or_too_many(server: tuple[str, int]) -> None:
    for lines in ([b"x-a: " + b"a" * 40_000], [b"x-%d: 1" % n for n in range(70)]):
        with socket.create_connection(server) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
            assert b" 431 " in closed(sock)
    with socket.create_connection(server) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"GET /" + b"a" * 200_000)
        closed(sock, 30)
    alive(server)


def test_large_bodies_are_refused_before_they_are_read(server: tuple[str, int]) -> None:
    head = f"POST /v1/releases HTTP/1.1\r\nhost: x\r\nauthorization: {bearer('analyst')['authorization']}\r\n"
    head += "content-type: application/json\r\n"
    for more in ("content-length: 999999999999", "content-length: 131073", "transfer-encoding: chunked"):
        with socket.create_connection(server) as sock:
            sock.sendall(f"{head}{more}\r\n\r\n".encode())
            if "chunked" in more:
                with contextlib.suppress(ConnectionError):
                    for _ in range(5):
                        sock.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
            sock.settimeout(30)
            assert b" 413 " in sock.recv(65536)
    alive(server)


def test_smuggled_requests_are_refused(server: tuple[str, int]) -> None:
    for lines in (
        b"content-length: 5\r\ntransfer-encoding: chunked", b"content-length: 5\r\ncontent-length: 6",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity", b"bad header: x", b"content-length: -1",
    ):  # fmt: skip
        with socket.create_connection(server) as sock:
            sock.sendall(
                b"POST /v1/releases HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
            )
            assert closed(sock).startswith(b"HTTP/1.1 4")
    alive(server)


def test_one_address_takes_no_more_than_its_connections(server: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(server)) for _ in range(40)]
        time.sleep(0.1)
        with socket.create_connection(server) as more:
            assert b" 429 " in closed(more)
        assert held
    time.sleep(0.3)
    alive(server)


def test_who_does_not_read_is_cut_off(city: ds.City) -> None:
    slow = type("Slow", (GuardedProtocol,), {"write_seconds": SECONDS})
    with listening(city, slow) as address, socket.create_connection(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(400):
            try:
                sock.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
            except ConnectionError:
                break
            time.sleep(0.02)
        else:
            pytest.fail("the server went on writing to who does not read")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 20_000, b'{"loss":{"rho":NaN}}', b'{"loss":1,"loss":2}', b"\xff\xfe", b"", b"null",
        b"1" * 5000, b'{"loss":{"rho":1e999999999}}', b'"\\ud800"', b"{" + b'"not":{' * 60 + b"}" * 61,
        b'{"question":{"table":"trips","ask":["count"],"where":' + b'{"not":' * 200 + b"1" + b"}" * 203,
    ],
)  # fmt: skip
def test_bodies_that_are_no_questions(city: ds.City, body: bytes) -> None:
    with client_of(city, Clock()) as ask:
        headers = {**bearer("analyst"), "content-type": "application/json"}
        assert ask("POST", "/v1/releases", content=body, headers=headers).status_code == 400
        assert ask("POST", "/v1/releases", content=body, headers=bearer("analyst")).status_code == 415


def test_numbers_that_cost_more_than_they_say(city: ds.City) -> None:
    with client_of(city, Clock()) as ask:
        for rho in (1e-30, 1e300, "1e400", "9" * 32, "-1", "x", "", "٣", " 1"):
            found = ask.post("/v1/releases", {**QUESTION, "loss": {"rho": rho}})
            assert found.status_code in (400, 429), rho
        question = QUESTION["question"]
        for where in ({"column": "km", "gt": "1e999"}, {"column": "km", "in": [1.5]}, {"column": "x", "null": True}):
            body = {**QUESTION, "question": {**question, "where": where}}
            assert ask.post("/v1/releases", body).status_code == 400


def test_a_stranger_finds_nothing_by_an_etag(city: ds.City) -> None:
    with client_of(city, Clock()) as ask:
        made = ask.post("/v1/releases", QUESTION)
        place, tag = made.headers["location"], made.headers["etag"]
        assert ask("GET", place, headers={"if-none-match": tag}).status_code == 401
        assert ask("GET", place, headers={**bearer("visitor"), "if-none-match": "*"}).status_code == 403
        missing = place[:-1] + ("0" if place[-1] != "0" else "1")
        assert ask("GET", missing, "analyst", headers={"if-none-match": "*"}).status_code == 404
        assert made.headers["cache-control"] == "no-store"


def test_a_header_cannot_be_split(city: ds.City) -> None:
    with client_of(city, Clock()) as ask:
        found = ask("GET", "/v1/releases/" + "a%0d%0aset-cookie:x=1", "analyst")
        assert (found.status_code, "set-cookie" in found.headers) == (404, False)
        assert ask("GET", "/v1/budget?x=1", "analyst").status_code == 400
        assert ask("GET", "/v1/releases?limit=1&limit=2", "analyst").status_code == 400


def test_addresses_are_not_taken_from_headers(city: ds.City) -> None:
    limits = short(client_rate=0.01, client_burst=1)
    with client_of(city, Clock(), limits=limits) as ask:
        codes = [ask("GET", "/healthz", headers={"x-forwarded-for": f"10.0.0.{n}"}).status_code for n in range(3)]
    assert codes == [200, 429, 429]
