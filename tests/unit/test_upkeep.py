"""Back-ups of a city, and what restoring one may not do; checks of all of it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3

import pytest

import datasov as ds
from datasov.errors import ProofError, StoreError
from datasov.store import anchor, place
from datasov.tlog.note import sign_checkpoint
from datasov.tlog.operators import Restoration
from datasov.tlog.whole import read_whole
from datasov.upkeep import archive
from datasov.upkeep.check import check
from tests.audit import audit
from tests.helpers import COUNT, NOW, PURPOSE, RHO, enrol, found_city


def rows(n: int) -> list[dict[str, object]]:
    return [{"district": "NESW"[n % 4], "km": n}]


def ask(city: ds.City, number: int) -> ds.Release:
    return city.release(COUNT.bound(rows=number), loss=RHO, purpose=PURPOSE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lake.city"


@pytest.fixture
def backed(tmp_path, path, clock):
    """A city with residents, folded and pending, one answer, and a backup of it; the city is closed."""
    with found_city(tmp_path, clock) as city:
        enrol(city, range(8), rows)
        ask(city, 3)
        enrol(city, range(8, 12), rows)
        city.backup(tmp_path / "backup")
    return tmp_path / "backup"


def lose(path, *, anchor_too: bool = False) -> None:
    shutil.rmtree(path)
    if anchor_too:
        place.anchor_path(path).unlink()


def test_a_restored_city_is_the_same_and_answers_on(path, backed, clock):
    lose(path)
    with ds.City.restore(backed, path, clock=clock) as city:
        assert city.remaining == ds.zcdp(rho="0.9")
        assert [r.query for r in city.releases()] == [COUNT.bound(rows=3)]
        assert city.log.size == 1, "nothing was lost, so nothing is said"
        assert ask(city, 3).identifier == city.releases()[0].identifier, "what was asked before costs nothing"
        ask(city, 4)
        assert audit(city) == 2
        enrol(city, range(12, 14), rows)
    with ds.City.open(path, clock=clock) as city:
        assert city.remaining == ds.zcdp(rho="0.8")


def test_a_backup_is_sealed_and_holds_no_key(tmp_path, path, backed, clock):
    data, key = backed.read_bytes(), place.key_path(path).read_bytes()
    assert backed.stat().st_mode & 0o077 == 0
    for secret in (key, place.chain_key(key), place.opening_seed(key), b"SQLite format", b"registry/", b"district"):
        assert secret not in data
    with ds.City.open(path, clock=clock) as city:
        header = archive.check(backed)
        assert (header.city, header.time) == (str(city.id), NOW)
        assert header.note == city.log.checkpoint().note
    for name in ("x.city", "y.city"):
        with pytest.raises(StoreError, match="key"):
            ds.City.restore(backed, tmp_path / name, operator_key=None if name[0] == "x" else bytes(32), clock=clock)
        assert not (tmp_path / name).exists()


def test_a_budget_spent_after_the_backup_is_not_refilled(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        ask(city, 4)
    lose(path)
    with pytest.raises(StoreError, match="behind its anchor"):
        ds.City.restore(backed, path, clock=clock)
    assert not path.exists()
    with pytest.raises(StoreError, match="anchor is here"):
        ds.City.open(path, budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=clock)


def test_without_the_anchor_a_checkpoint_that_somebody_holds_tells(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        then = city.log.checkpoint().note
        ask(city, 4)
        now = city.log.checkpoint().note
    lose(path, anchor_too=True)
    with pytest.raises(StoreError, match="reanchor"):
        ds.City.restore(backed, path, clock=clock)
    for reanchor in (False, True):
        with pytest.raises(StoreError, match="behind the log"):
            ds.City.restore(backed, path, log_head=now, reanchor=reanchor, clock=clock)
    assert not path.exists()
    with ds.City.restore(backed, path, log_head=then, clock=clock) as city:
        assert city.remaining == ds.zcdp(rho="0.9")
        ((index, notice),) = read_whole(city.log, [city.id]).operators.restorations
        assert (index, notice.size, notice.time) == (1, 1, NOW)


def test_a_checkpoint_vouches_for_nothing_where_the_anchor_is_ahead(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        then = city.log.checkpoint().note
        ask(city, 4)
    lose(path)
    with pytest.raises(StoreError, match="behind its anchor"):
        ds.City.restore(backed, path, log_head=then, clock=clock)


def test_checkpoints_of_another_history_or_another_city_are_refused(tmp_path, path, backed, clock):
    key, _ = place.keys(place.key_path(path).read_bytes())
    with ds.City.open(path, clock=clock) as city:
        origin = city.log.origin
        good = city.log.checkpoint().note
    other = sign_checkpoint(origin, 1, bytes(32), key).note
    (tmp_path / "other").mkdir()
    with found_city(tmp_path / "other", clock) as stranger:
        foreign = stranger.log.checkpoint().note
    lose(path, anchor_too=True)
    for note, why in (
        (other, "not the one"),
        (foreign, "not signed"),
        (good[:-9] + b"AAAAAAA=\n", "not signed"),
        (b"x", ""),
    ):
        with pytest.raises(StoreError, match=why):
            ds.City.restore(backed, path, log_head=note, reanchor=True, clock=clock)
    assert not path.exists()
    ds.City.restore(backed, path, log_head=good, clock=clock).close()


def test_going_back_on_purpose_is_said_in_the_log_for_everybody(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        ask(city, 4)
        lost = city.log.checkpoint().note
    lose(path)
    with ds.City.restore(backed, path, reanchor=True, clock=clock) as city:
        assert city.remaining == ds.zcdp(rho="0.9"), "what was spent since is not known here: that is the decision"
        whole = read_whole(city.log, [city.id])
        ((index, notice),) = whole.operators.restorations
        assert notice == Restoration(city.log.origin, str(city.id), NOW, 1, whole.tree.root(1))
        assert index == 1
        with pytest.raises(ProofError):
            whole.continues(lost)
    with ds.City.open(path, clock=clock) as city:
        assert city.log.size == 2, "opening it again says nothing more"


def test_the_same_is_said_where_a_folder_is_reanchored(path, backed, clock):
    place.anchor_path(path).unlink()
    with ds.City.open(path, clock=clock, reanchor=True) as city:
        assert len(read_whole(city.log, [city.id]).operators.restorations) == 1
    with ds.City.open(path, clock=clock, reanchor=True) as city:
        assert city.log.size == 2, "the anchor vouches for this copy: nothing was decided"


def test_two_copies_do_not_both_go_on_in_silence(tmp_path, path, backed, clock):
    key = place.key_path(path).read_bytes()
    second = tmp_path / "second.city"
    with pytest.raises(StoreError, match="reanchor"):
        ds.City.restore(backed, second, operator_key=key, clock=clock)
    with ds.City.restore(backed, second, operator_key=key, reanchor=True, clock=clock) as copy, \
            ds.City.open(path, clock=clock) as city:  # fmt: skip
        ask(city, 5)
        ask(copy, 5)
        ours, theirs = read_whole(city.log, [city.id]), read_whole(copy.log, [city.id])
        assert theirs.operators.restorations
        for whole, note in ((ours, theirs.checkpoint.note), (theirs, ours.checkpoint.note)):
            with pytest.raises(ProofError):
                whole.continues(note)


def test_a_backup_that_is_cut_short_or_changed_restores_nothing(path, backed, clock):
    data = backed.read_bytes()
    lose(path)
    for cut in (0, 7, 8, 11, 40, len(data) // 2, len(data) - 33, len(data) - 1):
        backed.write_bytes(data[:cut])
        with pytest.raises(StoreError, match=r"damaged|no backup"):
            ds.City.restore(backed, path, clock=clock)
    for at in range(0, len(data), max(1, len(data) // 40)):
        backed.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(StoreError, match=r"damaged|no backup"):
            archive.check(backed)
    assert not path.exists()
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    backed.write_bytes(data)
    ds.City.restore(backed, path, clock=clock).close()


def test_pieces_are_bound_to_their_places_under_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "PIECE", 64)
    source = tmp_path / "source"
    source.write_bytes(bytes(range(192)))
    key, header = bytes(range(32)), archive.Header("c+x", NOW, b"note")
    with archive.writing(tmp_path / "b", key, header) as add:
        add("city.db", source)
    assert archive.extract(tmp_path / "b", key, tmp_path / "out") == header
    assert (tmp_path / "out" / "city.db").read_bytes() == bytes(range(192))
    data = (tmp_path / "b").read_bytes()
    (length,) = archive._LENGTH.unpack_from(data, len(archive.MAGIC))
    first = len(archive.MAGIC) + 4 + length
    size = 4 + 64 + 16
    swapped = (
        data[:first] + data[first + size : first + 2 * size] + data[first : first + size] + data[first + 2 * size :]
    )
    assert len(swapped) == len(data)
    body = swapped[:-32]
    (tmp_path / "b").write_bytes(body + hashlib.sha256(body).digest())
    archive.check(tmp_path / "b")
    with pytest.raises(StoreError, match="damaged"):
        archive.extract(tmp_path / "b", key, tmp_path / "out2")


@pytest.mark.parametrize("name", ["../outside", "/abs", "a/../../b"])
def test_a_member_cannot_leave_the_folder(tmp_path, name):
    (tmp_path / "source").write_bytes(b"x")
    with archive.writing(tmp_path / "b", bytes(32), archive.Header("c", 0, b"")) as add:
        add(name, tmp_path / "source")
    with pytest.raises(StoreError, match="damaged"):
        archive.extract(tmp_path / "b", bytes(32), tmp_path / "in" / "out")
    assert not (tmp_path / "outside").exists()


def test_what_is_there_is_never_written_over(path, backed, clock):
    with ds.City.open(path, clock=clock) as city, pytest.raises(StoreError, match="exists"):
        city.backup(backed)
    with pytest.raises(StoreError, match="exists"):
        ds.City.restore(backed, path, clock=clock)
    with ds.City.open(path, clock=clock) as city, pytest.raises(StoreError):
        city.backup(path.parent / "no" / "such")


def test_a_damaged_city_is_not_backed_up(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        with sqlite3.connect(path / "city.db") as db:
            db.execute("UPDATE entries SET body = ? WHERE stream = 'ledger' AND seq = 1", (b"{}",))
        with pytest.raises(StoreError, match="changed"):
            city.backup(path.parent / "b2")
    assert not (path.parent / "b2").exists()


def test_a_backup_without_a_shard_that_the_registry_names_is_none(path, backed, clock):
    with ds.City.open(path, clock=clock) as city:
        for shard in (path / "pool").glob("*/*.shard"):
            shard.unlink()
        with pytest.raises(StoreError, match="shard"):
            city.backup(path.parent / "b2")


def test_a_check_says_what_is_whole_and_what_is_not(path, backed, clock):
    assert {f.part: f.fault for f in check(path)} == dict.fromkeys(("database", "accounts", "pool", "log", "anchor"))
    assert {f.part: f.count for f in check(path)}["pool"] == 1 + 4, "a shard, and four contributions that wait"
    (shard,) = (path / "pool").glob("*/*.shard")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [f.part for f in check(path) if f.fault] == ["pool"]
    shard.write_bytes(data)
    place.anchor_path(path).unlink()
    assert [f.part for f in check(path) if f.fault] == ["anchor"]
    with ds.City.open(path, clock=clock, reanchor=True):
        pass
    with sqlite3.connect(path / "city.db") as db:
        db.execute("UPDATE entries SET body = x'00' WHERE stream = 'log' AND seq = 0")
    assert [f.part for f in check(path) if f.fault] == ["database", "log"]
    with pytest.raises(StoreError, match="not this city's"):
        check(path, bytes(32))


def test_the_anchor_of_a_restored_city_is_its_own(path, backed, clock):
    lose(path, anchor_too=True)
    with ds.City.restore(backed, path, reanchor=True, clock=clock) as city:
        position, head = anchor.read(place.anchor_path(path), city.id.verify_key)
        assert city._store.head(position)[1] == head
    assert not list(path.parent.glob("*.new"))
