"""What strangers send to an aggregator exhausts neither its memory nor its threads."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import datasov as ds
from datasov.aggregator import place
from datasov.aggregator.aggregator import LONGEST
from datasov.aggregator.app import app
from datasov.aggregator.door import SMALL, Door, Full, longest
from datasov.aggregator.messages import MOST_BODY
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey

PATHS = ("tasks", "reports", "tokens", "keys", "jobs", "close", "collect", "unknown")


def client(handle: Callable[[str, bytes], bytes], **given: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app(handle, lambda: 0, **given)), base_url="http://here")


def echo(path: str, body: bytes) -> bytes:
    return path.encode() + len(body).to_bytes(4, "big")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_is_as_long_as_its_path_allows_and_no_longer(path: str) -> None:
    most, door = longest(path), Door()
    assert most == LONGEST.get(path, MOST_BODY if path in ("reports", "jobs") else SMALL)
    with door.request(path) as body:
        body.add(bytes(most))
        with pytest.raises(Full) as refused:
            body.add(b"x")
        assert refused.value.status == 413
        assert len(body.data) == most


def test_what_is_in_memory_is_bounded_by_path_and_given_back() -> None:
    door = Door({"reports": 1000, "jobs": 1000}, others=500)
    with door.request("reports") as first:
        first.add(bytes(SMALL))
        first.add(bytes(600))
        with door.request("reports") as second:
            second.add(bytes(SMALL + 400))
            with pytest.raises(Full) as refused:
                second.add(b"x")
            assert refused.value.status == 503
        with door.request("jobs") as job:
            job.add(bytes(SMALL + 1000))  # the other aggregator's batches have room of their own
        with door.request("reports") as small:
            small.add(bytes(SMALL))  # and a device's report comes in beside
        with door.request("reports") as third, pytest.raises(Full):
            third.add(bytes(SMALL + 401))
        with door.request("reports") as fourth:
            fourth.add(bytes(SMALL + 400))
    with door.request("reports") as all_of_it:
        all_of_it.add(bytes(SMALL + 1000))


def test_requests_beyond_the_room_are_told_to_come_again() -> None:
    async def run() -> None:
        held, go = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield bytes(SMALL + 900)
            held.set()
            await go.wait()
            yield b"end"

        async with client(echo, door=Door({"reports": 1000, "jobs": 1000})) as http:
            first = asyncio.create_task(http.post("/reports", content=slow()))
            await held.wait()
            refused = await http.post("/reports", content=bytes(SMALL + 200))
            assert (refused.status_code, refused.json()["error"]) == (503, "PeerError")
            assert (await http.post("/reports", content=b"small")).content == echo("reports", b"small")
            assert (await http.post("/jobs", content=bytes(SMALL + 200))).status_code == 200
            go.set()
            assert (await first).content == echo("reports", bytes(SMALL + 903))
            assert (await http.post("/reports", content=bytes(SMALL + 1000))).status_code == 200

    asyncio.run(run())


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def run() -> None:
        async def never() -> AsyncIterator[bytes]:
            yield bytes(SMALL + 900)
            await asyncio.Event().wait()

        async with client(echo, door=Door({"reports": 1000}), seconds=0.05) as http:
            refused = await http.post("/reports", content=never())
            assert (refused.status_code, refused.json()["error"]) == (408, "InvalidDataError")
            assert (await http.post("/reports", content=bytes(SMALL + 1000))).status_code == 200

    asyncio.run(run())


def test_who_collects_keeps_a_few_threads_and_no_more() -> None:
    go, busy = threading.Event(), threading.Semaphore(0)

    def handle(path: str, body: bytes) -> bytes:
        if path == "collect":
            busy.release()
            assert go.wait(30)
        return echo(path, body)

    async def run() -> None:
        async with client(handle, door=Door(collecting=3)) as http:
            waiting = [asyncio.create_task(http.post("/collect", content=bytes(32))) for _ in range(3)]
            for _ in waiting:
                await asyncio.to_thread(busy.acquire)
            refused = await http.post("/collect", content=bytes(32))
            assert (refused.status_code, refused.json()["error"]) == (503, "PeerError")
            assert (await http.post("/reports", content=b"small")).status_code == 200
            go.set()
            assert [(await each).status_code for each in waiting] == [200] * 3
            assert (await http.post("/collect", content=bytes(32))).status_code == 200

    asyncio.run(run())


def test_a_server_of_its_own_guards_its_connections(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = free.getsockname()
    place.make(tmp_path / "a", name="a", url=f"http://127.0.0.1:{at[1]}", budget=ds.zcdp(rho=1))
    city = ds.CityId("lake", SigningKey(bytes(32)).public, OpeningKey(bytes(32)).public)
    command = [sys.executable, "-m", "datasov.cli", "aggregator", "serve", str(tmp_path / "a"), "--city", str(city)]
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    refused = httpx.post(f"http://127.0.0.1:{at[1]}/tokens", content=bytes(SMALL + 1))
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            assert refused.status_code == 413
            with socket.create_connection(at, timeout=30) as stranger:
                stranger.sendall(b"POST /reports HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(100)))
                assert stranger.recv(100).startswith(b"HTTP/1.1 431")
        finally:
            process.terminate()
