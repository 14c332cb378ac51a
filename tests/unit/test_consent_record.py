"""The record that people read: all that matters stands in it, in both languages, and it is bound to its token."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

import datasov as ds
from datasov.authority import token
from datasov.authority.record import check_record, make_record
from datasov.crypto.kdf import sha256
from datasov.errors import ConsentError, VerificationError
from datasov.model.consent import CityId, Claims
from datasov.model.document import canonical
from datasov.model.privacy import Loss, pure
from tests.helpers import NOW, PURPOSE, RHO, TRIPS, found_city
from tests.unit.test_purposes import OWN
from tests.unit.test_token import CITY, CLAIMS, KEY, OTHER

GIVEN = replace(CLAIMS, processing="JP-10", jurisdiction="JP", special=("person.age",), loss=Loss(123_456_789, delta=7))
RECORD = make_record(GIVEN, OWN)
SIGNED = replace(GIVEN, record=RECORD.digest)


def test_a_record_is_made_again_from_the_claims_and_bound_by_its_hash():
    assert make_record(SIGNED, OWN) == RECORD
    assert RECORD.digest == sha256(RECORD.data)
    consent = token.issue(SIGNED, KEY)
    assert check_record(RECORD, token.read(consent.token).claims) == RECORD
    assert check_record(RECORD.data, consent.claims) == RECORD
    assert canonical(RECORD.document) == RECORD.data


OTHERS = {
    "audience": str(CityId("別市", OTHER.public, CITY.seal_key)),
    "expires": CLAIMS.expires + 1,
    "coverage": CLAIMS.coverage[:1],
    "purpose": "waste-planning",
    "loss": Loss(123_456_788, delta=7),
    "jurisdiction": "US",
    "processing": "JP-13",
    "special": ("trips.km",),
}


@pytest.mark.parametrize("field", OTHERS)
def test_whatever_matters_changes_the_text_in_both_languages(field):
    changed = replace(GIVEN, **{field: OTHERS[field]})
    other = make_record(changed, replace(OWN, name=changed.purpose))
    for language in ("ja", "en"):
        assert other.text(language) != RECORD.text(language), field
    with pytest.raises(VerificationError):
        check_record(other, SIGNED)
    with pytest.raises(VerificationError, match="other things" if field != "purpose" else "cannot be read"):
        check_record(RECORD, replace(SIGNED, **{field: OTHERS[field]}))


def test_what_matters_can_be_read_in_both_languages():
    shared = [
        "湖畔市", str(CITY), "bus-planning", "https://w3id.org/dpv#ImproveTransportMobility", "trips: district, km",
        "person: age", "person.age", "rho = 0.123456789", "delta = 0.000000000000000007", "central", "JP-10", ": JP\n",
    ]  # fmt: skip
    for language, own in (
        ("ja", ["バス路線の計画", "2027-12-28T22:20:00+09:00", "要配慮個人情報: person.age", "撤回"]),
        ("en", ["Planning of bus lines", "2027-12-28T13:20:00+00:00", "special class", "revoke"]),
    ):
        text = RECORD.text(language)
        for part in (*shared, *own):
            assert part in text, (language, part)
    assert str(RECORD) == RECORD.text("ja") + "\n" + RECORD.text("en")
    plain = make_record(replace(GIVEN, special=(), loss=pure(epsilon=1), processing=""), ds.Purpose(GIVEN.purpose))
    assert "要配慮個人情報: なし" in plain.text("ja")
    assert "none" in plain.text("en")
    assert "epsilon = 1 (pure)" in plain.text("en")
    assert "dpv" not in plain.text("ja")


def test_the_fields_of_the_guide_are_there():
    found = RECORD.document
    assert found["schema_version"] == "https://w3id.org/dpv/schema/dpv-27560#record"
    assert found["purpose"]["iri"] == OWN.iri
    assert found["pii_controllers"] == [{"name": CITY.name, "id": str(CITY)}]
    assert found["sensitive_pii"] == ["person.age"]
    assert (found["processing_locations"], found["jurisdiction"]) == (["JP-10"], "JP")
    assert found["lawful_basis"].endswith("#Consent")
    assert set(found) >= {
        "record_id", "pii_principal_id", "language", "pii_information", "storage_locations", "valid_until",
        "recipient_third_parties", "event_state", "consent_type", "processing_method",
    }  # fmt: skip


def test_nobody_stands_in_a_record():
    """The record is the same for everybody who agrees to the same: only terms and the last day enter it."""
    personal = {
        "issuer": OTHER.public, "token_id": bytes(16), "issued": 1_790_000_005, "not_before": 1_790_000_006,
        "status": 7, "subject": KEY.public, "parent": bytes(32), "record": bytes(32),
    }  # fmt: skip
    assert make_record(replace(GIVEN, **personal), OWN) == RECORD
    entering = {f.name for f in fields(Claims)} - personal.keys()
    assert entering == {*OTHERS, "trust"}
    assert KEY.public.hex() not in RECORD.data.decode()


def forged(**changed: object) -> tuple[bytes, Claims]:
    data = canonical({**RECORD.document, **changed})
    return data, replace(SIGNED, record=sha256(data))


@pytest.mark.parametrize(
    "changed",
    [
        {"text": {"ja": RECORD.text("ja").replace("0.123456789", "0.001"), "en": RECORD.text("en")}},
        {"text": {"ja": RECORD.text("ja"), "en": RECORD.text("en").replace("JP-10", "JP-13")}},
        {"purpose": {**RECORD.document["purpose"], "name": "harmless"}}, {"purpose": None}, {"purpose": {"name": 1}},
        {"purpose": {**RECORD.document["purpose"], "ja": "一行目\n二行目"}}, {"pii_information": []}, {"more": 1},
        {"purpose": {**RECORD.document["purpose"], "label_ja": "天気"}},
    ],
)  # fmt: skip
def test_a_record_that_its_own_token_contradicts_is_refused(changed):
    with pytest.raises(VerificationError):
        check_record(*forged(**changed))


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 5000, b"\xff", b'{"purpose":1}', RECORD.data + b"\n", b"1", None])
def test_what_is_no_record_is_refused(data):
    claims = replace(SIGNED, record=sha256(data)) if data is not None else SIGNED
    with pytest.raises(VerificationError):
        check_record(data, claims)


def test_a_record_under_other_labels_is_another_record():
    """Claims name a purpose, the record what it is called: only the hash tells what the holder was shown."""
    for other in (ds.Purpose(OWN.name), replace(OWN, ja="天気予報"), replace(OWN, within="dpv:Marketing")):
        with pytest.raises(VerificationError, match="signed with"):
            check_record(make_record(SIGNED, other), SIGNED)


def test_a_consent_without_a_record_matches_none():
    with pytest.raises(VerificationError):
        check_record(RECORD, GIVEN)
    with pytest.raises(VerificationError):
        make_record(GIVEN, ds.Purpose("other"))


def test_a_vault_shows_the_record_of_each_of_its_consents(tmp_path, clock):
    with (
        found_city(tmp_path, clock, purposes=[OWN, "plain"]) as city,
        ds.Resident.create(tmp_path / "a", device_key=bytes(32), clock=clock) as ann,
    ):
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        given = {"loss": RHO, "until": "2030-01-01"}
        consents = [
            ann.grant(city.id, TRIPS, purpose=city.purpose(PURPOSE), **given),
            ann.grant(city.id, TRIPS, purpose=PURPOSE, **given), ann.grant(city.id, TRIPS, purpose="plain", **given),
        ]  # fmt: skip
        for consent in consents:
            city.admit(consent, ann.contribute(consent))
    with ds.Resident.open(tmp_path / "a", device_key=bytes(32), clock=clock) as ann:
        texts = [ann.record(c).text("ja") for c in consents]
        assert "バス路線の計画" in texts[0]
        assert "バス路線の計画" not in texts[1]
        assert "plain" in texts[2]
        for consent in consents:
            assert ds.check_record(ann.record(consent), consent.claims).digest == consent.claims.record
        clock.now = NOW + 1
        with pytest.raises(ConsentError):
            ann.record(token.issue(SIGNED, KEY))
        phone = tmp_path / "phone"
        ann.enrol(phone, device_key=bytes(range(32)))
        called = replace(OWN, en="Lines")
        consents.append(ann.grant(city.id, TRIPS, purpose=called, **{**given, "until": "2030-02-01"}))
        texts.append(ann.record(consents[-1]).text("ja"))
    with ds.Resident.open(phone, device_key=bytes(range(32)), clock=clock) as other:
        other.merge(tmp_path / "a", device_key=bytes(32))
        assert [other.record(c).text("ja") for c in consents] == texts


def test_json_readers_read_a_record_alike():
    assert json.loads(RECORD.data) == RECORD.document
