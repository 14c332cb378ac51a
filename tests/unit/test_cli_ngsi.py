"""`datasov ngsi`, as a script calls it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from datasov.ngsi.intake import noted
from tests.helpers import COUNT, PURPOSE, enrol
from tests.ngsi import POWER, T0, T1, meter
from tests.orion import Linked, Orion, served

Run = Callable[..., str]
KEY = bytes(range(32))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; what it printed, once its exit code is the one expected."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        found = main(arguments)
        printed = capsys.readouterr()
        assert found == code, printed.err + printed.out
        assert all(line.startswith("datasov: ") for line in printed.err.splitlines())
        return printed.out + printed.err

    return call


@pytest.fixture
def city(run: Run, tmp_path: Path) -> Path:
    with ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city:
        enrol(city, "abc", lambda _: [{"district": "N", "km": 7}], issued=int(city._clock()) - 10, expires=10**10)
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    return tmp_path / "lake.city"


def test_entities_are_shown_in_each_form(run, city):
    lines = run("ngsi", "show", "lake.city").splitlines()
    assert len(lines) == 4
    assert {e["key_district"]["value"] for e in map(json.loads, lines)} == set("NESW")
    plain = run("ngsi", "show", "lake.city", "--form", "keyValues", "--project", "CrowdFlowObserved").splitlines()
    assert {json.loads(line)["type"] for line in plain} == {"DPStatistic", "CrowdFlowObserved"}
    linked = json.loads(run("ngsi", "show", "lake.city", "--form", "ngsi-ld", "--by", "question").splitlines()[0])
    assert "@context" in linked
    assert json.loads(lines[0])["id"] != linked["id"]
    assert (
        json.loads(run("ngsi", "show", "lake.city", "--confidence", "0.5").splitlines()[0])["confidence"]["value"]
        == 0.5
    )


def test_releases_are_published_once_and_the_token_comes_from_a_file(run, city, tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    orion = Orion()
    with served(orion) as (url, seen):
        given = ("ngsi", "publish", "lake.city", "--broker", url, "--service", "city", "--service-path", "/dp",
                 "--token-file", "token", "--batch", "3")  # fmt: skip
        assert "1 releases delivered, as 4 entities" in run(*given)
        assert [h["Authorization"] for _, _, h, _ in seen] == ["Bearer s3cret"] * 2
        found = json.loads(run(*given, "--json"))
        assert found == {"delivered": 0, "known": 1, "superseded": 0, "left": 0, "entities": 0, "failed": []}
        assert len(seen) == 2
        run(*given, "--outbox", "another")
        assert len(seen) == 4
    assert len(orion.held["city", "/dp"]) == 4
    assert (tmp_path / "lake.city.outbox").is_file()
    with served(Linked()) as (url, seen):
        run("ngsi", "publish", "lake.city", "--broker", url, "--dialect", "ngsi-ld", "--project", "Observation")
        assert len(json.loads(seen[0][3])) == 8


def test_what_failed_is_said_and_the_exit_code_tells(run, city):
    with served(lambda *_: (400, {}, {"description": "no"})) as (url, _):
        given = ("ngsi", "publish", "lake.city", "--broker", url, "--retries", "0")
        assert "is not at the broker: the broker refuses the entities: status 400" in run(*given, code=1)
        assert len(json.loads(run(*given, "--json", code=1).splitlines()[0])["failed"]) == 1
    assert "datasov: a broker's URL" in run("ngsi", "publish", "lake.city", "--broker", "orion", code=1)
    assert "no city is at" in run("ngsi", "publish", "sea.city", "--broker", "http://orion:1026", code=1)


def test_a_missing_library_is_exit_code_2(run, city, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert "pip install" in run("ngsi", "publish", "lake.city", "--broker", "http://orion:1026", code=2)


def test_open_series_are_followed_and_nothing_is_charged(run, city):
    walks = ds.Schema("walks", domain="mobility", columns={"at": ds.Timestamp("2020-01-01", "2030-01-01")})
    made = ds.series(ds.query(walks).count(), every="1d", rows=5, start="2020-01-01", steps=3)
    with ds.City.open("lake.city") as opened:
        opened.follow(ds.series(ds.query(walks).count(), every="7d", rows=5, start="2029-12-01", steps=3),
                      loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)  # fmt: skip
        opened.follow(made, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        before = opened.remaining
    orion = Orion()
    with served(orion) as (url, seen):
        given = ("ngsi", "follow", "lake.city", "--broker", url, "--by", "question", "--once")
        assert "3 releases delivered, as 3 entities" in run(*given)
        assert run(*given) == ""
        assert len(seen) == 3
    with ds.City.open("lake.city") as opened:
        assert opened.remaining == before
    ((_, entity),) = orion.held["", "/"].items()
    assert entity["step"]["value"] == 2


def test_a_failing_broker_is_told_by_follow(run, city):
    walks = ds.Schema("walks", domain="mobility", columns={"at": ds.Timestamp("2020-01-01", "2030-01-01")})
    made = ds.series(ds.query(walks).count(), every="1d", rows=5, start="2020-01-01", steps=2)
    with ds.City.open("lake.city") as opened:
        opened.follow(made, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    with served(lambda *_: (400, {}, {})) as (url, _):
        assert "step 1 is not at the broker" in run("ngsi", "follow", "lake.city", "--broker", url, "--once", code=1)


def test_intake_from_a_file_and_from_standard_input(run, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    ds.Resident.create("ann", device_key=KEY).close()
    (tmp_path / "one.json").write_text(json.dumps(meter(1, T0)))
    given = ("ngsi", "intake", "ann", "--device-key-file", "key")
    assert "0 rows put; 0 came before; 1 meters begin." in run(*given, "one.json")
    body = json.dumps([meter(2, T1), meter(3, T1, "MTQ", name="urn:b\x1b[2J")]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    said = run(*given, "-", code=1)
    assert "1 rows put" in said
    assert "another unit" in said
    assert "\x1b" not in said
    (tmp_path / "two.json").write_bytes(body)
    found = json.loads(run(*given, "two.json", "--json", code=1))
    assert (found["put"], found["duplicates"], found["refused"][0]["attribute"]) == (0, 1, "totalConsumption")
    with ds.Resident.open("ann", device_key=KEY) as ann:
        assert (ann.scan(POWER).height, ann.scan(noted("energy")).height) == (1, 4)


def test_intake_under_a_mapping_and_a_unit(run, tmp_path):
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    ds.Resident.create("ann", device_key=KEY).close()
    schema = ds.Schema("room", domain="energy", columns={
        "at": ds.Timestamp("2025-01-01", "2026-01-01"), "watts": ds.Integer(0, 9000, unit="W")})  # fmt: skip
    fields = {"watts": {"attribute": "power"}}
    mapping = {"type": "Room", "schema": schema.document(), "at": "at", "fields": fields}
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    (tmp_path / "e.json").write_text(json.dumps({"id": "r", "type": "Room", "power": 2, "dateObserved": T0}))
    run("ngsi", "intake", "ann", "e.json", "--mapping", "map.json", "--unit", "KWT", "--device-key-file", "key")
    with ds.Resident.open("ann", device_key=KEY) as ann:
        assert ann.scan(schema)["watts"].to_list() == [2000]
    assert "no JSON" in run("ngsi", "intake", "ann", "e.json", "--mapping", "key", "--device-key-file", "key", code=1)
    assert "cannot be read" in run("ngsi", "intake", "ann", "none.json", "--device-key-file", "key", code=1)
    assert "no vault is at" in run("ngsi", "intake", "bob", "e.json", "--device-key-file", "key", code=1)
