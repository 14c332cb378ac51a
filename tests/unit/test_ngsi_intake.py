"""What a household's devices tell goes into a resident's vault: each value once, in its unit, at its time, or not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import datasov as ds
from datasov import ngsi
from datasov.errors import DatasovError, InvalidDataError
from datasov.ngsi.intake import noted
from datasov.ngsi.mapping import Field, Mapping, read_mapping
from datasov.ngsi.reading import read
from tests.ngsi import POWER, T0, T1, T2, T3, meter

KEY = bytes(range(32))
ROOM = ds.Schema("room", domain="energy", columns={
    "at": ds.Timestamp("2025-01-01", "2026-01-01"), "watts": ds.Integer(0, 9000, unit="W"),
    "mode": ds.Category(["heat", "cool"], nullable=True), "open": ds.Boolean(nullable=True),
})  # fmt: skip
ROOMS = Mapping(
    "Room", ROOM, "at", {"watts": Field("power"), "mode": Field("mode", values={"暖房": "heat"}), "open": Field("open")}
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ds.Resident]:
    with ds.Resident.create(tmp_path / "v", device_key=KEY) as found:
        yield found


def take(home: ds.Resident, *entities: Any, mapping: Mapping | None = None) -> ngsi.Taken:
    return ngsi.take(home, json.dumps(list(entities)).encode(), [mapping or ngsi.meter()])


def rows(home: ds.Resident) -> list[tuple[Any, ...]]:
    return home.scan(POWER).sort("at").select("at", "kwh", "fed").rows()


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def test_a_meter_s_total_becomes_rows_of_what_it_grew_by(home):
    first = take(home, meter(1000.5, T0))
    assert (first.put, first.begun, first.refused) == (0, 1, [])
    second = take(home, meter(1000.937, T1), meter(1001.1, T2))
    assert (second.put, second.begun, second.duplicates) == (2, 0, 0)
    assert rows(home) == [(at(T1), Decimal("0.437"), Decimal(0)), (at(T2), Decimal("0.163"), Decimal(0))]


def test_what_comes_twice_is_put_once_also_after_the_vault_was_closed(home, tmp_path):
    body = [meter(1, T0), meter(2, T1), meter(2, T1)]
    assert (take(home, *body).put, take(home, *body).put) == (1, 0)
    home.close()
    with ds.Resident.open(tmp_path / "v", device_key=KEY) as again:
        taken = take(again, *body)
        assert (taken.put, taken.duplicates, taken.refused, len(rows(again))) == (0, 3, [], 1)


def test_readings_in_any_order_of_one_body_give_the_same_rows(home):
    take(home, meter(1, T0))
    take(home, meter(4, T3), meter(2, T1), meter(3, T2))
    assert [r[1] for r in rows(home)] == [1, 1, 1]
    late = take(home, meter(2.5, "2025-01-01T00:40:00Z"))
    assert (late.put, late.refused[0].attribute) == (0, "totalConsumption")
    assert "older than the newest" in late.refused[0].reason


def test_meters_are_told_apart(home):
    take(home, meter(1, T0), meter(100, T0, name="urn:m:2"))
    take(home, meter(2, T1), meter(105, T1, name="urn:m:2"))
    assert sorted(r[1] for r in rows(home)) == [1, 5]


LD = {
    "id": "urn:m:1", "type": "SmartMeteringObservation",
    "totalConsumption": {"type": "Property", "value": 2, "unitCode": "KWH", "observedAt": T1},
    "meterType": {"type": "Property", "value": "Electricity"}, "@context": ["https://example.org/c.jsonld"],
}  # fmt: skip
FORMS = {
    "NGSIv2 with times in metadata": {
        **meter(2, T1), "dateObserved": None,
        "totalConsumption": {"type": "Number", "value": 2, "metadata": {
            "unitCode": {"type": "Text", "value": "KWH"}, "TimeInstant": {"type": "DateTime", "value": T1}}},
    },
    "NGSI-LD": LD,
    "NGSI-LD, concise": {**LD, "totalConsumption": {"value": 2, "unitCode": "KWH", "observedAt": T1},
                         "meterType": "Electricity"},
    "NGSI-LD, expanded names": {
        "id": "urn:m:1", "type": "https://smartdatamodels.org/dataModel.Device/SmartMeteringObservation",
        "https://smartdatamodels.org/dataModel.Device/totalConsumption": LD["totalConsumption"],
        "https://smartdatamodels.org/dataModel.Device/meterType": LD["meterType"],
    },
    "NGSI-LD, typed time": {**LD, "totalConsumption": {"type": "Property", "value": 2, "unitCode": "KWH"},
                            "dateObserved": {"type": "Property", "value": {"@type": "DateTime", "@value": T1}}},
    "local time": meter(2, "2025-01-01T09:30:00+09:00"),
    "another unit": meter(2000, T1, "WHR"),
}  # fmt: skip


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_gives_the_same_row(home, form):
    take(home, meter(1, T0))
    taken = take(home, FORMS[form])
    assert (taken.put, taken.refused) == (1, [])
    assert rows(home) == [(at(T1), Decimal(1), Decimal(0))]


def test_a_notification_and_one_entity_alone_are_taken_too(home):
    take(home, meter(1, T0))
    body = {"subscriptionId": "6b04", "data": [meter(2, T1)]}
    assert ngsi.take(home, json.dumps(body).encode(), [ngsi.meter()]).put == 1
    assert ngsi.take(home, json.dumps(meter(3, T2)).encode(), [ngsi.meter()]).put == 1


def test_key_values_tell_no_unit_so_somebody_must(home):
    entity = {"id": "urn:m:1", "type": "SmartMeteringObservation", "meterType": "Electricity", "dateObserved": T0}
    refused = take(home, {**entity, "totalConsumption": 1})
    assert (refused.put, refused.begun) == (0, 0)
    assert "without a unit" in refused.refused[0].reason
    assumed = ngsi.meter().assuming("WHR")
    take(home, {**entity, "totalConsumption": 1000}, mapping=assumed)
    take(home, {**entity, "totalConsumption": 1500, "dateObserved": T1}, mapping=assumed)
    assert [r[1] for r in rows(home)] == [Decimal("0.5")]


@pytest.mark.parametrize(("entity", "word"), [
    (meter(2, T1, "MTQ"), "another unit"), (meter(2, T1, "KGM"), "another unit"), (meter("2 kWh", T1), "not a number"),
    (meter(True, T1), "not a number"), (meter([1], T1), "not a number"), (meter(-1, T1), "a meter's total lies"),
    (meter(2, "2025-01-01T00:30:00"), "without an offset"), (meter(2, "yesterday"), "not a time"),
    (meter(2, 5), "no time"), (meter(2, T1, kind="Water"), "not Electricity"), (meter(70, T1), "bound"),
    (meter(0.5, T1), "below the one before"), (meter(2, "2025-01-01T03:00:00Z"), "more than 1h"),
    (meter(2, "0001-01-01T00:00:00+09:00"), "not a time"), ({"id": "urn:m:9", "type": "Lamp"}, "no mapping"),
    ({"id": 5, "type": "Lamp"}, "an id and a type"), ("lamp", "an id and a type"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_and_the_rest_is_put(home, entity, word):
    take(home, meter(1, T0), meter(1, T0, name="urn:m:2"))
    taken = take(home, entity, meter(2, T1, name="urn:m:2"))
    assert (taken.put, len(taken.refused)) == (1, 1)
    assert word in taken.refused[0].reason
    assert [r[1] for r in rows(home)] == [1]


def test_after_a_pause_or_another_meter_it_counts_from_the_new_total(home):
    take(home, meter(100, T0), meter(1, T1))
    assert take(home, meter(1.25, T2)).put == 1
    take(home, meter(50, "2025-01-02T00:00:00Z"))
    assert take(home, meter(50.5, "2025-01-02T00:30:00Z")).put == 1
    assert [r[1] for r in rows(home)] == [Decimal("0.25"), Decimal("0.5")]
    take(home, meter(150, "2025-01-02T01:00:00Z"))  # 99.5 kWh in half an hour: refused, and not in the next one either
    assert take(home, meter(150.5, "2025-01-02T01:30:00Z")).put == 1
    assert rows(home)[-1][1] == Decimal("0.5")


def test_a_mapping_of_one_s_own_takes_categories_truth_values_and_nulls(home):
    def room(minute: int, **values: Any) -> dict[str, Any]:
        return {"id": "urn:room", "type": "Room", "dateObserved": f"2025-01-01T00:{minute:02}:00Z",
                "power": {"value": 1.5, "unitCode": "KWT"}, **values}  # fmt: skip

    taken = take(
        home, room(1, mode="暖房", open=True), room(2, mode="cool"), room(3, mode="dry"),
        room(4, power={"value": 1, "unitCode": "KWH"}), room(5, open="yes"), mapping=ROOMS,
    )  # fmt: skip
    assert taken.put == 2
    assert home.scan(ROOM).select("watts", "mode", "open").rows() == [(1500, "heat", True), (1500, "cool", None)]
    assert [f.attribute for f in taken.refused] == ["mode", "power", "open"]
    again = take(home, room(3, mode="heat"), mapping=ROOMS)
    assert again.put == 1, "a value that was refused may come again, as it should be"


def test_times_without_an_offset_are_of_the_zone_that_a_mapping_names(home):
    mapping = Mapping("Room", ROOM, "at", {"watts": Field("power", "W")}, zone="Asia/Tokyo")
    take(home, {"id": "r", "type": "Room", "power": 5, "dateObserved": "2025-03-01T09:00:00"}, mapping=mapping)
    assert home.scan(ROOM)["at"].to_list() == [at("2025-03-01T00:00:00+00:00")]


def test_a_twelve_digit_number_with_a_check_digit_is_refused(home):
    free = ds.Schema("free", domain="energy", columns={
        "at": ds.Timestamp("2025-01-01", "2026-01-01"), "n": ds.Integer(0, 10**13, unit="Wh")})  # fmt: skip
    mapping = Mapping("Lamp", free, "at", {"n": Field("id_number", "Wh")})
    taken = take(home, {"id": "r", "type": "Lamp", "id_number": 123456789018, "dateObserved": T0}, mapping=mapping)
    assert (taken.put, len(taken.refused)) == (0, 1)
    assert "123456789018" not in taken.refused[0].reason


@pytest.mark.parametrize("body", [
    b"", b"{", b"\xff", b"[1", b"5", b'{"a":1}', b'{"data":{}}', b"[" * 100_000, b'[{"id":"a","type":"T","x":NaN}]',
    json.dumps([{}] * 10_001).encode(), b" " * (8 * 1024 * 1024 + 1),
])  # fmt: skip
def test_a_body_that_holds_no_entities_is_refused(home, body):
    with pytest.raises(InvalidDataError):
        ngsi.take(home, body, [ngsi.meter()])


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["id", "type", "value", "data", "metadata", "totalConsumption", "dateObserved", "unitCode",
                         "observedAt", "object", "@value", "@type"]), inner), max_leaves=25))  # fmt: skip
@settings(max_examples=100)
def test_no_body_leads_to_another_error_than_its_refusal(document):
    try:
        readings, faults = read(json.dumps(document).encode())
    except DatasovError:
        return
    assert all(isinstance(r.identifier, str) for r in readings)
    assert all(f.reason for f in faults)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4),
       when=st.text() | st.just(T1) | st.integers(), unit=st.sampled_from([None, "KWH", "x", ""]))  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_leads_to_another_error_than_its_refusal(value, when, unit, home):
    text = json.dumps([meter(value, when, unit)])
    try:
        taken = ngsi.take(home, text.encode(), [ngsi.meter()])
    except InvalidDataError:
        assert "NaN" in text or "Infinity" in text
        return
    assert taken.put + taken.duplicates + taken.begun + len(taken.refused) == 1


def test_what_was_noted_lies_in_the_same_domain_and_goes_with_it(home):
    take(home, meter(1, T0), meter(2, T1))
    schema = noted("energy")
    assert (schema.domain, set(home.tables())) == ("energy", {"electricity", "ngsi_taken_energy"})
    assert home.scan(schema).height == 4  # two totals, and the entity at each of their times
    home.erase_domain("energy", device_key=bytes(32))
    assert (rows(home), home.scan(schema).height) == ([], 0)
    assert take(home, meter(3, T2)).begun == 1


def test_the_rows_and_the_notes_are_put_together_or_not_at_all(home, monkeypatch):
    take(home, meter(1, T0))
    with monkeypatch.context() as patch:
        patch.setattr(ds.Resident, "put_all", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            take(home, meter(2, T1))
    assert take(home, meter(2, T1)).put == 1


# --- mappings


def test_a_mapping_is_read_from_json():
    made = read_mapping(json.dumps({
        "type": "SmartMeteringObservation", "table": "electricity", "at": "at", "only": {"meterType": "Electricity"},
        "fields": {"kwh": {"attribute": "totalConsumption", "difference": True}}, "fixed": {"fed": "0"},
    }).encode())  # fmt: skip
    assert made == ngsi.meter()
    own = read_mapping(json.dumps({
        "type": "Room", "schema": ROOM.document(), "at": "at", "longest": "2h",
        "fields": {"watts": {"attribute": "power", "unit": "W"}},
    }).encode())  # fmt: skip
    assert (own.schema, own.longest, own.fields["watts"].unit) == (ROOM, "2h", "W")


@pytest.mark.parametrize(("changed", "word"), [
    ({"table": "nowhere"}, "no table"), ({"schema": {}}, "one of the two"), ({"table": None}, "one of the two"),
    ({"fields": {"kwh": {}}}, "lacks a part"), ({"fields": {}}, "gives no value"),
    ({"fixed": {}}, "gives no value for fed"),
    ({"at": "kwh"}, "gives no value"), ({"fields": {"x": {"attribute": "y"}}}, "lacks"), ({"other": 1}, "lacks a part"),
    ({"longest": "soon"}, "does not fit"), ({"zone": "Mars"}, "does not fit"),
    ({"type": None, "fields": None}, "lacks a part"),
])  # fmt: skip
def test_a_mapping_that_is_none_is_refused(changed, word):
    document = {
        "type": "SmartMeteringObservation", "table": "electricity", "at": "at",
        "fields": {"kwh": {"attribute": "totalConsumption", "difference": True}}, "fixed": {"fed": "0"}, **changed,
    }  # fmt: skip
    with pytest.raises(InvalidDataError, match=word):
        read_mapping(json.dumps(document).encode())
    for text in (b"{", b"[]", b"\xff"):
        with pytest.raises(InvalidDataError):
            read_mapping(text)


def test_mappings_that_do_not_go_together_are_refused(home):
    other = Mapping("Trip", ds.Schema("t", domain="mobility", columns=dict(ROOM.items)), "at", {"watts": Field("p")})
    for mappings in ([ngsi.meter(), ngsi.meter()], [ngsi.meter(), other], []):
        with pytest.raises(InvalidDataError, match="one mapping for each"):
            ngsi.take(home, b"[]", mappings)


@pytest.mark.parametrize("value", [
    "1e99999999999999999999", "1e-99999999999999999999", "[" * 480 + "]" * 480, '{"value":' * 480 + "1" + "}" * 480,
    '"\\ud800"', "1e999999", "-0.0001",
])  # fmt: skip
def test_no_value_that_is_sent_ends_the_intake_of_the_others(home, value):
    take(home, meter(1, T0, name="urn:m:2"))
    odd = json.dumps(meter("HERE", T1)).replace('"HERE"', value)
    body = f"[{odd},{json.dumps(meter(2, T1, name='urn:m:2'))}]".encode()
    try:
        taken = ngsi.take(home, body, [ngsi.meter()])
    except InvalidDataError:
        assert "e" in value  # a number that no JSON reader here can keep
        return
    assert (taken.put, len(taken.refused)) == (1, 1)


def test_an_id_that_is_no_text_and_a_name_that_stands_twice_are_refused(home):
    lone = json.dumps(meter(1, T0)).replace("urn:m:1", "\\ud800").encode()
    assert [f.reason for f in ngsi.take(home, lone, [ngsi.meter()]).refused] == [
        "a text that is no Unicode: send UTF-8"
    ]
    twice = json.dumps(meter(1, T0)).replace('"id"', '"id": "urn:m:7", "id"').encode()
    with pytest.raises(InvalidDataError):
        ngsi.take(home, twice, [ngsi.meter()])


def test_a_meter_whose_clock_is_ahead_does_not_keep_out_what_comes_after(home):
    now = at(T1).timestamp()
    ahead = json.dumps([meter(1, "2190-01-01T00:00:00Z"), meter(1, "2350-01-01T00:00:00Z"), meter(1, T0)]).encode()
    first = ngsi.take(home, ahead, [ngsi.meter()], now=now)
    assert (first.begun, len(first.refused)) == (1, 2)
    assert {f.reason.partition(":")[0] for f in first.refused} == {
        "a time that is still to come", "a time before 1970 or after 2199"
    }  # fmt: skip
    assert ngsi.take(home, json.dumps(meter(2, T1)).encode(), [ngsi.meter()], now=now).put == 1
