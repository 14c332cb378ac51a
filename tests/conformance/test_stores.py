"""One suite over every store: streams with compare-and-append, blobs, atomicity."""

from __future__ import annotations

import threading

import pytest

from datasov.errors import ConflictError, StoreError
from datasov.store.sqlite import SQLiteStore
from datasov.store.where import parse
from tests.helpers import MemoryStore


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    made = SQLiteStore(tmp_path / "s.db", create=True) if request.param == "sqlite" else on_postgres(request)
    yield made
    made.close()


def on_postgres(request):
    server = request.getfixturevalue("postgres")
    from datasov.store.postgres import PostgresStore

    return PostgresStore(parse(server.url()), create=True)


def test_a_new_store_is_empty(store):
    assert store.read("a") == []
    assert store.length("a") == 0


def test_bodies_come_back_in_order_from_an_index_and_up_to_a_limit(store):
    store.append({"a": (0, [b"0", b"1"])})
    store.append({"a": (2, [b"2", b""])})
    assert store.read("a") == [b"0", b"1", b"2", b""]
    assert store.read("a", 1) == [b"1", b"2", b""]
    assert store.read("a", 1, 2) == [b"1", b"2"]
    assert store.read("a", 4) == []
    assert store.read("a", 0, 0) == []
    assert store.length("a") == 4


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_another_length_than_expected_is_a_conflict_and_nothing_is_written(store, expected):
    store.append({"a": (0, [b"0", b"1"])})
    with pytest.raises(ConflictError):
        store.append({"a": (expected, [b"x"]), "b": (0, [b"y"])}, {"blob": b"z"})
    assert store.read("a") == [b"0", b"1"]
    assert store.read("b") == []
    with pytest.raises(StoreError):
        store.blob("blob")


def test_a_fence_compares_a_length_and_adds_nothing(store):
    store.append({"a": (0, [b"0"])})
    store.append({"a": (1, []), "b": (0, [b"y"])})
    assert (store.length("a"), store.length("b")) == (1, 1)
    with pytest.raises(ConflictError):
        store.append({"a": (0, []), "b": (1, [b"z"])})
    assert store.length("b") == 1


def test_blobs_are_written_replaced_and_deleted_with_their_append(store):
    store.append({"a": (0, [b"0"])}, {"x": b"1", "y": b"2"})
    assert store.blob("x") == b"1"
    store.append({}, {"x": b"3", "y": None})
    assert store.blob("x") == b"3"
    with pytest.raises(StoreError):
        store.blob("y")
    store.append({}, {"never": None})


@pytest.mark.parametrize(
    "name", ["", "a/b", "a' OR '1'='1", '"; DROP TABLE entries; --', "スイカ\n", "%", "a_", "\x00"]
)
def test_any_name_is_only_a_name(store, name):
    store.append({name: (0, [b"1"]), "other": (0, [b"2"])}, {name: b"3"})
    assert store.read(name) == [b"1"]
    assert store.read("other") == [b"2"]
    assert store.blob(name) == b"3"
    assert store.length(name + "%") == 0


def test_of_many_writers_at_one_length_one_wins(store):
    won, barrier = [], threading.Barrier(16)

    def write(i: int) -> None:
        barrier.wait()
        try:
            store.append({"a": (0, [bytes([i])])})
            won.append(i)
        except ConflictError:
            pass

    threads = [threading.Thread(target=write, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("a") == [bytes(won)]


def test_many_writers_who_read_again_lose_nothing(store):
    def write(i: int) -> None:
        for n in range(10):
            while True:
                try:
                    store.append({"a": (store.length("a"), [bytes([i, n])])})
                    break
                except ConflictError:
                    continue

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.read("a")
    assert sorted(found) == sorted(bytes([i, n]) for i in range(8) for n in range(10))
    for i in range(8):
        assert [b for b in found if b[0] == i] == [bytes([i, n]) for n in range(10)]
