"""One suite over a city on every store: what it promises does not depend on where its database is."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing

import pytest

import datasov as ds
from datasov.errors import StoreError
from datasov.store import place
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.whole import read_whole
from datasov.upkeep.check import check
from tests.audit import audit
from tests.helpers import (
    COUNT,
    NOW,
    PURPOSE,
    RHO,
    TRIPS,
    consent_for,
    contribution,
    enrol,
    found_city,
    instant,
    revocation,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("few_status_lists")
KINDS = ["sqlite", "postgres"]


def rows(n: int) -> list[dict[str, object]]:
    return [{"district": "NESW"[n % 4], "km": n}]


def ask(city: ds.City, number: int) -> bytes:
    """Which answer it is, and the hash of its bytes."""
    found = city.release(COUNT.bound(rows=number), loss=RHO, purpose=PURPOSE)
    return found.identifier + found.digest


def named(request, kind: str, schema: str | None = None) -> str | None:
    """The URL of a store of this kind; None for a file."""
    return request.getfixturevalue("postgres").url(schema) if kind == "postgres" else None


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def at(request, kind) -> str | None:
    return named(request, kind)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lake.city"


@pytest.fixture
def change(request, kind, path):
    """Run an SQL statement on a closed city's database, as somebody without the key would."""

    def run(statement: str) -> None:
        store, _ = place.open_store(path, None)
        with closing(store):
            if isinstance(store, SQLiteStore):
                assert store._db.execute(statement).rowcount == 1
            else:
                server = request.getfixturevalue("postgres")
                assert server.sql(f"SET search_path = {store.where.schema}; {statement} RETURNING 1") == "1"

    return run


def test_a_city_answers_retries_and_opens_again(tmp_path, path, clock, at):
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(8), rows)
        first = ask(city, 3)
        assert ask(city, 3) == first
        identity = city.id
        assert (path / "city.db").exists() == (at is None)
    with ds.City.open(path, clock=clock) as city:
        assert city.id == identity
        assert ask(city, 3) == first
        assert city.remaining == ds.zcdp(rho="0.9")
        enrol(city, range(8, 12), rows)
        ask(city, 4)
        assert audit(city) == 2
    assert [f for f in check(path) if f.fault] == []
    with pytest.raises(StoreError, match="budget"):
        ds.City.open(path, budget=ds.zcdp(rho=2), clock=clock)


def test_revoked_rows_are_erased_and_expired_too(tmp_path, clock, at):
    with found_city(tmp_path, clock, store=at) as city:
        consents = enrol(city, range(4), rows)
        ask(city, 3)
        city.revoke(revocation(consents[0], 0))
        clock.now += 16 * 86_400
        city.tick()
        (partition,) = city._registry.refresh()
        shard = city._pool._shard(TRIPS, partition, 0)
        assert sorted(shard.rows["km"]) == [1, 2, 3]
        assert not [name for name in city._store.blobs() if name.startswith("pool/")]
        city._store.verify()


@pytest.mark.parametrize("statement", [
    "UPDATE entries SET body = '{}' WHERE stream = 'ledger' AND seq = 1",
    "DELETE FROM entries WHERE stream = 'releases'",
    "DELETE FROM heads WHERE position = (SELECT max(position) FROM heads)",
])  # fmt: skip
def test_a_row_that_is_changed_without_the_key_is_found(tmp_path, path, clock, at, change, statement):
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(4), rows)
        ask(city, 3)
    change(statement)
    with pytest.raises(StoreError, match="without its key"):
        ds.City.open(path, clock=clock)
    assert [f.part for f in check(path) if f.fault][:1] == ["database"]


def test_a_store_that_goes_back_is_behind_its_anchor(tmp_path, path, clock, kind, at, request):
    """The whole database of an hour ago, as its administrator would bring it back."""
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(4), rows)
        ask(city, 3)
        city._store.copy(tmp_path / "earlier.db")
        ask(city, 4)
    if kind == "sqlite":
        shutil.copyfile(tmp_path / "earlier.db", path / "city.db")
        for end in ("-wal", "-shm"):
            (path / f"city.db{end}").unlink(missing_ok=True)
    else:
        store, _ = place.open_store(path, None)
        with closing(store):
            store.load(tmp_path / "earlier.db")
    with pytest.raises(StoreError, match="behind its anchor"):
        ds.City.open(path, clock=clock)
    with ds.City.open(path, clock=clock, reanchor=True) as city:
        assert len(read_whole(city.log, [city.id]).operators.restorations) == 1


def test_threads_race_for_the_last_of_the_budget(tmp_path, clock, at):
    with found_city(tmp_path, clock, store=at, budget=ds.zcdp(rho="0.3")) as city:
        enrol(city, range(4), rows)
        barrier, results = threading.Barrier(10), []

        def run(i: int) -> None:
            barrier.wait()
            try:
                results.append(ask(city, i // 2 + 1))
            except ds.BudgetExceededError:
                results.append(None)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 10
        assert len(set(results) - {None}) == 3
        assert results.count(None) == 4
        assert audit(city) == 3


@pytest.mark.parametrize("to", KINDS)
def test_a_backup_is_restored_on_either_store(tmp_path, path, clock, request, at, to):
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(8), rows)
        first = ask(city, 3)
        enrol(city, range(8, 10), rows)
        city.backup(tmp_path / "backup")
        head = city._store.head()
        ask(city, 4)
        later = place.anchor_path(path).read_bytes()
    shutil.rmtree(path)
    there = named(request, to)
    with pytest.raises(StoreError, match="behind its anchor"):
        ds.City.restore(tmp_path / "backup", path, clock=clock, store=there)
    assert not path.exists()
    assert place.anchor_path(path).read_bytes() == later
    place.anchor_path(path).unlink()
    with ds.City.restore(tmp_path / "backup", path, clock=clock, store=there, reanchor=True) as city:
        assert city._store.head(head[0]) == head, "the chain goes on as it was"
        assert (path / "city.db").exists() == (there is None)
        assert ask(city, 3) == first
        enrol(city, range(10, 12), rows)
        ask(city, 4)
        assert audit(city) == 2
    assert [f for f in check(path) if f.fault] == []


def test_another_key_for_a_city(tmp_path, path, clock, at):
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(6), rows)
        first, before = ask(city, 3), city.id
        late = consent_for(city, TRIPS, 9)
        sent = contribution(city, late, 9, 1, TRIPS, rows(9))
        renewed = city.rotate()
    assert renewed != before
    assert sorted(p.name for p in path.iterdir()) == sorted(["pool", "city.db" if at is None else "store.json"])
    with ds.City.open(path, clock=clock) as city:
        assert city.id == renewed
        assert ask(city, 3) == first
        city.admit(late, sent)
        ask(city, 4)
        assert audit(city) == 2
    assert [f for f in check(path) if f.fault] == []
    assert ds.City.migrate(path, clock=clock) is None


def test_an_exchange_that_is_cut_off_leaves_the_city_of_before(tmp_path, path, clock, at, monkeypatch):
    with found_city(tmp_path, clock, store=at) as city:
        enrol(city, range(6), rows)
        first, before = ask(city, 3), city.id
    key = place.key_path(path).read_bytes()

    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("datasov.upkeep.exchange._write_key", fails)
        city = ds.City.open(path, clock=clock)
        with pytest.raises(StoreError, match="disk is full"):
            city.rotate()
    assert place.key_path(path).read_bytes() == key
    with ds.City.open(path, clock=clock) as city:
        assert city.id == before
        assert ask(city, 3) == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake.city", "lake.city.anchor", "lake.city.key"]


def test_a_vault_s_owner_meets_the_same_city(tmp_path, clock, at, people):
    with found_city(tmp_path, clock, store=at) as city:
        ann = people("ann")
        ann.put(TRIPS, rows(3))
        consent = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until=instant(NOW + 90_000))
        city.admit(consent, ann.contribute(consent))
        ask(city, 3)
        assert len(ann.receipts(city.log)) == 1
