"""Purposes: DPV's terms, a city's own, and what a city declares."""

from __future__ import annotations

import unicodedata

import pytest

import datasov as ds
from datasov.errors import InvalidQueryError, StoreError
from datasov.model.purposes import DPV, NAMESPACE, declared
from tests.helpers import found_city

OWN = ds.Purpose("bus-planning", within="dpv:ImproveTransportMobility", ja="バス路線の計画", en="Planning of bus lines")


def test_terms_have_an_iri_and_labels_in_both_languages():
    assert len(DPV) > 90
    assert {"ServiceProvision", "PublicBenefit", "ProvideOfficialStatistics", "ImproveHealthcare"} <= DPV.keys()
    assert len({en for en, _ in DPV.values()}) == len({ja for _, ja in DPV.values()}) == len(DPV)
    for name, (en, ja) in DPV.items():
        assert name.isidentifier()
        assert name.isascii()
        assert en.isascii()
        assert not ja.isascii()
        assert ja == unicodedata.normalize("NFC", ja)
        purpose = ds.Purpose("dpv:" + name)
        assert purpose.iri == NAMESPACE + name == ds.Purpose(NAMESPACE + name).iri
        assert (purpose.label("en"), purpose.label("ja")) == (en, ja)


def test_a_purpose_of_ones_own():
    assert OWN.iri == "https://w3id.org/dpv#ImproveTransportMobility"
    assert (OWN.label("ja"), OWN.label("en")) == ("バス路線の計画", "Planning of bus lines")
    plain = ds.Purpose("bus-planning")
    assert (plain.iri, plain.label("ja"), plain.label("en")) == ("", "bus-planning", "bus-planning")
    assert ds.Purpose(**OWN.document()) == OWN


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""}, {"name": " x"}, {"name": 7}, {"name": "dpv:BusPlanning"}, {"name": NAMESPACE + "Buses"},
        {"name": "x", "within": "ServiceProvision"}, {"name": "x", "within": "dpv:Buses"}, {"name": "x", "within": 7},
        {"name": "dpv:Marketing", "ja": "宣伝"}, {"name": "dpv:Marketing", "within": "dpv:Marketing"},
        {"name": "x", "ja": "二\n行"}, {"name": "x", "en": "x" * 201}, {"name": "x", "en": " x"},
        {"name": "x", "ja": 7},
        {"name": "x", "ja": "か\u3099"}, {"name": "x", "ja": "担当 1234 5678 9018"},
    ],
)  # fmt: skip
def test_what_is_no_purpose_is_refused(bad):
    with pytest.raises(InvalidQueryError):
        ds.Purpose(**bad)


def test_a_city_declares_names_terms_and_its_own(tmp_path, clock):
    with found_city(tmp_path, clock, purposes=["dpv:ImproveHealthcare", OWN, "plain"]) as city:
        assert city.purposes == ("bus-planning", "dpv:ImproveHealthcare", "plain")
        assert city.purpose("bus-planning") == OWN
        assert city.purpose("plain") == ds.Purpose("plain")
        with pytest.raises(InvalidQueryError, match="declare"):
            city.purpose("other")
    for same in (["plain", "dpv:ImproveHealthcare", "bus-planning"], [OWN, "plain", "dpv:ImproveHealthcare"]):
        with found_city(tmp_path, clock, purposes=same) as city:
            assert city.purpose("bus-planning") == OWN
    other = ds.Purpose("bus-planning", ja="別のもの")
    for purposes in (["plain"], [other, "plain", "dpv:ImproveHealthcare"]):
        with pytest.raises(StoreError, match="purposes"):
            found_city(tmp_path, clock, purposes=purposes)


def test_two_purposes_of_one_name_are_not_declared(tmp_path, clock):
    assert declared(["b", "a", "b"]) == (ds.Purpose("a"), ds.Purpose("b"))
    with pytest.raises(InvalidQueryError, match="one name"):
        found_city(tmp_path, clock, purposes=["bus-planning", OWN])
    with pytest.raises(InvalidQueryError):
        found_city(tmp_path, clock, purposes=["dpv:Typo"])
