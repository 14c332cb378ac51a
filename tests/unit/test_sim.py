"""Simulated residents: the same from the same seed, real vaults, exact answers, and never a word that they are real."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov import sim
from datasov.errors import InvalidQueryError, StoreError
from datasov.model.frames import decode, encode
from datasov.sim import RESIDENT, Grant, Simulation, ageing, gates, maebashi, on_demand
from datasov.sim import exact as exact_answers
from datasov.sim.draw import stream
from datasov.sim.elders import within
from datasov.sim.rides import PLACES, extension
from datasov.sim.town import TEXTS

LOSS = ds.zcdp(rho="0.1")
GENERATORS = (ageing, maebashi, gates, on_demand)


def same(a: Simulation, b: Simulation) -> bool:
    tables = zip(a.tables, b.tables, strict=True)
    told = all(x[0].digest == y[0].digest and x[1].equals(y[1]) for x, y in tables)
    return told and all(a.truth[n].equals(b.truth[n]) for n in a.truth)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_seed_fixes_every_row_and_another_seed_other_rows(generator):
    assert same(generator(70, 5), generator(70, 5))
    assert not same(generator(70, 5), generator(70, 6))
    assert {s for _, rows in generator(70, 5).tables for s in rows[RESIDENT].unique()} <= set(range(70))


def test_streams_of_two_names_are_not_one():
    one, other = (stream(1, name).random(8) for name in ("a", "b"))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, stream(1, "a").random(8))


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_row_fits_its_schema_and_comes_back(generator):
    for schema, rows in generator(120, 3).tables:
        codes = encode(schema, rows.drop(RESIDENT))
        back = decode(schema, codes)
        assert back.height == rows.height
        if "at" in rows.columns:
            assert back["at"].dt.replace_time_zone(None).to_list() == rows["at"].to_list()
        assert rows[RESIDENT].is_sorted()
        if schema.kind == "attributes":
            assert rows[RESIDENT].is_unique().all()


@pytest.mark.parametrize("place", [p.name for p in PLACES])
def test_rides_of_a_city_fit_its_own_table_and_the_common_one(place):
    rides = on_demand(40, 2, place)
    assert rides.tables[0][0] == extension(place)
    ds.catalogue.check_extends(ds.catalogue.schema("rides"), extension(place))
    encode(extension(place), rides.rows("rides").drop(RESIDENT))


@pytest.mark.parametrize("size", [0, -1, True, 1.5, 10**9])
def test_a_size_or_seed_that_is_none_is_refused(size):
    with pytest.raises(InvalidQueryError, match="residents is"):
        gates(size, 1)
    with pytest.raises(InvalidQueryError, match="seed is"):
        gates(1, -1)


def test_what_a_generator_says_exists_is_what_a_look_at_each_pair_says():
    rng = np.random.default_rng(4)
    who = rng.integers(0, 6, 80)
    at = np.datetime64("2027-04-01", "us") + (rng.integers(0, 60 * 24, 80) * 3600).astype("timedelta64[s]")
    events = pl.DataFrame({
        RESIDENT: rng.integers(0, 6, 30),
        "at": np.datetime64("2027-03-20", "us") + (rng.integers(0, 60 * 24, 30) * 3600).astype("timedelta64[s]"),
    })  # fmt: skip
    events = events.vstack(pl.DataFrame({RESIDENT: who[:1], "at": at[:1]}, schema=events.schema))
    edge = pl.DataFrame({RESIDENT: who[1:2], "at": at[1:2] - np.timedelta64(10, "D")}, schema=events.schema)
    events = events.vstack(edge)
    pairs = events.rows()
    brute = [
        any(w == r and t - dt.timedelta(days=10) <= e <= t for r, e in pairs)
        for w, t in zip(who.tolist(), pl.Series(at).to_list(), strict=True)
    ]
    found = within(who, at, events, days=10)
    assert found.tolist() == brute
    assert found[0]
    assert found[1]
    assert not within(who, at, events.clear(), days=10).any()


def test_topics_are_told_by_words_and_never_by_more():
    assert sim.topic("次のバスはいつ来ますか") == "mobility"
    assert sim.topic("A BUS, please") == "mobility"
    assert sim.topic("ありがとう") == "other"
    with pytest.raises(InvalidQueryError):
        sim.topic(None)  # type: ignore[arg-type]
    assert set(TEXTS) - {"other"} <= set(ds.catalogue.schema("opinions").column("topic").values)
    told = maebashi(200, 1).truth["texts"]
    assert 0.5 < (told["topic"] == told["meant"]).mean() < 1, "rules on a device are wrong sometimes"


def city_at(folder, name="simulated town", **given):
    return ds.City.open(folder / "c.city", name=name, budget=ds.zcdp(rho=1), purposes=["care"], **given)


def test_vaults_derive_what_the_generator_says_and_the_city_counts_it(tmp_path):
    people = ageing(30, 7)
    visits, rides, points = (people.schema(n) for n in ("visits", "rides", "local_points"))
    grant = Grant(visits, "care", LOSS, ("ward", "rider", "by_points"), special=("at",), reads=(rides, points))
    counts = []
    with city_at(tmp_path) as city:
        enrolled = sim.enrol(people, city, [grant], tmp_path / "v", progress=lambda a, b: counts.append((a, b)))
        assert counts == [(n + 1, 30) for n in range(30)]
        truth = people.truth["visits"]
        for number in range(30):
            with enrolled.open(number) as resident:
                held = resident.scan(visits, ["ward", "rider", "by_points"])
                own = truth.filter(pl.col(RESIDENT) == number).select("ward", "rider", "by_points")
                assert held.rows() == own.rows()
        release = city.release(
            ds.query(visits).keys("ward").bound(keys=1).distinct(), loss=ds.zcdp(rho="0.1"), purpose="care"
        )
        told = sim.compare(release, truth, 1 - 1e-9)
        assert told["residents_exact"].sum() == 30
        assert sim.covered(told) == (6, 6)
        assert enrolled.path(3).name == "simulated-3.vault"
        assert len(enrolled.consents[3]) == 1


def test_two_processes_enrol_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr("datasov.sim.vaults.FEW", 2)
    devices = gates(6, 1)
    with city_at(tmp_path) as city:
        grants = [Grant(devices.schema("passages"), "care", LOSS, residents=frozenset({1, 4}))]
        enrolled = sim.enrol(devices, city, grants, tmp_path / "v", workers=2)
        assert [len(c) for c in enrolled.consents] == [0, 1, 0, 0, 1, 0]
        for number in (0, 4):
            with enrolled.open(number) as device:
                own = devices.rows("passages").filter(pl.col(RESIDENT) == number)
                assert device.scan(devices.schema("passages"))["people"].to_list() == own["people"].to_list()


def test_nobody_simulated_enters_a_city_that_does_not_say_so(tmp_path):
    devices = gates(2, 1)
    with city_at(tmp_path, name="lakeside") as city:
        with pytest.raises(InvalidQueryError, match="says so in its name"):
            sim.enrol(devices, city, [Grant(devices.schema("passages"), "care", LOSS)], tmp_path / "v")
        assert not (tmp_path / "v").exists()


def test_whatever_is_written_says_that_it_is_simulated(tmp_path):
    people = ageing(20, 9)
    people.write(tmp_path / "out")
    about = json.loads((tmp_path / "out" / "simulated.json").read_text(encoding="utf-8"))
    assert about == people.about
    assert about["simulated"] is True
    assert (about["seed"], about["residents"]) == (9, 20)
    for schema, rows in people.tables:
        file = tmp_path / "out" / f"{schema.name}.parquet"
        assert pl.read_parquet_metadata(file)["simulated"] == "true"
        assert pl.read_parquet(file).equals(rows)
    assert "simulated" in repr(people)
    with pytest.raises(StoreError, match="name a new one"):
        people.write(tmp_path / "out")
    with pytest.raises(InvalidQueryError, match="no table 'trips'"):
        people.rows("trips")


ROWS = pl.DataFrame({
    RESIDENT: [0, 0, 0, 1, 1, 2, 3], "ward": ["A", "A", "B", "A", None, "B", "A"],
    "at": [dt.datetime(2027, 1, 5, h) for h in (8, 9, 8, 8, 7, 9, 8)], "yen": [5, 900, 20, 7, 1, 30, None],
})  # fmt: skip
TABLE = ds.Schema("buys", domain="payments", columns={
    "ward": ds.Category(["A", "B", "C"], nullable=True), "at": ds.Timestamp("2027-01-01", "2027-02-01"),
    "yen": ds.Integer(0, 1000, unit="JPY", nullable=True),
}, keys=[("ward",), ("ward", ds.hour("at"))])  # fmt: skip


def answered(tmp_path, query):
    with city_at(tmp_path) as city:
        return city.release(query, loss=ds.zcdp(rho=1), purpose="care")


def test_what_is_exact_is_counted_as_by_hand(tmp_path):
    query = ds.query(TABLE).keys("ward").bound(rows=3, keys=2)
    told = exact_answers.compare(
        answered(tmp_path, query.count().distinct().sum("yen", high=100).mean("yen", high=100)), ROWS
    )
    assert told["ward"].to_list() == ["A", "B", "C", None]
    assert told["count_exact"].to_list() == [4, 2, 0, 1]
    assert told["residents_exact"].to_list() == [3, 2, 0, 1]
    assert told["yen_sum_exact"].to_list() == [112, 50, 0, 1]
    assert told["yen_mean_exact"].to_list() == [pytest.approx(112 / 3), 25.0, None, 1.0]


def test_conditions_and_hours_are_those_of_a_question(tmp_path):
    query = ds.query(TABLE).keys("ward", ds.hour("at")).bound(rows=3, keys=3)
    kept = query.where((ds.col("yen") >= 1) & ~(ds.col("ward") == "B")).count()
    told = exact_answers.compare(answered(tmp_path, kept), ROWS)
    found = {(r["ward"], r["at_hour"]): r["count_exact"] for r in told.iter_rows(named=True) if r["count_exact"]}
    assert found == {("A", 8): 2, ("A", 9): 1, (None, 7): 1}, "a comparison with null is false, and its opposite true"
    none = query.where(ds.col("yen").is_null() | (ds.col("yen") < 5)).count()
    told = exact_answers.compare(answered(tmp_path / "b", none) if (tmp_path / "b").mkdir() is None else None, ROWS)
    found = {(r["ward"], r["at_hour"]): r["count_exact"] for r in told.iter_rows(named=True) if r["count_exact"]}
    assert found == {("A", 8): 1, (None, 7): 1}


def test_what_bounds_cut_is_told_by_residents():
    base = ds.query(TABLE).keys("ward")
    assert sim.cut(base.bound(rows=3, keys=2).count(), ROWS) == 0
    assert sim.cut(base.bound(rows=1, keys=2).count(), ROWS) == 1
    assert sim.cut(base.bound(rows=1, keys=2).distinct(), ROWS) == 0, "residents are counted once, however many rows"
    assert sim.cut(base.bound(rows=3, keys=1).distinct(), ROWS) == 2
    blind = ds.query(TABLE).keys(ds.day("at")).bound(rows=2, keys=5).count()
    with pytest.raises(InvalidQueryError, match="at_day is not counted here"):
        sim.cut(blind, ROWS)
    blind = ds.query(TABLE).keys(ds.hour("at")).bound(rows=2, keys=5).count()
    assert sim.cut(blind, ROWS) == 1, "without an index for the keys the rows of all keys count together"
    with pytest.raises(InvalidQueryError, match="not counted here"):
        exact_answers._total(base.variance("yen"), base.variance("yen").aggregates[0])


def test_an_interval_that_misses_is_counted_as_one():
    told = pl.DataFrame({
        "n": [5, 5, 5], "n_low": [4, 4, 6], "n_high": [6, 4, 9], "n_exact": [6, 5, None],
    })  # fmt: skip
    assert sim.covered(told) == (1, 2)


def test_by_resident_everybody_is_there_also_without_rows():
    rides = on_demand(40, 1)
    own = rides.by_resident()
    assert len(own) == 40
    counted = defaultdict(int)
    for number, tables in enumerate(own):
        for _, rows in tables:
            assert RESIDENT not in rows.columns
            counted[number] += rows.height
    assert sum(counted.values()) == rides.rows("rides").height
    assert any(not tables for tables in own)
