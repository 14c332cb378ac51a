"""Whatever is sent to any operation, the answer is one that its OpenAPI document names, and no fault."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateways import QUESTION, Client, bearer, city_of, client_of
from tests.helpers import Clock

SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
KNOWN = ["trips", "people.age", "district", "km", "resident", "1d", "0.5", "../x"]
TEXTS = st.text(max_size=12) | st.sampled_from(KNOWN)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS
WORDS = st.sampled_from([
    "question", "loss", "purpose", "programme", "as_of", "series", "table", "keys", "where", "bound", "ask", "top",
    "rows", "rho", "delta", "epsilon", "sql", "every", "at", "start", "steps", "delay", "column", "gt", "in", "between",
    "null", "and", "or", "not", "sum", "mean", "median", "quantile", "q", "per", "low", "high", "edges", "count",
])  # fmt: skip
JSONS = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=4) | st.dictionaries(WORDS | TEXTS, c, max_size=4), max_leaves=12
)
SEEDS: list[Any] = [
    QUESTION,
    {**QUESTION, "question": {"table": "trips", "where": {"or": [{"column": "km", "gt": 3}]}, "bound": {"rows": 1},
                              "keys": [{"bin": "km", "cuts": [3]}], "ask": [{"quantile": "km", "q": 0.5}]}},
    {**QUESTION, "question": {"sql": "SELECT COUNT(*) FROM trips", "bound": {"rows": 1}}},
    {"series": {"question": {"table": "trips", "ask": ["count"]}, "every": "1d", "rows": 1}, "loss": {"rho": 0.001},
     "purpose": QUESTION["purpose"]},
    {"question": QUESTION["question"], "loss": {"epsilon": 1}, "confidence": 0.9},
]  # fmt: skip


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    clock = Clock()
    with city_of(tmp_path_factory.mktemp("fuzz") / "c", clock, 4) as city, client_of(city, clock) as client:
        yield client


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid body with one place changed, taken away or added to."""
    body = json.loads(json.dumps(draw(st.sampled_from(SEEDS))))
    node, places = body, []
    while isinstance(node, dict | list) and node:
        name = draw(st.sampled_from(sorted(node))) if isinstance(node, dict) else draw(st.integers(0, len(node) - 1))
        places.append((node, name))
        node = node[name]
        if draw(st.booleans()):
            break
    at, name = places[-1]
    match draw(st.sampled_from(["set", "drop", "add"])):
        case "set":
            at[name] = draw(JSONS)
        case "drop":
            del at[name]
        case _ if isinstance(at, dict):
            at[draw(WORDS)] = draw(JSONS)
        case _:
            at.append(draw(JSONS))
    return body


def sent(ask: Client, path: str, content: bytes, headers: dict[str, str]) -> int:
    found = ask("POST", path, content=content, headers={**bearer("analyst"), **headers})
    assert found.status_code < 500
    return found.status_code


@settings(max_examples=60, **SETTINGS)
@given(path=st.sampled_from(["/v1/previews", "/v1/releases", "/v1/series"]), body=mutated() | JSONS)
def test_bodies(ask: Client, path: str, body: Any) -> None:
    sent(ask, path, json.dumps(body).encode(), {"content-type": "application/json"})


@settings(max_examples=25, **SETTINGS)
@given(path=st.sampled_from(["/v1/previews", "/v1/releases"]), body=st.binary(max_size=200), media=st.sampled_from(
    ["application/json", "text/plain", "application/json; charset=x", "", "/"]))  # fmt: skip
def test_bytes(ask: Client, path: str, body: bytes, media: str) -> None:
    assert sent(ask, path, body, {"content-type": media}) >= 400


PARAMETERS = st.dictionaries(
    st.sampled_from(["confidence", "part", "last", "limit", "before", "domain", "x"]), st.text(max_size=30), max_size=3
)
HEADERS = st.dictionaries(
    st.sampled_from(["accept", "if-none-match", "idempotency-key", "range", "authorization", "host"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), max_size=3,
)  # fmt: skip


@settings(max_examples=60, **SETTINGS)
@given(
    path=st.sampled_from(["/v1/releases", "/v1/releases/{}", "/v1/budget", "/v1/catalogue", "/openapi.json", "/healthz",
                          "/schemas/{}", "/problems/{}"]),
    name=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), query=PARAMETERS, headers=HEADERS,
    roles=st.sets(st.sampled_from(["analyst", "operator", "auditor", "x"])),
)  # fmt: skip
def test_parameters_and_headers(
    ask: Client, path: str, name: str, query: dict[str, str], headers: dict[str, str], roles: set[str]
) -> None:
    from urllib.parse import quote

    url = path.format(quote(name, safe=""))
    found = ask("GET", url, params=query, headers={**bearer(*roles), **headers})
    assert found.status_code < 500
