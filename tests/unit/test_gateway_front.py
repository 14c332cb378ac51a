"""The gateway's table of operations leads where Starlette's routes would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Match, Route

from datasov.gateway.app import app
from datasov.gateway.auth import Issuer, JwtVerifier
from datasov.gateway.front import Front
from tests.gateways import AUDIENCE, EASY, KEY, TABLES, URL, Client, Keys, bearer, city_of, client_of
from tests.helpers import Clock


def _front(folder: Path) -> Front:
    clock = Clock()
    verifier = JwtVerifier(Issuer(URL, AUDIENCE), Keys(KEY), clock)
    made = app(city_of(folder / "x.city", clock), verifier=verifier, tables=TABLES, limits=EASY, clock=clock)
    assert isinstance(made, Front)
    return made


def test_every_path_leads_to_the_endpoint_that_starlette_would_choose(tmp_path: Path) -> None:
    made = _front(tmp_path)
    routes = [route for route in made.routes if isinstance(route, Route)]
    texts = ["x", "a%2Fb", "0" * 32, "checkpoint", "entries", "{id}", "x/y", ""]
    paths = {re.sub(r"\{[^}]*\}", text, route.path) for route in routes for text in texts}
    paths |= {path + "/" for path in paths} | {"", "/", "//v1/budget", "/v1//budget", "/v1/releases"}
    quick = 0
    for method in ("GET", "POST", "HEAD", "PUT"):
        for path in paths:
            scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
            found = made._found(scope)
            matched = ((route, *route.matches(scope)) for route in routes)
            chosen = next(((r, child) for r, match, child in matched if match == Match.FULL), None)
            if found is None:
                continue
            quick += 1
            assert chosen is not None, (method, path)
            assert chosen[1]["path_params"] == found[1]
            assert chosen[0].endpoint is found[0]
    assert quick > len(routes)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    clock = Clock()
    with city_of(tmp_path_factory.mktemp("front") / "x.city", clock) as city, client_of(city, clock) as made:
        yield made


def test_two_headers_of_authorization_are_none(client: Client) -> None:
    one = bearer("analyst")["authorization"]
    assert client("GET", "/v1/budget", headers={"authorization": one}).status_code == 200
    twice = client.inner.get("/v1/budget", headers=[("authorization", one), ("Authorization", one)])
    assert twice.status_code == 401


def test_a_value_that_was_valid_once_makes_no_other_valid(client: Client) -> None:
    place = "/v1/releases/" + "0" * 32
    for _ in range(2):
        assert client("GET", place + "?part=rows", "analyst").status_code == 404
        for wrong in ("row", "ROWS", "rows%20", "1"):
            assert client("GET", f"{place}?part={wrong}", "analyst").status_code == 400
