"""The SQLite file, the anchor and the place of a city: what is refused, and that nothing is half-written."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest

from datasov.errors import ConflictError, StoreError
from datasov.store import anchor, place
from datasov.store.sqlite import SQLiteStore
from tests.helpers import key_of

KEY = key_of("anchor")


@pytest.fixture
def store(tmp_path):
    made = SQLiteStore(tmp_path / "s.db", create=True)
    yield made
    made.close()


def test_two_openings_of_one_file_see_each_other(tmp_path, store):
    other = SQLiteStore(tmp_path / "s.db")
    store.append({"a": (0, [b"1"])})
    assert other.read("a") == [b"1"]
    with pytest.raises(ConflictError):
        other.append({"a": (0, [b"2"])})
    other.append({"a": (1, [b"2"])})
    assert store.read("a") == [b"1", b"2"]
    assert store.head() == other.head()
    other.close()


def test_every_append_moves_the_head_and_every_head_is_kept(store):
    heads = [store.head()]
    for i in range(5):
        store.append({"a": (i, [b"same"])}, {"b": b"same"})
        heads.append(store.head())
    assert [position for position, _ in heads] == list(range(6))
    assert len({digest for _, digest in heads}) == 6
    assert [store.head(i) for i in range(6)] == heads
    with pytest.raises(StoreError):
        store.head(6)


def test_heads_depend_on_streams_lengths_bodies_and_blobs(tmp_path):
    heads = set()
    batches = [
        ({"a": (0, [b"1"])}, {}), ({"b": (0, [b"1"])}, {}), ({"a": (0, [b"2"])}, {}), ({"a": (0, [b"1", b""])}, {}),
        ({"a": (0, [])}, {}), ({}, {"a": b"1"}), ({}, {"b": b"1"}), ({}, {"a": b"2"}),
        ({"a": (0, [b"1"])}, {"a": b"1"}),
    ]  # fmt: skip
    for i, batch in enumerate(batches):
        made = SQLiteStore(tmp_path / f"{i}.db", create=True)
        made.append(*batch)
        heads.add(made.head())
        made.close()
    assert len(heads) == len(batches)


def test_a_failed_append_leaves_the_store_usable(store):
    store.append({"a": (0, [b"1"])})
    head = store.head()
    with pytest.raises(TypeError):
        store.append({"a": (1, [b"2"]), "b": (0, [object()])}, {"c": b"3"})
    with pytest.raises(ConflictError):
        store.append({"a": (1, [b"2"]), "b": (7, [b"3"])}, {"c": b"3"})
    assert store.head() == head
    assert store.length("a") == 1
    store.append({"a": (1, [b"2"])})
    assert store.read("a") == [b"1", b"2"]


def test_a_closed_store_is_a_store_error(store):
    store.close()
    for use in (lambda: store.read("a"), lambda: store.append({}), lambda: store.length("a"), store.head):
        with pytest.raises(StoreError):
            use()


def test_what_is_no_store_is_refused(tmp_path):
    missing, folder, text, other = (tmp_path / n for n in ("missing", "folder", "text", "other.db"))
    folder.mkdir()
    text.write_bytes(b"these bytes are no database" * 100)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE entries (stream TEXT)")
    for path in (missing, folder, text, other):
        with pytest.raises(StoreError):
            SQLiteStore(path)
    assert not missing.exists()


def test_a_store_of_another_version_is_refused(tmp_path, store):
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.execute("PRAGMA user_version=2")
    with pytest.raises(StoreError, match="another version"):
        SQLiteStore(tmp_path / "s.db")


# --- anchors


def test_an_anchor_comes_back(tmp_path):
    assert anchor.write(tmp_path / "x", lambda: (7, b"h" * 32), KEY) == 7
    assert anchor.read(tmp_path / "x", KEY.public) == (7, b"h" * 32)


def test_an_anchor_of_another_key_damaged_or_missing_is_refused(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(StoreError, match="reanchor"):
        anchor.read(path, KEY.public)
    anchor.write(path, lambda: (7, b"h" * 32), KEY)
    with pytest.raises(StoreError):
        anchor.read(path, key_of("other").public)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(StoreError):
            anchor.read(path, KEY.public)
    for cut in range(len(good)):
        path.write_bytes(good[:cut])
        with pytest.raises(StoreError):
            anchor.read(path, KEY.public)


def test_anchors_of_many_writers_never_go_back(tmp_path):
    path, seen, position, lock = tmp_path / "x", [], 0, threading.Lock()

    def head() -> tuple[int, bytes]:
        nonlocal position
        with lock:
            position += 1
            return position, position.to_bytes(32, "big")

    def write() -> None:
        for _ in range(20):
            written = anchor.write(path, head, KEY)
            assert anchor.read(path, KEY.public)[0] >= written
            seen.append(written)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 161))
    assert anchor.read(path, KEY.public) == (160, (160).to_bytes(32, "big"))


def test_an_anchor_that_cannot_be_written_is_a_store_error(tmp_path):
    with pytest.raises(StoreError):
        anchor.write(tmp_path / "none" / "x", lambda: (1, bytes(32)), KEY)


# --- the place


def test_a_key_file_is_made_for_its_owner_alone(tmp_path):
    key = place.operator_key(tmp_path / "c", None, create=True)
    file = place.key_path(tmp_path / "c")
    assert len(key) == 32
    assert file.read_bytes() == key
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert place.operator_key(tmp_path / "c", None, create=True) == key, "a key that is there is kept"
    assert place.operator_key(tmp_path / "c", None, create=False) == key


@pytest.mark.parametrize("given", [b"", b"short", bytes(33), "x" * 32, 7, bytearray(32)])
def test_a_key_that_is_not_32_bytes_is_refused(tmp_path, given):
    with pytest.raises(StoreError):
        place.operator_key(tmp_path / "c", given, create=True)
    assert not place.key_path(tmp_path / "c").exists()


def test_a_missing_or_damaged_key_file_is_refused(tmp_path):
    with pytest.raises(StoreError):
        place.operator_key(tmp_path / "c", None, create=False)
    place.key_path(tmp_path / "c").write_bytes(b"half")
    for create in (True, False):
        with pytest.raises(StoreError):
            place.operator_key(tmp_path / "c", None, create=create)


def test_a_city_that_could_not_be_filled_leaves_nothing(tmp_path):
    def fill(store: SQLiteStore) -> None:
        store.append({"city": (0, [b"half"])})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        place.found(tmp_path / "c", bytes(32), fill)
    assert list(tmp_path.iterdir()) == []


def test_of_two_founders_the_second_is_refused_and_the_first_stays(tmp_path):
    place.found(tmp_path / "c", bytes(32), lambda s: s.append({"city": (0, [b"first"])}))
    with pytest.raises(StoreError):
        place.found(tmp_path / "c", bytes(32), lambda s: s.append({"city": (0, [b"second"])}))
    store, _ = place.open_store(tmp_path / "c", bytes(32))
    assert store.read("city") == [b"first"]
    store.close()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


# --- the chain


@pytest.fixture
def chained(tmp_path):
    store = SQLiteStore(tmp_path / "chained.db", create=True, key=b"k" * 32)
    store.append({"a": (0, [b"1", b"2"]), "b": (0, [])}, {"x": b"blob"})
    store.append({"b": (0, [b"3"]), "a": (2, [])}, {"x": None, "y": b"other", "z": b""})
    store.append({"a": (2, [b"4"])}, {"y": b"newer"})
    yield store
    store.close()


def test_what_was_appended_verifies_also_when_it_is_opened_again(chained, tmp_path):
    chained.verify()
    again = SQLiteStore(tmp_path / "chained.db", key=b"k" * 32)
    again.verify()
    again.append({"a": (3, [b"5"])})
    again.verify()
    again.close()
    chained.verify()


@pytest.mark.parametrize("change", [
    "UPDATE entries SET body = x'39' WHERE stream = 'a' AND seq = 1",
    "UPDATE entries SET stream = 'c' WHERE stream = 'b'",
    "DELETE FROM entries WHERE stream = 'a' AND seq = 2",
    "DELETE FROM entries WHERE stream = 'b'",
    "INSERT INTO entries VALUES ('a', 3, x'35')",
    "INSERT INTO entries VALUES ('new', 0, x'35')",
    "UPDATE entries SET seq = 9 WHERE stream = 'a' AND seq = 2",
    "UPDATE blobs SET body = x'00' WHERE name = 'y'",
    "UPDATE blobs SET name = 'w' WHERE name = 'z'",
    "DELETE FROM blobs WHERE name = 'y'",
    "INSERT INTO blobs VALUES ('x', x'626c6f62')",
    "UPDATE heads SET hash = zeroblob(32) WHERE position = 2",
    "UPDATE heads SET hash = 'text' WHERE position = 3",
    "UPDATE heads SET appended = '[[], []]' WHERE position = 2",
    "UPDATE heads SET appended = 'no json' WHERE position = 2",
    "UPDATE heads SET appended = '[[[1]], 3]' WHERE position = 2",
    "DELETE FROM heads WHERE position = 3",
    "DELETE FROM heads WHERE position = 1",
    "UPDATE heads SET position = 7 WHERE position = 3",
])  # fmt: skip
def test_whatever_is_changed_without_the_key_is_found(chained, change):
    assert chained._db.execute(change).rowcount > 0
    with pytest.raises(StoreError):
        chained.verify()


def test_another_key_verifies_nothing(chained, tmp_path):
    other = SQLiteStore(tmp_path / "chained.db", key=b"x" * 32)
    with pytest.raises(StoreError):
        other.verify()
    other.close()


def test_whatever_follows_a_rewritten_end_is_found(chained, tmp_path):
    """An append that somebody without the key makes after the newest one, with a chain of their own."""
    forger = SQLiteStore(tmp_path / "chained.db", key=b"guess")
    forger.append({"a": (3, [b"forged"])})
    forger.close()
    with pytest.raises(StoreError):
        chained.verify()
