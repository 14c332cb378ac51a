"""Attacks on merging: histories of schemas that part, values filled in apart, and a device in other hands.

Claims: after a merge every row means what it meant where it was put; what cannot be brought together is refused, and
nothing is changed then; two honest devices are never told that one of them was copied or put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from datasov.errors import InvalidDataError, StoreError
from datasov.model import frames
from datasov.model.columns import Category, Column, Integer
from datasov.model.schema import Schema
from datasov.portability import notes
from datasov.vault import Vault
from datasov.vault import vault as vault_module
from tests import faults, vaults
from tests.vaults import KEY, PERSON, TRIPS, person, trips

Pair = tuple[Vault, Vault]


@pytest.fixture(autouse=True)
def _unflushed() -> Iterator[None]:
    with faults.unflushed():
        yield


def _schema(high: int = 50, **columns: Column) -> Schema:
    return Schema("t", domain="mobility", columns={"km": Integer(0, high), **columns})


FIRST = _schema()


def _put(vault: Vault, schema: Schema, **row: object) -> None:
    """A row, in a segment of its own or together with those before."""
    vault.put([(schema, frames.encode(schema, [row]))])
    vault.compact()


def _rows(vault: Vault) -> list[tuple[object, ...]]:
    return vault.scan("t").rows()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two devices that hold one row put before they parted."""
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        _put(a, FIRST, km=1)
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            yield a, b


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Pair]:
    """Two devices that parted before they knew the table."""
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            yield a, b


def _refused(first: Vault, second: Vault, match: str) -> None:
    for one, other in ((first, second), (second, first)):
        before = _rows(one), one.tables(), one.earlier("t")
        with pytest.raises((InvalidDataError, StoreError), match=match):
            one.merge(other, notes.combined)
        assert (_rows(one), one.tables(), one.earlier("t")) == before


def test_a_name_retired_on_one_device_does_not_come_back_with_the_others_meaning(pair: Pair) -> None:
    a, b = pair
    vehicles = _schema(mode=Category(["bus", "rail"], nullable=True))
    b.evolve(vehicles, {})
    _put(b, vehicles, km=2, mode="rail")
    b.evolve(_schema(60), {})
    colours = _schema(60, mode=Category(["red", "blue"], nullable=True))
    a.evolve(colours, {})
    _put(a, colours, km=3, mode="red")
    _refused(a, b, "follows both")
    without = _schema(60, note=Integer(0, 9, nullable=True))
    a.evolve(without, {})
    assert a.merge(b, notes.combined)
    assert sorted(_rows(a)) == [(1, None), (2, None), (3, None)]
    assert b.merge(a, notes.combined)
    assert _rows(b) == _rows(a)


def test_a_name_retired_on_one_device_does_not_come_back_from_the_other(pair: Pair) -> None:
    a, b = pair
    more = _schema(mode=Category(["bus"], nullable=True))
    b.evolve(more, {})
    b.evolve(_schema(60), {})
    a.evolve(_schema(60, mode=Category(["bus"], nullable=True)), {})
    for one, other in ((a, b), (b, a)):
        one.merge(other, notes.combined)
        assert one.tables()["t"] == _schema(60)


def test_a_column_is_not_lost_because_the_other_device_retired_another_of_its_name(pair: Pair) -> None:
    a, b = pair
    vehicles = _schema(mode=Category(["bus", "rail"], nullable=True))
    b.evolve(vehicles, {})
    _put(b, vehicles, km=2, mode="rail")
    a.evolve(_schema(mode=Integer(0, 9, nullable=True)), {})
    a.evolve(_schema(note=Integer(0, 9, nullable=True)), {})
    _refused(a, b, "follows both")
    assert _rows(b) == [(1, None), (2, 1)]


def test_a_column_that_the_other_device_retired_is_retired(pair: Pair) -> None:
    a, b = pair
    more = _schema(mode=Category(["bus"], nullable=True))
    a.evolve(more, {})
    b.merge(a, notes.combined)
    _put(b, more, km=2, mode="bus")
    a.evolve(_schema(60), {})
    assert b.merge(a, notes.combined)
    assert _rows(b) == [(1,), (2,)]


@pytest.mark.parametrize("fills", [(5, None), (None, 5), (5, 6)])
def test_what_the_devices_filled_in_differently_is_said_at_once(pair: Pair, fills: tuple[int | None, ...]) -> None:
    later = _schema(x=Integer(0, 9, nullable=True))
    for vault, value in zip(pair, fills, strict=True):
        vault.evolve(later, {} if value is None else {"x": value})
    _put(pair[0], later, km=7, x=1)
    _refused(*pair, "filled")


def test_what_was_filled_in_on_one_device_holds_where_the_table_always_had_the_column(apart: Pair) -> None:
    a, b = apart
    later = _schema(x=Integer(0, 9))
    _put(a, FIRST, km=1)
    a.evolve(later, {"x": 5})
    _put(b, later, km=2, x=7)
    for _ in range(2):
        b.merge(a, notes.combined)
        a.merge(b, notes.combined)
        assert _rows(a) == _rows(b) == [(1, 5), (2, 7)]
    a.compact()
    assert not b.merge(a, notes.combined)


def test_schemas_of_both_histories_stay_readable_where_one_is_behind_the_other(apart: Pair) -> None:
    a, b = apart
    narrow, later = _schema(x=Integer(0, 9)), _schema(60, x=Integer(0, 9))
    _put(b, FIRST, km=1)
    b.evolve(narrow, {"x": 3})
    _put(a, narrow, km=2, x=4)
    a.evolve(later, {})
    assert a.merge(b, notes.combined)
    assert sorted(_rows(a)) == [(1, 3), (2, 4)]
    assert {s.digest for s in a.earlier("t")} == {narrow.digest, FIRST.digest}
    with pytest.raises(InvalidDataError, match="before"):
        a.evolve(FIRST, {})


def _put_anything(vault: Vault, schema: Schema, codes: pl.DataFrame) -> None:
    """Rows of a device in other hands, whose program checks nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault_module.codec, "check", lambda schema, codes: None)
        vault.put([(schema, codes)])


_BAD: list[tuple[Schema, Callable[[], pl.DataFrame]]] = [
    (TRIPS, lambda: trips(1).with_columns(pl.lit(51, pl.UInt8).alias("km"))),
    (TRIPS, lambda: trips(1).with_columns(pl.lit(9, pl.UInt8).alias("district"))),
    (TRIPS, lambda: trips(1).with_columns(pl.lit(None, pl.UInt8).alias("district"))),
    (TRIPS, lambda: trips(1).with_columns(pl.lit(7000, pl.Int64).alias("km"))),
    (TRIPS, lambda: trips(1).drop("district")),
    (PERSON, lambda: person(1).with_columns(pl.lit(255, pl.UInt8).alias("age"))),
]


@pytest.mark.parametrize("bad", range(len(_BAD)))
def test_rows_that_no_put_would_take_are_not_merged(tmp_path: Path, bad: int) -> None:
    schema, codes = _BAD[bad]
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1)), (PERSON, person(30))])
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            _put_anything(b, schema, codes())
            b.compact()
            before = vaults.held(a)
            with pytest.raises(StoreError, match="do not fit"):
                a.merge(b, notes.combined)
            assert vaults.held(a) == before


@pytest.mark.parametrize("number", [1 << 62, (1 << 64) - 1])
def test_a_device_that_counts_to_the_end_does_not_take_the_numbers_of_the_other(tmp_path: Path, number: int) -> None:
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b._session._sequence = number - 1
            with vaults.large_from(0):
                b.put([(PERSON, person(40))])
            b._session.commit()
            with pytest.raises(StoreError, match="no clock"):
                a.merge(b, notes.combined)
            a.put([(PERSON, person(30))])
            assert a.scan("person").equals(person(30))


def test_a_device_that_hides_its_number_does_not_outlive_a_later_put(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b._session._sequence = 1 << 61
            with vaults.large_from(0):
                b.put([(PERSON, person(40))])
            b._session._sequence = 0
            b._session.commit()
            a.merge(b, notes.combined)
        a.put([(PERSON, person(30))])
        assert a.scan("person").equals(person(30))
        a.compact()
        assert a.scan("person").equals(person(30))


def test_a_merge_that_is_killed_between_any_two_steps_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1)), (PERSON, person(30))])
        a.enrol(tmp_path / "b", device_key=KEY)
        a.put([(TRIPS, trips(2))])
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b.put([(TRIPS, trips(3)), (PERSON, person(31))])
            b.set_state({"note": b"theirs"})
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            before, theirs = vaults.held(a), vaults.held(b)
            copies = faults.Copies(tmp_path / "copies", tmp_path / "a", tmp_path / "b")
            with faults.before_each(copies):
                a.merge(b, notes.combined)
            after = vaults.held(a)
    assert len(copies.made) > 8
    found = [vaults.contents(copy / "a") for copy in copies.made]
    assert all(state in (before, after) for state in found)
    assert (found[0], found[-1]) == (before, after)
    for copy in copies.made:
        assert vaults.contents(copy / "b") == theirs
        with Vault.open(copy / "a", device_key=KEY) as a, Vault.open(copy / "b", device_key=KEY) as b:
            a.merge(b, notes.combined)
            assert not a.merge(b, notes.combined)
            assert vaults.held(a) == after
            a.compact()
            assert not any(checked.fault for checked in a.check())


def test_an_enrolment_that_is_killed_between_any_two_steps_leaves_a_vault_or_none(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1))])
        held = vaults.held(a)
        copies = faults.Copies(tmp_path / "copies", tmp_path / "a", tmp_path / "b")
        with faults.before_each(copies):
            a.enrol(tmp_path / "b", device_key=KEY)
    made = 0
    for copy in [*copies.made, tmp_path]:
        assert vaults.contents(copy / "a") == held
        if (copy / "b" / "VAULT").exists():
            assert vaults.contents(copy / "b") == held
            made += 1
    assert 0 < made < len(copies.made)
