"""The analysts' operations, through the whole application; every response is checked against the OpenAPI document."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from openapi_spec_validator import validate

import datasov as ds
from datasov.gateway import formats, reading, schemas
from datasov.gateway.problems import KINDS, ProblemError
from datasov.gateway.question import question_of
from tests.gateways import EASY, QUESTION, TABLES, Client, bearer, city_of, client_of, short
from tests.helpers import COUNT, PEOPLE, PURPOSE, TRIPS, Clock

DAY = 86_400


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[ds.City]:
    with city_of(tmp_path_factory.mktemp("gateway") / "lakeside.city", clock) as city:
        yield city


@pytest.fixture(scope="module")
def ask(city: ds.City, clock: Clock) -> Iterator[Client]:
    with client_of(city, clock) as client:
        yield client


def test_document_is_valid_and_lists_every_route(ask: Client) -> None:
    found = ask("GET", "/openapi.json").json()
    validate(found)
    assert {r.path.replace(":path", "") for r in ask._routes} == set(found["paths"])
    assert found["openapi"] == "3.1.0"


def test_release_is_the_same_as_in_python_and_found_by_id(ask: Client, city: ds.City) -> None:
    made = ask.post("/v1/releases", QUESTION)
    assert made.status_code == 200
    told = made.json()
    same = city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    assert told["id"] == same.identifier.hex()
    assert told["digest"] == same.digest.hex()
    assert told["rows"] == same.frame().to_dicts()
    assert told["energy"] == same.energy.document()
    assert made.headers["location"] == f"/v1/releases/{told['id']}"
    again = ask("GET", made.headers["location"], "auditor")
    assert again.json() == told
    assert again.headers["etag"]
    assert told["id"] in [r["id"] for r in ask("GET", "/v1/releases", "operator").json()["releases"]]


def test_every_format_has_the_same_numbers(ask: Client) -> None:
    place = ask.post("/v1/releases", QUESTION).headers["location"]
    rows = ask("GET", place, "analyst").json()["rows"]
    read = {
        formats.CSV: lambda b: pl.read_csv(b), formats.PARQUET: pl.read_parquet, formats.ARROW: pl.read_ipc_stream,
    }  # fmt: skip
    for media, reader in read.items():
        got = ask("GET", place, "analyst", headers={"accept": media})
        assert got.headers["content-type"].startswith(media)
        frame = reader(io.BytesIO(got.content))
        assert frame.with_columns(pl.col("district").cast(pl.String)).to_dicts() == rows
        assert got.headers["datasov-release"] in place
        assert got.headers["datasov-loss"] == "rho=0.01; delta=0"
    told = json.loads(pl.read_parquet_metadata(io.BytesIO(ask(
        "GET", place, "analyst", headers={"accept": formats.PARQUET}
    ).content))["datasov"])  # fmt: skip
    assert told["purpose"] == PURPOSE


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", formats.JSON), ("text/csv;q=0.5, application/json;q=0.4", formats.CSV),
        ("application/*;q=0.2, text/csv;q=0.1", formats.JSON), ("application/json;q=0, */*", formats.CSV),
        ("text/html, */*;q=0.1", formats.JSON), ("TEXT/CSV", formats.CSV),
    ],
)  # fmt: skip
def test_negotiation(accept: str, media: str) -> None:
    assert formats.negotiated(accept, formats.MEDIA) == media


def test_no_form_that_is_accepted_is_406_and_spends_nothing(ask: Client, city: ds.City) -> None:
    left = city.remaining
    body = {**QUESTION, "loss": {"rho": "0.003"}}
    assert ask.post("/v1/releases", body, headers={"accept": "image/png"}).status_code == 406
    assert city.remaining == left


def test_etag_is_of_one_form_and_revalidates(ask: Client) -> None:
    place = ask.post("/v1/releases", QUESTION).headers["location"]
    first = ask("GET", place, "analyst")
    tags = {first.headers["etag"], ask("GET", place, "analyst", headers={"accept": "text/csv"}).headers["etag"]}
    tags.add(ask("GET", place + "?confidence=0.9", "analyst").headers["etag"])
    assert len(tags) == 3
    known = ask("GET", place, "analyst", headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
    assert (known.status_code, known.content) == (304, b"")
    assert ask("GET", place, "analyst", headers={"if-none-match": '"x"'}).status_code == 200
    assert "private" in first.headers["cache-control"]
    assert "authorization" in first.headers["vary"]


def test_confidence_widens_the_interval(ask: Client) -> None:
    place = ask.post("/v1/releases", QUESTION).headers["location"]
    wide, narrow = (ask("GET", f"{place}?confidence={c}", "analyst").json()["rows"][0] for c in (0.99, 0.5))
    assert wide["count"] == narrow["count"]
    assert wide["count_high"] > narrow["count_high"]


def test_preview_costs_nothing_and_says_what_python_says(ask: Client, city: ds.City) -> None:
    left = city.remaining
    told = ask("POST", "/v1/previews", "operator", json={k: QUESTION[k] for k in ("question", "loss")}).json()
    expected = city.preview(COUNT, loss=ds.zcdp(rho="0.01"))
    assert told["statistics"] == expected.frame.to_dicts()
    assert city.remaining == left


def test_sql_and_json_are_one_question(ask: Client) -> None:
    sql = {"sql": "SELECT district, COUNT(*) FROM trips GROUP BY district", "bound": {"rows": 5, "keys": 2}}
    assert (
        ask.post("/v1/releases", {**QUESTION, "question": sql}).json()["id"]
        == (ask.post("/v1/releases", QUESTION).json()["id"])
    )


@pytest.mark.parametrize(
    ("doc", "query"),
    [
        (
            {"table": "trips", "ask": [{"sum": "km", "low": 1, "high": "9"}, "distinct", "coverage"],
             "where": {"and": [{"column": "km", "between": [1, 40]}, {"not": {"column": "district", "eq": "N"}}]}},
            ds.query(TRIPS).where(ds.col("km").between(1, 40) & ~(ds.col("district") == "N"))
            .sum("km", low=1, high="9").distinct().coverage(),
        ),
        (
            {"table": "trips", "join": ["people"], "keys": [{"bin": "people.age", "cuts": [20, 65]}, "people.ward"],
             "bound": {"rows": 3}, "ask": [{"mean": "km"}, {"median": "km", "bins": 8}]},
            ds.query(TRIPS).join(PEOPLE).keys(ds.bin("people.age", [20, 65]), "people.ward").bound(rows=3)
            .mean("km").median("km", bins=8),
        ),
        (
            {"table": "trips", "keys": ["district"], "ask": [{"count": True, "per": {"bin": "km", "cuts": [5]}}]},
            ds.query(TRIPS).keys("district").count(per=ds.bin("km", [5])),
        ),
        (
            {"table": "trips", "ask": [{"sum": None, "per": "resident", "low": 0, "high": 9}, {"rows_per_key": "0.9"},
                                       {"quantile": "km", "q": "0.25", "edges": [10, 20]}]},
            ds.query(TRIPS).sum(None, per="resident", low=0, high=9).rows_per_key("0.9")
            .quantile("km", "0.25", edges=[10, 20]),
        ),
        (
            {"table": "trips", "keys": ["district"], "ask": ["count"], "top": 2,
             "where": {"or": [{"column": "km", "in": [1, 2]}, {"column": "km", "null": False},
                              {"column": "km", "lt": 9}, {"column": "km", "ge": 3}]}},
            ds.query(TRIPS).keys("district").where(
                ds.col("km").is_in([1, 2]) | ~ds.col("km").is_null() | (ds.col("km") < 9) | (ds.col("km") >= 3)
            ).count().top(2),
        ),
    ],
)  # fmt: skip
def test_json_form_says_what_the_python_form_says(doc: dict[str, object], query: ds.Query) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator(schemas.standalone("Question")).validate(doc)
    assert question_of(doc, TABLES) == query


def test_series_is_opened_once_and_grows(tmp_path: Path) -> None:
    clock = Clock()
    at = ds.Timestamp("2027-01-01", "2028-01-01")
    timed = ds.Schema("timed", domain="mobility", columns={"at": at}, keys=[])
    body = {
        "series": {"question": {"table": "timed", "ask": ["count"]}, "every": "1d", "rows": 10, "steps": 40},
        "loss": {"rho": "0.01"}, "purpose": PURPOSE,
    }  # fmt: skip
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock, tables={"timed": timed}) as ask:
        assert ask("POST", "/v1/previews", "analyst", json={n: body[n] for n in ("series", "loss")}).status_code == 200
        first = ask.post("/v1/series", body).json()
        assert first["kind"] == "series"
        steps = first["released_steps"]
        assert len(first["rows"]) == steps > 0
        left = city.remaining
        clock.now += DAY
        second = ask.post("/v1/series", body).json()
        assert (second["id"], second["released_steps"]) == (first["id"], steps + 1)
        assert city.remaining == left
        assert ask("GET", f"/v1/releases/{first['id']}?last=1", "analyst").json()["rows"][0] == first["rows"][0]
        assert ask("GET", "/v1/releases", "analyst").json()["releases"][0]["kind"] == "series"


def test_catalogue_and_budget(ask: Client, city: ds.City) -> None:
    whole = ask("GET", "/v1/catalogue", "analyst").json()
    assert [t["name"] for t in whole["tables"]] == ["trips", "people"]
    assert [t["name"] for t in ask("GET", "/v1/catalogue?domain=mobility", "analyst").json()["tables"]] == ["trips"]
    assert ask("GET", "/v1/catalogue?domain=nowhere", "analyst").status_code == 400
    told = ask("GET", "/v1/budget", "auditor").json()
    assert ds.zcdp(rho=told["remaining"]["rho"]) == city.remaining
    assert told["budget"] == {"measure": "zcdp", "rho": "1", "delta": "0"}


def test_pages_of_releases(ask: Client) -> None:
    for n in range(3):
        ask.post("/v1/releases", {**QUESTION, "loss": {"rho": f"0.0011{n}"}})
    all_ids = [r["id"] for r in ask("GET", "/v1/releases?limit=200", "analyst").json()["releases"]]
    found, before = [], ""
    while True:
        page = ask("GET", f"/v1/releases?limit=2{before}", "analyst").json()
        found += [r["id"] for r in page["releases"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert found == all_ids


def test_what_is_wrong_is_a_problem_that_names_the_next_step(ask: Client) -> None:
    cases = [
        ({**QUESTION, "purpose": "war"}, 403, "consent-refused", "purpose"),
        ({**QUESTION, "loss": {"rho": 5}}, 429, "budget-exceeded", "budget"),
        ({**QUESTION, "question": {"table": "x", "ask": ["count"]}}, 400, "invalid-question", "/v1/catalogue"),
        ({**QUESTION, "question": {"table": "trips", "ask": ["count"]}}, 400, "invalid-question", "bound"),
        ({**QUESTION, "more": 1}, 400, "invalid-request", "question, loss, purpose"),
        ({"loss": {"rho": 1}}, 400, "invalid-request", "question, purpose"),
        ({**QUESTION, "as_of": 1}, 400, "invalid-question", "as_of"),
    ]
    for body, status, name, word in cases:
        found = ask.post("/v1/releases", body)
        assert (found.status_code, found.json()["type"]) == (status, f"/problems/{name}")
        assert word in found.json()["detail"]
        assert ask("GET", found.json()["type"]).json()["status"] == status


def test_answers_too_large_to_send_are_refused_before_anything_is_spent(city: ds.City, clock: Clock) -> None:
    left = city.remaining
    with client_of(city, clock, limits=short(cells=3)) as ask:
        found = ask.post("/v1/releases", {**QUESTION, "loss": {"rho": "0.0007"}})
    assert found.status_code == 400
    assert "3 rows" in found.json()["detail"]
    assert city.remaining == left


def test_paths_and_methods_that_are_not_there(ask: Client) -> None:
    for path in (
        "/nothing",
        "/v1/releases/",
        "/v1/releases/../../etc/passwd",
        "/v1/releases/%2e%2e%2fx",
        "/v1/releases/x",
    ):
        assert ask("GET", path, "analyst").status_code == 404
    for path, allowed in (("/v1/budget", "GET, HEAD"), ("/v1/releases", "GET, HEAD, POST")):
        found = ask("DELETE", path, "operator")
        assert (found.status_code, found.headers["allow"]) == (405, allowed)
    assert ask("GET", "/v1/releases/" + "0" * 32, "analyst").status_code == 404
    assert ask("GET", "/schemas/Nothing").status_code == 404


def test_schemas_stand_alone(ask: Client) -> None:
    from jsonschema import Draft202012Validator

    for name in schemas.COMPONENTS:
        found = ask("GET", f"/schemas/{name}").json()
        Draft202012Validator.check_schema(found)
    Draft202012Validator(ask("GET", "/schemas/ReleaseRequest").json()).validate(QUESTION)


def test_faults_tell_nothing(city: ds.City, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret 4711")

    monkeypatch.setattr(type(city), "preview", broken)
    with client_of(city, clock) as ask:
        found = ask.post("/v1/previews", {n: QUESTION[n] for n in ("question", "loss")})
    assert found.status_code == 500
    assert "4711" not in found.text + caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_access_log_has_no_token_and_no_body(city: ds.City, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "datasov.gateway")
    with client_of(city, clock) as ask:
        headers = bearer("analyst")
        ask("GET", "/v1/budget?access_token=sesame", headers=headers)
        ask.post("/v1/releases", QUESTION)
    own = [r.getMessage() for r in caplog.records if r.name == "datasov.gateway"]
    assert [json.loads(line)["operation"] for line in own] == ["getBudget", "createRelease"]
    text = "\n".join(own)
    assert headers["authorization"][7:27] not in text
    assert not {"sesame", "district", "0.01", "127.0.0.1", "testclient"} & set(text.replace('"', " ").split())


def test_kinds_of_problems_have_statuses_of_errors() -> None:
    assert all(400 <= kind.status < 600 for kind in KINDS.values())
    assert EASY.tick_ms == 0


def test_bodies_are_at_most_so_deep() -> None:
    depth = reading.DEPTH
    assert reading.document_of(b"[" * depth + b"]" * depth)
    with pytest.raises(ProblemError, match="nested too deeply"):
        reading.document_of(b"[" * (depth + 1) + b"]" * (depth + 1))
