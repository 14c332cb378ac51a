"""Claim: an aggregator that is hostile holds up neither a device nor the city, and fills nobody's memory.

The attacker is the host at the other end: it answers without an end, or byte by byte, compressed, or with anything.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

import datasov as ds
from datasov.aggregator import client
from datasov.aggregator.client import over_http
from datasov.errors import PeerError
from datasov.remote import Remote
from tests.servers import IDS

OVER = threading.Event()
HEAD = b"HTTP/1.1 200 OK\r\n"


def read(connection: socket.socket) -> bytes:
    """A request as far as its head, at least."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += more(connection)
    return data


def more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise OSError
    return data


@contextmanager
def host(answer: Callable[[socket.socket], None]) -> Iterator[ds.AggregatorId]:
    """An aggregator at an address where each connection gets this answer."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not over.is_set():
            with suppress(OSError):
                connection, _ = listening.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head, _, body = read(connection).partition(b"\r\n\r\n")
            while len(body) < int(re.findall(rb"content-length: (\d+)", head + b"content-length: 0")[0]):
                body += more(connection)
            answer(connection)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        try:
            yield ds.AggregatorId("mallory", f"http://127.0.0.1:{port}", IDS[0].verify_key, IDS[0].seal_key)
        finally:
            over.set()


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def slow_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 1000000\r\n\r\n")
    while not OVER.wait(0.05):
        connection.sendall(b"x")


def slow_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while not OVER.wait(0.05):
        connection.sendall(b"x-more: x\r\n")


def silent(_: socket.socket) -> None:
    OVER.wait(20)


def said(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Callable[[socket.socket], None]:
    head = [b"HTTP/1.1 " + status, b"connection: close", b"content-length: %d" % len(body), *headers]
    return lambda connection: connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(client, "LIMITS", {"collect": (1024 * 1024, 30.0)})
    client._client.cache_clear()
    OVER.clear()
    yield
    OVER.set()
    client._client.cache_clear()


@pytest.mark.parametrize("path", ["tokens", "collect"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [(endless, "without an end"), (slow_body, "too long"), (slow_headers, "too long"), (silent, "mallory")],
)  # fmt: skip
def test_no_answer_is_longer_or_later_than_its_bounds(answer, told, path, monkeypatch):
    seconds = 30.0 if answer is endless else 0.3
    monkeypatch.setattr(client, "SHORT", (128 * 1024, seconds))
    monkeypatch.setattr(client, "LIMITS", {"collect": (1024 * 1024, seconds)})
    with host(answer) as to, pytest.raises(PeerError, match=told):
        over_http(to, path, b"x")


def test_an_answer_of_the_longest_length_is_taken_and_one_byte_more_is_not():
    for size, taken in ((128 * 1024, True), (128 * 1024 + 1, False)):
        with host(said(bytes(size))) as to:
            if taken:
                assert over_http(to, "tokens", b"x") == bytes(size)
            else:
                with pytest.raises(PeerError, match="without an end"):
                    over_http(to, "tokens", b"x")


def test_an_answer_that_unpacks_to_more_is_not_unpacked():
    packed = gzip.compress(bytes(20_000_000), 9)
    assert len(packed) < 128 * 1024
    with host(said(packed, b"content-encoding: gzip")) as to, pytest.raises(PeerError, match="compresses"):
        over_http(to, "collect", b"x")


def test_a_gateway_that_packs_twice_or_on_and_on_fills_no_memory():
    zeros = zlib.compressobj(9, wbits=31)
    bomb = b"".join(zeros.compress(bytes(1 << 22)) for _ in range(8)) + zeros.flush()
    packed = b"content-encoding: gzip"
    for body, head, why in (
        (gzip.compress(bomb, 9), b"content-encoding: gzip, gzip", "compresses"), (bomb, packed, "without an end"),
        (gzip.compress(b"x")[:-4], packed, "broke off"), (b"", packed, "broke off"),
        (bytes(100), packed, "does not unpack"), (gzip.compress(b"x") * 2, packed, "more than its answer"),
    ):  # fmt: skip
        with host(said(body, head)) as to, Remote(to.url) as gateway:
            tracemalloc.start()
            try:
                with pytest.raises(PeerError, match=why):
                    gateway.report(b"x")
                assert tracemalloc.get_traced_memory()[1] < 4 << 20
            finally:
                tracemalloc.stop()
    with host(said(gzip.compress(b"x" * 60_000), packed)) as to, Remote(to.url) as gateway:
        assert gateway.tokens("tokens", b"x") == b"x" * 60_000


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[" * 100_000, b"null", b"[]", b'{"error": "SystemExit", "message": "x"}', b'{"error": "PeerError"}',
        b"\xff" * 100, json.dumps({"error": "ConsentError", "message": "\x1b[2Jgone"}).encode(),
        json.dumps({"error": ["ConsentError"], "message": "x"}).encode(),
    ],
)  # fmt: skip
def test_refusals_that_are_none_are_one_error_that_repeats_nothing(body):
    with host(said(body, status=b"400 Bad Request")) as to, pytest.raises(PeerError) as told:
        over_http(to, "tokens", b"x")
    assert str(told.value) == "mallory did not answer as agreed: check its address and version"


def test_a_refusal_keeps_its_kind_and_is_short():
    body = json.dumps({"error": "ConsentError", "message": "no " * 1000}).encode()
    with host(said(body, status=b"400 Bad Request")) as to, pytest.raises(ds.ConsentError) as told:
        over_http(to, "tokens", b"x")
    assert len(str(told.value)) < 600


def test_no_redirect_is_followed():
    with host(said(b"stolen")) as away:
        moved = said(b"", b"location: " + away.url.encode(), status=b"307 Temporary Redirect")
        with host(moved) as to, pytest.raises(PeerError):
            over_http(to, "reports", b"a report")


def test_a_gateway_that_answers_without_an_end_is_left(monkeypatch):
    monkeypatch.setattr("datasov.remote.MAX_TOLD", 64 * 1024)
    monkeypatch.setattr("datasov.remote.MAX_LIST", 64 * 1024)
    with host(endless) as to, Remote(to.url, within=20) as remote:
        for ask in (remote.tasks, lambda: remote.report(b"x"), lambda: remote.send(b"x")):
            with pytest.raises(PeerError, match="without an end"):
                ask()
    with host(slow_headers) as to, Remote(to.url, within=0.5) as remote, pytest.raises(PeerError, match="too long"):
        remote.tasks()


def test_one_aggregator_that_answers_nothing_holds_up_no_other(monkeypatch):
    with host(silent) as bad, host(said(b"good")) as good:
        monkeypatch.setattr(client, "SHORT", (1024, 0.3))
        with pytest.raises(PeerError):
            over_http(bad, "tokens", b"x")
        monkeypatch.undo()
        assert over_http(good, "tokens", b"x") == b"good"
