"""A city whose database is on a server: where it is, what is remembered of it, and the wrong one."""

from __future__ import annotations

import json
import shutil

import pytest

import datasov as ds
from datasov.cli import main
from datasov.errors import StoreError
from datasov.store import place
from datasov.store.sqlite import SQLiteStore
from tests.helpers import PURPOSE, found_city
from tests.postgres import Wire

pytest.importorskip("psycopg")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lake.city"


def test_no_password_is_written_down(tmp_path, path, clock, postgres):
    url = postgres.url("silent").replace("owner@", "owner:hunter2@")
    with found_city(tmp_path, clock, store=url):
        pass
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes()
    assert (path / "store.json").stat().st_mode & 0o077 == 0
    with ds.City.open(path, store=url, clock=clock) as city:
        city.rotate()
    assert b"hunter2" not in (path / "store.json").read_bytes()


def test_a_server_that_moved_is_named_once(tmp_path, path, clock, postgres):
    found_city(tmp_path, clock, store=postgres.url("moved")).close()
    wire = Wire(postgres.port)
    elsewhere = postgres.url("moved").replace(str(postgres.port), str(wire.port)).partition("?")[0]
    with ds.City.open(path, store=elsewhere, clock=clock) as city:
        assert city.remaining == ds.zcdp(rho=1)
    found = json.loads((path / "store.json").read_text())
    assert (found["connection"]["port"], found["schema"]) == (str(wire.port), "moved")
    ds.City.open(path, clock=clock).close()
    wire.close()


def test_the_wrong_store_is_refused_and_nothing_is_remembered(tmp_path, path, clock, postgres):
    found_city(tmp_path, clock, store=postgres.url("right")).close()
    (tmp_path / "b").mkdir()
    found_city(tmp_path / "b", clock, store=postgres.url("wrong")).close()
    said = (path / "store.json").read_bytes()
    for url, why in (
        (postgres.url("wrong"), "another city's store"), (postgres.url("empty"), "no city's store"),
        ("postgresql://owner@127.0.0.1:9/postgres", "see that it runs"), ("lake.db", "operating.md"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=why):
            ds.City.open(path, store=url, clock=clock)
    assert (path / "store.json").read_bytes() == said
    (path / "store.json").write_bytes(said.replace(b'"right"', b'"wrong"'))
    with pytest.raises(StoreError, match="another city's store"):
        ds.City.open(path, clock=clock)
    (path / "store.json").write_bytes(said)
    ds.City.open(path, clock=clock).close()


def test_a_copy_of_the_database_that_lags_is_behind_the_anchor(tmp_path, path, clock, postgres):
    with found_city(tmp_path, clock, store=postgres.url("newest")) as city:
        city._store.copy(tmp_path / "lag.db")
        identity = city._store.identity
        clock.now += 7_200
        city.tick()
    from datasov.store.postgres import PostgresStore
    from datasov.store.where import parse

    key = place.chain_key(place.key_path(path).read_bytes())
    lag = PostgresStore(parse(postgres.url("lag")), create=True, key=key)
    lag.load(tmp_path / "lag.db")
    lag.close()
    postgres.sql(f"UPDATE lag.store SET id = '\\x{identity.hex()}'")
    said = (path / "store.json").read_bytes()
    with pytest.raises(StoreError, match="behind its anchor"):
        ds.City.open(path, store=postgres.url("lag"), clock=clock)
    assert (path / "store.json").read_bytes() == said


def test_a_city_in_its_folder_names_no_server(tmp_path, path, clock, postgres):
    found_city(tmp_path, clock).close()
    with pytest.raises(StoreError, match="restore that with store="):
        ds.City.open(path, store=postgres.url(), clock=clock)


def test_two_cities_share_a_server_and_not_a_schema(tmp_path, clock, postgres):
    (tmp_path / "b").mkdir()
    url = f"postgresql://owner@127.0.0.1:{postgres.port}/postgres"
    with found_city(tmp_path, clock, store=url) as city:
        city.tick()
    assert postgres.sql("SELECT count(*) FROM lake.heads") != "0"
    with pytest.raises(StoreError, match="holds a city already"):
        found_city(tmp_path / "b", clock, store=url)
    assert not (tmp_path / "b" / "lake.city").exists()
    found_city(tmp_path / "b", clock, store=f"{url}?schema=lake_b").close()


def test_a_folder_that_is_lost_alone_founds_nothing_anew(tmp_path, path, clock, postgres):
    url = postgres.url("lost")
    with found_city(tmp_path, clock, store=url) as city:
        city.backup(tmp_path / "backup")
        clock.now += 7_200
        city.tick()
    shutil.rmtree(path)
    with pytest.raises(StoreError, match="anchor is here"):
        found_city(tmp_path, clock, store=url)
    place.anchor_path(path).unlink()
    with pytest.raises(StoreError, match="holds a city already"):
        found_city(tmp_path, clock, store=url)
    with pytest.raises(StoreError, match="holds a city already"):
        ds.City.restore(tmp_path / "backup", path, reanchor=True, store=url, clock=clock)
    assert not path.exists()


def test_at_the_command_line(tmp_path, monkeypatch, capsys, postgres):
    monkeypatch.chdir(tmp_path)
    url = postgres.url("cli")

    def run(*given: str, code: int = 0) -> str:
        assert main(given) == code, capsys.readouterr()
        printed = capsys.readouterr()
        return printed.out + printed.err

    found = ("city", "found", "lake.city", "--budget", "rho=1", "--purpose", PURPOSE, "--store")
    assert "PGPASSWORD" in run(*found, url.replace("owner@", "owner:hunter2@"), code=1)
    assert not (tmp_path / "lake.city").exists()
    run(*found, url)
    assert "rho = 1" in run("city", "show", "lake.city")
    assert "whole" in run("city", "check", "lake.city")
    run("city", "backup", "lake.city", "backup")
    run("city", "rotate", "lake.city")
    run("city", "backup", "lake.city", "backup2")
    assert "Nothing to do" in run("city", "migrate", "lake.city")
    run("log", "checkpoint", "lake.city")
    shutil.rmtree("lake.city")
    run("city", "restore", "lake.city", "backup2", "--store", postgres.url("cli2"))
    run("city", "backup", "lake.city", "backup3")
    shutil.rmtree("lake.city")
    run("city", "restore", "lake.city", "backup3")
    assert "whole" in run("city", "check", "lake.city")
    assert isinstance(place.open_store(tmp_path / "lake.city", None)[0], SQLiteStore)
