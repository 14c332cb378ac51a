"""`datasov serve`: a process of its own, as a user starts it."""

import json
import sys
from pathlib import Path

import httpx
import pytest

import datasov as ds
from datasov.cli import main
from datasov.errors import InvalidQueryError, PeerError
from datasov.gateway import serve
from datasov.gateway.serve import Settings
from tests.gateways import AUDIENCE, KEY, issuer_of, served, token
from tests.helpers import PURPOSE, TRIPS

QUESTION = {
    "question": {"table": "rides", "keys": ["district"], "bound": {"rows": 5, "keys": 2}, "ask": ["count"]},
    "loss": {"rho": "0.01"}, "purpose": PURPOSE,
}  # fmt: skip
RIDES = ds.Schema("rides", domain="mobility", columns=dict(TRIPS.items), keys=[("district",)])


@pytest.fixture
def city(tmp_path: Path) -> Path:
    ds.City.open(tmp_path / "lakeside.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]).close()
    (tmp_path / "rides.json").write_text(json.dumps(RIDES.document()))
    return tmp_path / "lakeside.city"


def test_a_city_is_served_with_nothing_but_its_name(city: Path) -> None:
    with served(city, "--table", str(city.parent / "rides.json"), "--tick-ms", "10") as url:
        file = city.with_name("lakeside.city.token")
        assert file.stat().st_mode & 0o777 == 0o600
        assert httpx.get(url + "/v1/budget").status_code == 401
        headers = {"authorization": f"Bearer {file.read_text().strip()}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as ask:
            tables = {t["name"] for t in ask.get("/v1/catalogue").json()["tables"]}
            assert tables == {"rides", *ds.catalogue.names()}
            made = ask.post("/v1/releases", json=QUESTION, headers={"idempotency-key": "k"})
            assert made.status_code == 200
            assert ask.get(made.headers["location"]).json() == made.json()


@pytest.mark.campaign
def test_several_processes_serve_one_city_to_an_issuers_tokens(city: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    table = ("--table", str(city.parent / "rides.json"))
    with (
        issuer_of(tmp_path, KEY) as (issuer, _),
        served(
            city, *table, "--workers", "2", "--issuer", issuer, "--audience", AUDIENCE, "--tick-ms", "10", errors=log
        ) as url,
    ):
        assert not city.with_name("lakeside.city.token").exists()
        text = token("analyst", iss=issuer, exp=4_000_000_000)
        headers = {"authorization": f"Bearer {text}", "idempotency-key": "k"}
        ids, left = set(), set()
        for _ in range(12):  # each on a connection of its own, to either process
            made = httpx.post(url + "/v1/releases", json=QUESTION, headers=headers, timeout=60)
            assert made.status_code == 200
            ids.add(made.json()["id"])
            left.add(httpx.get(url + "/v1/budget", headers=headers).json()["remaining"]["rho"])
        assert (len(ids), left) == (1, {"0.99"})
    assert text[:30] not in log.read_text()
    assert "district" not in log.read_text()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"host": "0.0.0.0"}, "--issuer"),  # noqa: S104
        ({"host": "0.0.0.0", "issuer": "https://i.example", "audience": "a"}, "--tls-certificate"),  # noqa: S104
        ({"issuer": "https://i.example"}, "--audience"),
        ({"issuer": "http://i.example", "audience": "a"}, "https"),
        ({"algorithms": ("none",)}, "ES256"), ({"algorithms": ("HS256",)}, "ES256"),
        ({"roles": {"x": "root"}}, "analyst"), ({"workers": 0}, "1 to 64"), ({"port": 70_000}, "port"),
    ],
)  # fmt: skip
def test_no_door_is_open_by_mistake(given: dict[str, object], word: str) -> None:
    with pytest.raises((InvalidQueryError, PeerError), match=word):
        Settings("c", **given).check()  # type: ignore[arg-type]


def test_doors_that_may_be_opened() -> None:
    issued = {"issuer": "https://i.example", "audience": "a"}
    for given in (
        {}, {"host": "::1"}, issued, {**issued, "host": "0.0.0.0", "proxy": "10.0.0.1"},  # noqa: S104
        {**issued, "host": "0.0.0.0", "tls_certificate": "c.pem"},  # noqa: S104
    ):  # fmt: skip
        made = Settings("c", **given)  # type: ignore[arg-type]
        made.check()
        assert Settings.from_json(made.to_json()) == made


def test_what_cannot_be_served_is_said_before_anything_is_open(
    city: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in (["nowhere"], [str(city), "--table", "nowhere.json"], [str(city), "--host", "0.0.0.0"]):  # noqa: S104
        assert main(["serve", *options, "--port", "0"]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.startswith("datasov: ")) == ("", True)
    assert not city.with_name("lakeside.city.token").exists()
    monkeypatch.setitem(sys.modules, "datasov.gateway", None)
    monkeypatch.delitem(sys.modules, "datasov.gateway.serve", raising=False)
    assert main(["serve", str(city)]) == 2
    assert "datasov[gateway]" in capsys.readouterr().err


def test_tables_of_files_go_before_those_of_the_catalogue(tmp_path: Path) -> None:
    own = ds.Schema("trips", domain="mobility", columns={"km": ds.Integer(0, 9)})
    (tmp_path / "t.json").write_text(json.dumps(own.document()))
    found = serve.tables((str(tmp_path / "t.json"),))
    assert found["trips"] == own
    assert len(found) == len(ds.catalogue.names())
    (tmp_path / "t.json").write_text('{"name": "x"}')
    with pytest.raises(InvalidQueryError):
        serve.tables((str(tmp_path / "t.json"),))
