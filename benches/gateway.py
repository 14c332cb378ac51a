"""The gateway under many clients: stored releases by their identifiers, and new questions beside them.

`datasov serve` runs with two processes over a city on disk, for tokens of an issuer, as it does for a city; a second
process sends the load, on raw sockets over loopback, so that both share the machine's cores. Each of `clients` keeps
one connection open, has a token of its own, and sends its next request when the last one is answered. The time begins
once all are connected and send.

`cached_per_s` counts answers of 200 to `GET /v1/releases/{id}` (JSON with intervals) a second of the clock. `errors`
counts all that is neither 200 nor 429, and connections that broke. `p99_ms` is the time within which 99 % of the
answers came: with N clients and R answers a second the mean is N / R. One client in a hundred asks new questions all
the while (`new_per_s`, each charged, noised and logged; `new_refused` of them were told to wait, 429). What a cached
answer takes, as a busy machine does not change it much: `server_ms_each` and `load_ms_each`, milliseconds of processor
time of all the server's processes (new questions included) and of the load, over the cached answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import datasov as ds
from datasov.authority import messages
from datasov.authority.admission import pack_table
from datasov.crypto.kdf import sha256
from datasov.model.frames import encode

_RESIDENTS, _TICK_MS, _AUDIENCE, _ISSUER = 1000, 1000, "bench", "https://bench.example"


def run(size: str) -> dict[str, object]:
    """The figures: "small" is 100 clients for 3 s, "full" is 1,000 clients for 60 s."""
    return measured(*((1000, 60.0) if size == "full" else (100, 3.0)))


def measured(clients: int, seconds: float) -> dict[str, object]:
    """The figures of so many clients for so long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = _city(folder)
        tokens = _tokens(folder, clients)
        (folder / "table.json").write_text(json.dumps(schema.document()))
        command = [
            sys.executable, "-m", "datasov.cli", "serve", str(folder / "bench.city"), "--port", "0", "--workers", "2",
            "--table", str(folder / "table.json"), "--issuer", _ISSUER, "--audience", _AUDIENCE,
            "--jwks", str(folder / "keys.json"), "--tick-ms", str(_TICK_MS), "--client-rate", "1000",
        ]  # fmt: skip
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2])
            given = {"port": port, "server": server.pid, "clients": clients, "seconds": seconds, "tokens": tokens}
            load = subprocess.run(
                [sys.executable, "-m", "benches.gateway"], input=json.dumps(given), stdout=subprocess.PIPE, text=True,
                check=True,
            )  # fmt: skip
        finally:
            server.terminate()
            server.wait(60)
            if server.stdout is not None:
                server.stdout.close()
    return dict(json.loads(load.stdout))


def _spent(process: int) -> float:
    """Processor seconds of a process and those under it so far; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        threads = Path(f"/proc/{process}/task").iterdir()
        return own + sum(_spent(int(child)) for t in threads for child in (t / "children").read_text().split())
    return 0.0


def _city(folder: Path) -> ds.Schema:
    """A city of residents with rows."""
    from benches.consent import NOW, PURPOSE, SCHEMA, consents

    row = {"district": "N", "km": 7, "at": "2027-06-01T08:00"}
    packed = pack_table(SCHEMA, encode(SCHEMA, [row]))
    with ds.City.open(
        folder / "bench.city", budget=ds.zcdp(rho=1000), purposes=[PURPOSE], processing="JP-10",
        clock=lambda: NOW + 1,
    ) as city:  # fmt: skip
        pairs = []
        for consent, key in consents(city.id, _RESIDENTS):
            sent = messages.Contribution(consent.digest, 1, sha256(consent.digest), packed)
            pairs.append((consent.token, messages.sign_contribution(sent, key, city.id)))
        if any(city.admit_many(pairs)):
            raise AssertionError("a contribution was refused")
    return SCHEMA


def _tokens(folder: Path, clients: int) -> list[str]:
    from joserfc import jwt
    from joserfc.jwk import ECKey, KeySet

    key = ECKey.generate_key("P-256", {"kid": "bench"}, private=True)
    (folder / "keys.json").write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "exp": int(time.time()) + 3600, "roles": ["analyst"]}
    return [jwt.encode({"alg": "ES256", "kid": "bench"}, {**claims, "sub": f"client {n}"}, key) for n in range(clients)]


class _Client(asyncio.Protocol):
    """One connection that sends the same request, or the next of several, as soon as the last was answered."""

    def __init__(self, load: _Load, number: int) -> None:
        self.load, self.number, self.buffer, self.length, self.sent = load, number, b"", -1, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.load.request(self.number))

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if self.length < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self.buffer.find(b"\r\ncontent-length: ", 0, end) + 2  # uvicorn writes names in lower case
            self.length = end + 4 + int(self.buffer[at + 16 : self.buffer.index(b"\r\n", at)])
        if len(self.buffer) < self.length:
            return
        status, self.buffer, self.length = int(self.buffer[9:12]), b"", -1
        self.load.answered(self.number, status, time.perf_counter() - self.sent)
        if not self.load.over:
            if status == 429:
                self.load.loop.call_later(1.0, self.send)
            else:
                self.send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.load.over:
            self.load.errors += 1


class _Load:
    """All clients, what they send, and what came back."""

    def __init__(self, port: int, server: int, clients: int, seconds: float, tokens: list[str]) -> None:
        self.port, self.server, self.clients, self.seconds, self.tokens = port, server, clients, seconds, tokens
        self.loop = asyncio.get_running_loop()
        self.over, self.cached, self.errors, self.new, self.refused, self.asked = False, 0, 0, 0, 0, 0
        self.taken: list[float] = []
        self.get: list[bytes] = []

    def request(self, number: int) -> bytes:
        return self.ask(number) if number % 100 == 99 else self.get[number]

    def ask(self, number: int) -> bytes:
        """A question that was not asked before."""
        self.asked += 1
        body = json.dumps({
            "question": {"table": "trips", "keys": ["district"], "bound": {"rows": 5, "keys": 2}, "ask": ["count"]},
            "loss": {"rho": f"0.0001{self.asked:05d}"}, "purpose": "bus-planning",
        })  # fmt: skip
        return (
            f"POST /v1/releases HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.tokens[number]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def answered(self, number: int, status: int, seconds: float) -> None:
        new = number % 100 == 99
        if status == 200:
            self.new, self.cached = self.new + new, self.cached + (not new)
            if not new:
                self.taken.append(seconds)
        elif status == 429:
            self.refused += 1
        else:
            self.errors += 1

    async def first(self) -> str:
        """Where the stored release is, once the server answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.ask(0))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        if " 200 " not in head:
            raise AssertionError(head)
        return next(line[10:] for line in head.split("\r\n") if line.startswith("location: "))

    async def _connect(self, number: int) -> None:
        await self.loop.create_connection(lambda: _Client(self, number), "127.0.0.1", self.port)

    async def figures(self) -> dict[str, object]:
        place = await self.first()
        self.get = [
            f"GET {place} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {t}\r\n\r\n".encode() for t in self.tokens
        ]
        for first in range(0, self.clients, 50):
            numbers = range(first, min(first + 50, self.clients))
            await asyncio.gather(*(self._connect(number) for number in numbers))
        self.cached, self.new, self.refused, self.taken = 0, 0, 0, []
        began, own, served = time.perf_counter(), time.process_time(), _spent(self.server)
        await asyncio.sleep(self.seconds)
        self.over, spent = True, time.perf_counter() - began
        own, served = time.process_time() - own, _spent(self.server) - served
        self.taken.sort()
        return {
            "clients": self.clients, "seconds": round(spent, 1), "cached_per_s": self.cached / spent,
            "errors": self.errors, "p99_ms": 1000 * self.taken[int(len(self.taken) * 0.99)],
            "p50_ms": 1000 * self.taken[len(self.taken) // 2], "new_per_s": self.new / spent,
            "new_refused": self.refused, "server_ms_each": 1000 * served / max(self.cached, 1),
            "load_ms_each": 1000 * own / max(self.cached, 1),
        }  # fmt: skip


async def _main() -> None:
    given = json.loads(sys.stdin.read())
    print(json.dumps(await _Load(**given).figures()))


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
