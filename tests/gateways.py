"""What tests of the gateway share: a city with residents, tokens, a client that checks every response, real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from jsonschema import Draft202012Validator
from starlette.routing import Match
from starlette.testclient import TestClient

import datasov as ds
from datasov.gateway.app import app
from datasov.gateway.auth import Issuer, JwtVerifier
from datasov.gateway.shared import Limits
from datasov.model.schema import Schema
from tests.helpers import NOW, PEOPLE, PURPOSE, TRIPS, Clock, consent_for, contribution

URL, AUDIENCE = "https://issuer.example/realms/city", "https://gateway.example"
KEY = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"}, private=True)
EASY = Limits(client_rate=1e6, client_burst=10**6, all_rate=1e6, all_burst=10**6, tick_ms=0)
TABLES: Mapping[str, Schema] = {"trips": TRIPS, "people": PEOPLE}
QUESTION: dict[str, Any] = {
    "question": {"table": "trips", "keys": ["district"], "bound": {"rows": 5, "keys": 2}, "ask": ["count"]},
    "loss": {"rho": "0.01"}, "purpose": PURPOSE,
}  # fmt: skip


class Keys:
    """Public keys in memory, as a source of keys."""

    def __init__(self, *keys: ECKey) -> None:
        self.held = [k.as_dict(private=False) for k in keys]
        self.asked = 0

    async def keys(self, *, again: bool = False) -> list[dict[str, Any]]:
        self.asked += again
        return self.held


def token(
    *roles: str, subject: str = "ana", key: ECKey = KEY, header: Mapping[str, Any] | None = None, **claims: Any
) -> str:
    """A token of the issuer; a claim given as None is left out."""
    made = {"iss": URL, "aud": AUDIENCE, "sub": subject, "exp": NOW + 90 * 86_400, "roles": list(roles), **claims}
    head = {"alg": "ES256", "kid": "one", **(header or {})}
    return jwt.encode(head, {n: v for n, v in made.items() if v is not None}, key)


def bearer(*roles: str, **given: Any) -> dict[str, str]:
    """The header with a token."""
    return {"authorization": f"Bearer {token(*roles, **given)}"}


def city_of(path: Path, clock: Clock, residents: int = 20, **given: Any) -> ds.City:
    """A city in which each of some residents has a trip."""
    city = ds.City.open(path, **{"budget": ds.zcdp(rho=1), "purposes": [PURPOSE], "clock": clock, **given})
    pairs = []
    for n in range(residents):
        consent = consent_for(city, TRIPS, n, loss=ds.zcdp(rho=1))
        pairs.append((consent, contribution(city, consent, n, 1, TRIPS, [{"district": "NESW"[n % 4], "km": n}])))
    assert city.admit_many(pairs) == [None] * residents
    return city


class Client:
    """Requests to an application, each response checked against its OpenAPI document."""

    def __init__(self, inner: TestClient, document: dict[str, Any], routes: Any, app: Any = None) -> None:
        self.inner, self.document, self._routes, self.app = inner, document, routes, app

    def __call__(self, method: str, url: str, *roles: str, headers: Any = None, **given: Any) -> httpx.Response:
        own = bearer(*roles) if roles else {}
        response = self.inner.request(method, url, headers={**own, **(headers or {})}, **given)
        self.check(method, response)
        return response

    def post(
        self, url: str, body: Any, *, key: str | None = None, subject: str = "ana", **given: Any
    ) -> httpx.Response:
        headers = bearer("analyst", subject=subject) | ({} if key is None else {"idempotency-key": key})
        return self("POST", url, json=body, headers={**headers, **given.pop("headers", {})}, **given)

    def check(self, method: str, response: httpx.Response) -> None:
        """Raise unless the document says that the operation answers so."""
        scope = {"type": "http", "method": method, "path": response.url.path, "headers": [], "path_params": {}}
        path = next((r.path for r in self._routes if r.matches(scope)[0] == Match.FULL), None)
        if path is None:
            assert response.status_code in (404, 405)
            assert response.headers["content-type"] == "application/problem+json"
            return
        operation = self.document["paths"][path][method.lower()]
        reply = operation["responses"][str(response.status_code)]
        if "content" not in reply:
            assert response.content == b""
            return
        media = response.headers["content-type"].partition(";")[0]
        schema = reply["content"][media]["schema"]
        if media.endswith("json"):
            whole = {**schema, "components": self.document["components"]}
            Draft202012Validator(whole).validate(response.json())


@contextmanager
def client_of(city: ds.City, clock: Clock, *, limits: Limits = EASY, **given: Any) -> Iterator[Client]:
    """A client of the city's gateway; the city stays open."""
    verifier = JwtVerifier(Issuer(URL, AUDIENCE), Keys(KEY), clock)
    made = app(city, **{"verifier": verifier, "tables": TABLES, "limits": limits, "clock": clock, **given})
    with TestClient(made, raise_server_exceptions=False, base_url="http://localhost") as inner:
        yield Client(inner, made.state.openapi, made.routes, made)


def short(**changed: Any) -> Limits:
    """Limits for a test of one of them."""
    return replace(EASY, **changed)


@contextmanager
def issuer_of(folder: Path, *keys: ECKey) -> Iterator[tuple[str, Path]]:
    """An issuer as a process of its own: its URL, and the file whose keys it serves."""
    file = folder / "keys.json"
    write_keys(file, *keys)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        command = [sys.executable, "-m", "uvicorn", "tests.issuer:app", "--fd", str(listening.fileno())]
        root = Path(__file__).resolve().parent.parent
        process = subprocess.Popen(
            command, cwd=root, pass_fds=[listening.fileno()], env={**os.environ, "ISSUER": url, "KEYS": str(file)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            urllib.request.urlopen(url + "/.well-known/openid-configuration", timeout=30).read()  # noqa: S310
            yield url, file
        finally:
            process.terminate()
            process.wait(10)


def write_keys(file: Path, *keys: ECKey) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))
    part.rename(file)


@contextmanager
def served(
    city: Path, *options: str, errors: Path | None = None, started: list[subprocess.Popen[str]] | None = None
) -> Iterator[str]:  # fmt: skip
    """`datasov serve` as a process of its own, which is put into `started`; its URL, once it answers."""
    with open(errors or os.devnull, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "datasov.cli", "serve", str(city), "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    if started is not None:
        started.append(process)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the server did not start"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(url + "/healthz", timeout=10).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(90)
        if process.stdout is not None:
            process.stdout.close()
