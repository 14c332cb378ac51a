"""What a city checks of a consent's terms: the place of processing, and the columns of the special class."""

from __future__ import annotations

import pytest

import datasov as ds
from datasov.authority.admission import pack_table
from datasov.errors import ConsentError, InvalidQueryError, StoreError
from datasov.model.consent import contains
from tests.helpers import NOW, TRIPS, codes_of, consent_for, contribution, enrol, found_city, signed

ROWS = [{"district": "N", "km": 7}]
VISITS = ds.Schema("visits", domain="health", columns={
    "ward": ds.Category("ab"), "illness": ds.Category("xy", legal="special"),
})  # fmt: skip
CARE = ds.Schema("care", domain="health", kind="attributes", columns={
    "level": ds.Integer(0, 5, legal="special"), "age": ds.Integer(0, 120),
})  # fmt: skip
ILL = ds.Schema("ill_trips", domain="mobility", columns={
    "km": ds.Integer(0, 50), "ill": ds.Exists(VISITS, where=ds.col("illness") == "x"),
})  # fmt: skip


def admitted(city: ds.City, schema: ds.Schema, rows: object, profiles: object = None, **given: object) -> bool:
    consent = consent_for(city, schema, "ann", **given)
    try:
        city.admit(consent, contribution(city, consent, "ann", next_sequence(), schema, rows, profiles))
    except ConsentError:
        return False
    return True


def next_sequence(_count: list[int] = [0]) -> int:  # noqa: B006
    _count[0] += 1
    return _count[0]


def test_what_lies_within_what():
    assert contains("JP", "JP-10")
    assert contains("JP", "JP")
    assert contains("JP-1", "JP-1")
    for outer, inner in (("JP-10", "JP"), ("JP", "JPN"), ("JP-1", "JP-10"), ("US", "JP-10"), ("JP-10", "JP-13")):
        assert not contains(outer, inner)


@pytest.mark.parametrize(
    ("place", "jurisdiction", "processing", "expected"),
    [
        (None, "JP", "", True), (None, "JP", "JP", True), (None, "JP", "JP-10", False), (None, "JP-10", "", False),
        (None, "US", "", False), (None, "US", "JP", True), ("JP-10", "JP", "", True), ("JP-10", "JP-10", "", True),
        ("JP-10", "JP", "JP-10", True), ("JP-10", "JP", "JP-13", False), ("JP-10", "JP-13", "", False),
        ("JP-10", "JP-10", "US", False), ("US", "JP", "US", True),
    ],
)  # fmt: skip
def test_a_city_admits_where_it_may_process(tmp_path, clock, place, jurisdiction, processing, expected):
    issued = NOW - 100
    with found_city(tmp_path, clock, processing=place) as city:
        given = {"jurisdiction": jurisdiction, "processing": processing, "issued": issued}
        assert admitted(city, TRIPS, ROWS, **given) is expected


def test_the_place_of_a_city_is_shown_and_fixed(tmp_path, clock):
    with found_city(tmp_path, clock, processing="JP-10") as city:
        assert city.processing == "JP-10"
        consent = consent_for(city, TRIPS, "ann", processing="JP-13")
        with pytest.raises(ConsentError, match=r"city\.processing"):
            city.admit(consent, contribution(city, consent, "ann", 1, TRIPS, ROWS))
    with found_city(tmp_path, clock) as city:
        assert city.processing == "JP-10"
    with pytest.raises(StoreError, match="place"):
        found_city(tmp_path, clock, processing="JP")
    (tmp_path / "b").mkdir()
    for bad in ("jp", "Japan", "JP-1000", "", 7):
        with pytest.raises(InvalidQueryError, match="ISO 3166"):
            found_city(tmp_path / "b", clock, processing=bad)


def test_a_city_founded_before_there_were_places_processes_in_japan(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        del city._settings["processing"], city._settings["purpose_documents"]
        assert city.processing == "JP"
        assert city.purpose(city.purposes[0]) == ds.Purpose(city.purposes[0])
        enrol(city, ["ann"], lambda _: ROWS)


@pytest.mark.parametrize(
    ("columns", "special", "expected"),
    [
        (["ward"], (), True), (["ward", "illness"], ("visits.illness",), True), (["ward", "illness"], (), False),
        (["ward", "illness"], ("visits.ward",), False), (["ward", "illness"], ("visits.illness", "visits.ward"), False),
        (["ward"], ("visits.ward",), False),
    ],
)  # fmt: skip
def test_a_city_wants_the_special_columns_named_and_no_others(tmp_path, clock, columns, special, expected):
    rows = [{"ward": "a", "illness": "x"}]
    with found_city(tmp_path, clock) as city:
        consent = consent_for(city, VISITS, "ann", columns=columns, special=special)
        sent = contribution(city, consent, "ann", 1, VISITS, rows)
        if expected:
            city.admit(consent, sent)
        else:
            with pytest.raises(ConsentError, match="special class"):
                city.admit(consent, sent)


@pytest.mark.parametrize(
    ("special", "expected"), [(("care.level",), True), ((), False), (("care.age", "care.level"), False)]
)
def test_the_same_of_joined_tables(tmp_path, clock, special, expected):
    with found_city(tmp_path, clock) as city:
        given = {"join": {CARE: ["level", "age"]}, "special": special}
        assert admitted(city, TRIPS, ROWS, {CARE: [{"level": 1, "age": 9}]}, **given) is expected


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        (("ill_trips.ill",), True), (("ill_trips.ill", "visits.illness"), True), ((), False),
        (("visits.illness",), False), (("ill_trips.ill", "ill_trips.km"), False),
    ],
)  # fmt: skip
def test_the_same_of_derived_columns_whose_table_does_not_travel(tmp_path, clock, special, expected):

    with found_city(tmp_path, clock) as city:
        consent = consent_for(city, ILL, "ann", columns=["km", "ill"], reads=[VISITS], special=special)
        sent = signed(city, consent, "ann", 1, pack_table(ILL, codes_of(ILL, [{"km": 3, "ill": True}])))
        if expected:
            city.admit(consent, sent)
        else:
            with pytest.raises(ConsentError, match="special class"):
                city.admit(consent, sent)
