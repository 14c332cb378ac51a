"""Opening, founding and keeping a city; its log; and what its operator may lose or bring back."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace

import polars as pl
import pytest

import datasov as ds
from datasov.errors import ConsentError, DecryptionError, InvalidQueryError, StoreError
from datasov.model.privacy import Loss
from datasov.pool.pool import shard_to_bytes
from datasov.pool.sealed import seal_shard
from datasov.store import anchor
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.leaves import BatchLeaf, ReleaseLeaf, decode_leaf
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, enrol, found_city, revocation

FOUNDING = {"budget": ds.zcdp(rho=1), "purposes": [PURPOSE]}


def rows(n: int) -> list[dict[str, object]]:
    return [{"district": "NESW"[n % 4], "km": n}]


def test_a_city_that_exists_keeps_what_it_was_founded_with(tmp_path, clock):
    with found_city(tmp_path, clock, purposes=["b", "a", "a"], epoch=100, tick=10, name="Lakeside") as city:
        identity, purposes = city.id, city.purposes
        assert purposes == ("a", "b")
        assert city.id.name == "Lakeside"
        assert city.epoch == NOW // 100
        city.release(COUNT, loss=RHO, purpose="a")
    path = tmp_path / "lake.city"
    with ds.City.open(path, clock=clock) as city:
        assert (city.id, city.purposes, city.budget) == (identity, purposes, ds.zcdp(rho=1))
        assert city.remaining == ds.zcdp(rho=1) - RHO
    with ds.City.open(path, budget=ds.zcdp(rho=1), purposes=["a", "b"], trust=ds.central(), clock=clock):
        pass
    for other in ({"budget": ds.zcdp(rho=2)}, {"purposes": ["a"]}, {"purposes": ["a", "b", "c"]}):
        with pytest.raises(StoreError, match="founded with"):
            ds.City.open(path, clock=clock, **other)


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"budget": ds.zcdp(rho=1)}, {"purposes": [PURPOSE]}, {**FOUNDING, "purposes": []},
        {**FOUNDING, "purposes": "bus-planning"}, {**FOUNDING, "purposes": [""]}, {**FOUNDING, "purposes": [7]},
        {**FOUNDING, "purposes": [" x"]}, {**FOUNDING, "purposes": ["a\nb"]}, {**FOUNDING, "purposes": ["x" * 129]},
        {**FOUNDING, "purposes": ["e\u0301"]}, {**FOUNDING, "budget": 1.0}, {**FOUNDING, "budget": Loss(0)},
        {**FOUNDING, "budget": Loss(-1)}, {**FOUNDING, "budget": Loss(10**16)}, {**FOUNDING, "name": ""},
        {**FOUNDING, "name": "x" * 65}, {**FOUNDING, "name": "a\nb"}, {**FOUNDING, "epoch": 0},
        {**FOUNDING, "tick": -5},
        {**FOUNDING, "epoch": 1.5},
    ],
)  # fmt: skip
def test_a_city_that_could_not_work_is_not_founded(tmp_path, bad):
    with pytest.raises(InvalidQueryError):
        ds.City.open(tmp_path / "c.city", **bad)
    assert not (tmp_path / "c.city").exists()


def test_what_is_no_city_is_refused_and_left_as_it_is(tmp_path):
    file, empty, other, foreign, store = (tmp_path / n for n in ("file", "empty", "other", "foreign", "store"))
    file.write_text("not a city")
    for folder in (empty, other, foreign, store):
        folder.mkdir()
    (other / "city.db").write_bytes(b"no database at all" * 50)
    with sqlite3.connect(foreign / "city.db") as db:
        db.execute("CREATE TABLE t (x)")
    SQLiteStore(store / "city.db", create=True).close()
    for path in (file, empty, other, foreign, store):
        with pytest.raises(StoreError):
            ds.City.open(path, operator_key=bytes(32), **FOUNDING)
    assert file.read_text() == "not a city"
    assert list(empty.iterdir()) == []


def test_the_operators_key_is_needed_and_must_be_the_right_one(tmp_path, clock):
    found_city(tmp_path, clock).close()
    path, key = tmp_path / "lake.city", tmp_path / "lake.city.key"
    right = key.read_bytes()
    ds.City.open(path, operator_key=right, clock=clock).close()
    for wrong in (bytes(32), right[::-1]):
        with pytest.raises(StoreError, match="not this city's"):
            ds.City.open(path, operator_key=wrong, clock=clock)
    key.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        ds.City.open(path, clock=clock)
    key.write_bytes(right[:31])
    with pytest.raises(StoreError):
        ds.City.open(path, clock=clock)
    assert not (tmp_path / "lake.city.key.part").exists()


def test_a_key_that_is_handed_in_is_written_nowhere(tmp_path, clock):
    with found_city(tmp_path, clock, operator_key=bytes(range(32))) as city:
        enrol(city, range(2), rows)
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
    assert not (tmp_path / "lake.city.key").exists()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or bytes(range(32)) not in file.read_bytes()


# --- anchors


def test_a_lost_anchor_needs_a_word_from_the_operator(tmp_path, clock):
    found_city(tmp_path, clock).close()
    path, anchor = tmp_path / "lake.city", tmp_path / "lake.city.anchor"
    anchor.unlink()
    with pytest.raises(StoreError, match="reanchor=True"):
        ds.City.open(path, clock=clock)
    ds.City.open(path, clock=clock, reanchor=True).close()
    ds.City.open(path, clock=clock).close()


def test_a_folder_that_is_gone_is_not_founded_anew_with_a_full_budget(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
    path = tmp_path / "lake.city"
    shutil.rmtree(path)
    for extra in ({}, {"reanchor": True}, {"operator_key": (tmp_path / "lake.city.key").read_bytes()}):
        with pytest.raises(StoreError, match="anchor"):
            ds.City.open(path, clock=clock, **FOUNDING, **extra)
    assert not path.exists()


def test_the_anchor_of_another_city_is_refused(tmp_path, clock):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found_city(tmp_path / name, clock).close()
    shutil.copy(tmp_path / "a" / "lake.city.anchor", tmp_path / "b" / "lake.city.anchor")
    with pytest.raises(StoreError):
        ds.City.open(tmp_path / "b" / "lake.city", clock=clock)


def test_every_change_is_anchored_before_its_call_returns(tmp_path, clock):
    path = tmp_path / "lake.city.anchor"
    with found_city(tmp_path, clock) as city:

        def anchored() -> bool:
            return anchor.read(path, city.id.verify_key) == city._store.head()

        assert anchored()
        (ann, *_) = enrol(city, ["ann", "bob"], lambda n: rows(1))
        assert anchored()
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
        assert anchored()
        city.revoke(revocation(ann, "ann"))
        assert anchored()
        clock.now += 7_200
        city.tick()
        assert anchored()


# --- the pool at rest


def test_rows_are_sealed_at_rest(tmp_path, clock):
    marked = ds.Schema("m", domain="energy", columns={"n": ds.Integer(0, 2**53, "B")}, keys=[])
    value = 0x1122334455667F
    with found_city(tmp_path, clock) as city:
        enrol(city, range(2), lambda n: [{"n": value}] * 40, schema=marked)
        city.release(ds.query(marked).bound(rows=9).sum("n", high=9), loss=RHO, purpose=PURPOSE)
        enrol(city, ["late"], lambda n: [{"n": value}] * 40, schema=marked)
    needle = value.to_bytes(8, "little")
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert any(f.suffix == ".shard" for f in files)
    assert not [f for f in files if needle in f.read_bytes()]


def shard_of(folder) -> list:
    return sorted(folder.rglob("*.shard"))


def test_a_shard_that_was_changed_swapped_or_taken_is_noticed(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        enrol(city, range(2), rows)
        city.release(COUNT, loss=Loss(1), purpose=PURPOSE)
        (old,) = shard_of(tmp_path)
        stale = old.read_bytes()
        enrol(city, range(2, 4), rows)
        city.release(COUNT, loss=Loss(2), purpose=PURPOSE)
    (new,) = shard_of(tmp_path)
    good = new.read_bytes()
    for number, bad in enumerate([stale, good[:-1], good + b"\x00", b"", good[:60] + b"\x00" + good[61:], good[::-1]]):
        new.write_bytes(bad)
        with ds.City.open(tmp_path / "lake.city", clock=clock) as city, pytest.raises(DecryptionError):
            city.release(COUNT, loss=Loss(3 + number), purpose=PURPOSE)
    new.unlink()
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city, pytest.raises(StoreError, match="missing"):
        city.release(COUNT, loss=Loss(90), purpose=PURPOSE)
    new.write_bytes(good)
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        city.release(COUNT, loss=Loss(91), purpose=PURPOSE)


def test_another_shard_of_the_same_generation_is_noticed(tmp_path, clock):
    """Sealed under the right key, for the right place: what a fold that lost its race may have left."""
    with found_city(tmp_path, clock) as city:
        enrol(city, range(2), rows)
        city.compact(TRIPS, PURPOSE)
        (partition,) = city._registry.refresh()
        shard = city._pool._shard(TRIPS, partition, 0)
        forged = replace(shard, rows=shard.rows[:1])
        sealed = seal_shard(city._pool._key, partition.name, 0, partition.shards[0][0], shard_to_bytes(forged))
    (file,) = shard_of(tmp_path)
    file.write_bytes(sealed)
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city, pytest.raises(DecryptionError):
        city.release(COUNT, loss=RHO, purpose=PURPOSE)


def test_rows_of_the_revoked_and_the_expired_leave_the_files_when_compacted(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        (gone, *_) = enrol(city, ["gone", "stays"], lambda n: rows(1))
        enrol(city, ["over"], lambda n: rows(2), expires=NOW + 1000)
        city.compact(TRIPS, PURPOSE)
        city.revoke(revocation(gone, "gone"))
        clock.now += 2000
        (partition,) = city._registry.refresh()
        assert city._pool._shard(TRIPS, partition, 0).rows.height == 3
        city.compact(TRIPS, PURPOSE)
        (partition,) = city._registry.refresh()
        assert city._pool._shard(TRIPS, partition, 0).rows.height == 1
        assert len(shard_of(tmp_path)) == 1


def test_files_of_a_fold_that_never_ended_are_removed_by_the_next(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        enrol(city, range(2), rows)
        city.compact(TRIPS, PURPOSE)
        (current,) = shard_of(tmp_path)
        (current.parent / f"0-1-{'00' * 8}.shard").write_bytes(b"what a crash left")
        enrol(city, range(2, 4), rows)
        city.compact(TRIPS, PURPOSE)
        (left,) = shard_of(tmp_path)
        assert left != current


# --- the log


def test_admissions_and_revocations_enter_the_log_in_padded_batches_on_ticks(tmp_path, clock):
    clock.now -= clock.now % 3600
    with found_city(tmp_path, clock) as city:
        (ann, *_) = enrol(city, ["ann", "bob"], lambda n: rows(1))
        city.revoke(revocation(ann, "ann"))
        assert city.log.size == 0, "nothing before the tick is over"
        clock.now += 3_599
        city.tick()
        assert city.log.size == 0
        clock.now += 1
        city.tick()
        leaves = [decode_leaf(leaf) for leaf in city.log.leaves()]
        assert [(type(leaf), leaf.kind, len(leaf.hashes)) for leaf in leaves] == [
            (BatchLeaf, "admissions", 256), (BatchLeaf, "revocations", 256),
        ]  # fmt: skip
        size = city.log.size
        city.tick()
        assert city.log.size == size
        clock.now += 5 * 3_600
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
        kinds = [type(decode_leaf(leaf)) for leaf in city.log.leaves()]
        assert kinds == [BatchLeaf] * 4 + [ReleaseLeaf], "empty ticks are told too"


def test_the_shape_of_the_log_is_the_same_with_and_without_a_residents_events(tmp_path, clock):
    shapes, began = [], clock.now
    for name in ("nobody", "ann"):
        clock.now = began
        (tmp_path / name).mkdir()
        with found_city(tmp_path / name, clock) as city:
            clock.now += 5 * 3_600
            if name == "ann":
                (consent,) = enrol(city, ["ann"], lambda n: rows(1))
                clock.now += 3_600
                city.revoke(revocation(consent, "ann"))
                clock.now -= 3_600
            clock.now += 5 * 3_600
            city.release(COUNT, loss=RHO, purpose=PURPOSE)
            leaves = [decode_leaf(leaf) for leaf in city.log.leaves()]
            batches = [x for x in leaves if isinstance(x, BatchLeaf)]
            shapes.append((len(leaves), [(b.kind, b.first_tick, b.last_tick, len(b.hashes)) for b in batches]))
    assert shapes[0] == shapes[1]


def test_a_leaf_says_the_same_to_everybody_and_nothing_of_how_many(tmp_path, clock):
    leaves = []
    for name, count in (("none", 0), ("many", 40)):
        (tmp_path / name).mkdir()
        with found_city(tmp_path / name, clock) as city:
            enrol(city, range(count), rows)
            city.release(COUNT, loss=RHO, purpose=PURPOSE)
            leaves.append(decode_leaf(city.log.leaves()[-1]))
    a, b = ({f: getattr(leaf, f) for f in leaf.__slots__} for leaf in leaves)
    assert {k for k in a if a[k] != b[k]} == {"result_digest", "release_id"}


# --- small things


def test_previews_touch_no_data_and_cost_nothing(city):
    head = city._store.head()
    empty = str(city.preview(COUNT, loss=RHO))
    enrol(city, range(20), rows)
    assert str(city.preview(COUNT, loss=RHO)) == empty
    assert "no rank index" in str(city.preview(COUNT.keys(ds.bin("km", [5])), loss=RHO))
    assert head[0] < city._store.head()[0]
    assert city.remaining == city.budget
    for confidence in (0, 1, -1, 2, float("nan")):
        with pytest.raises(InvalidQueryError):
            city.preview(COUNT, loss=RHO, confidence=confidence)


def test_releases_come_back_as_they_were(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        enrol(city, range(9), rows)
        query = COUNT.mean("km").distinct().where(ds.col("km").between(1, 40))
        first = city.release(query, loss=RHO, purpose=PURPOSE)
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        (found,) = city.releases()
        again = city.release(query, loss=RHO, purpose=PURPOSE)
    assert first.frame().equals(found.frame())
    assert first.frame(0.5).equals(again.frame(0.5))
    assert first.digest == found.digest == again.digest
    assert first.query == query
    frame = first.frame()
    assert frame.columns[:2] == ["district", "count"]
    for name in ("count", "km_mean", "residents"):
        assert (frame[name + "_low"] <= frame[name]).all()
        assert (frame[name] <= frame[name + "_high"]).all()
    assert frame["district"].dtype == pl.Enum(list("NESW"))


def test_a_closed_city_is_a_store_error(tmp_path, clock):
    city = found_city(tmp_path, clock)
    city.close()
    for use in (lambda: city.remaining, lambda: city.release(COUNT, loss=RHO, purpose=PURPOSE), city.tick):
        with pytest.raises(StoreError):
            use()


def test_the_shape_of_a_city_tells_no_secret(city):
    assert repr(city) == "<City lake, rho = 1 of rho = 1 left>"
    with pytest.raises(ConsentError):
        city.release(COUNT, loss=RHO, purpose="else")
