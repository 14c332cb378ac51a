"""Claim: nothing enters the pool that a resident did not sign, that their consent does not cover, or that does not fit.

Each attempt is refused by an error of its own, alone: it does not keep others out, and changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

import datasov as ds
from datasov.authority.admission import pack_table
from datasov.authority.coverage import coverage_of
from datasov.errors import ConsentError, DecryptionError, InvalidDataError, SignatureError, VerificationError
from datasov.model.document import canonical
from datasov.wire import cbor
from tests.helpers import (
    COUNT,
    NOW,
    PEOPLE,
    PURPOSE,
    RHO,
    TRIPS,
    consent_for,
    contribution,
    enrol,
    found_city,
    key_of,
    packed,
    revocation,
    signed,
)  # fmt: skip

ROWS = [{"district": "N", "km": 7}, {"district": "E", "km": 3}]


def state(city: ds.City) -> tuple:
    """All that an admission may change."""
    return city._store.head(), len(city._registry.refresh())


def refused(city: ds.City, consent: object, sealed: object, error: type[Exception], says: str | None = None) -> None:
    city.tick()
    before = state(city)
    with pytest.raises(error, match=says):
        city.admit(consent, sealed)
    assert state(city) == before, "a refused contribution changed something"


def sent(city: ds.City, codes: pl.DataFrame, schema: ds.Schema = TRIPS, **given: object) -> tuple:
    """A consent of "mallory" and any codes under it."""
    consent = consent_for(city, schema, "mallory", **given)
    return consent, signed(city, consent, "mallory", 1, pack_table(schema, codes))


def codes(**columns: pl.Series | list) -> pl.DataFrame:
    return pl.DataFrame(
        {n: v if isinstance(v, pl.Series) else pl.Series(v, dtype=pl.UInt8) for n, v in columns.items()}
    )


def test_what_is_right_is_admitted(city):
    city.admit(*sent(city, codes(district=[0, 3], km=[0, 50])))


# --- values, types and columns


@pytest.mark.parametrize(
    "bad",
    [
        codes(district=[4], km=[0]), codes(district=[255], km=[0]), codes(district=[0], km=[51]),
        codes(district=pl.Series([None], dtype=pl.UInt8), km=[0]),
        codes(district=[0], km=pl.Series([None], dtype=pl.UInt8)),
        codes(district=[0], km=pl.Series([-1], dtype=pl.Int8)), codes(district=[0], km=pl.Series([1], dtype=pl.Int64)),
        codes(district=pl.Series([0], dtype=pl.UInt32), km=[0]),
    ],
)  # fmt: skip
def test_codes_out_of_bounds_null_or_of_another_type_are_refused(city, bad):
    refused(city, *sent(city, bad), InvalidDataError)


@pytest.mark.parametrize(
    "bad",
    [
        codes(district=[0]),
        codes(km=[0]),
        codes(km=[0], district=[0]),
        codes(district=[0], km=[0], age=[0]),
        codes(district=[0], KM=[0]),
        pl.DataFrame(),
    ],
)
def test_columns_that_are_missing_extra_or_in_another_order_are_refused(city, bad):
    refused(city, *sent(city, bad), ConsentError, "covered")


def test_a_column_twice_is_refused(city):
    consent = consent_for(city, TRIPS, "mallory")
    columns = [["district", "u1", b"\x00", None], ["district", "u1", b"\x00", None]]
    table = cbor.encode([canonical(TRIPS.document()), cbor.encode([1, columns])])
    refused(city, consent, signed(city, consent, "mallory", 1, table), VerificationError)


@pytest.mark.parametrize(
    "frame",
    [
        [1, [["district", "u1", b"", None], ["km", "u1", b"\x00", None]]],
        [2**31 + 1, [["district", "u1", b"\x00", None], ["km", "u1", b"\x00", None]]],
        [-1, []], [1, [["district", "f8", bytes(8), None], ["km", "u1", b"\x00", None]]],
        [1, [["district", "u1", b"\x00", b""], ["km", "u1", b"\x00", None]]], [1], "rows", None, 7,
    ],
)  # fmt: skip
def test_frames_that_lie_about_themselves_are_refused(city, frame):
    consent = consent_for(city, TRIPS, "mallory")
    table = cbor.encode([canonical(TRIPS.document()), cbor.encode(frame)])
    refused(city, consent, signed(city, consent, "mallory", 1, table), VerificationError)


def test_columns_that_the_consent_does_not_cover_are_refused(city):
    refused(city, *sent(city, codes(district=[0], km=[0]), columns=["km"]), ConsentError, "covered")


def test_two_rows_of_an_attribute_table_are_refused(city):
    two = pl.DataFrame({"age": pl.Series([1, 2], dtype=pl.UInt8), "ward": pl.Series([0, 1], dtype=pl.UInt8)})
    refused(city, *sent(city, two, PEOPLE), InvalidDataError, "one row")
    consent = consent_for(city, TRIPS, "mallory", join=[PEOPLE])
    body = signed(city, consent, "mallory", 1, packed(TRIPS, ROWS), [("people", pack_table(PEOPLE, two))])
    refused(city, consent, body, InvalidDataError, "one row")


def test_an_event_table_is_not_joined(city):
    other = ds.Schema("other", domain="health", columns={"km": ds.Integer(0, 5)})
    covered = (coverage_of(TRIPS, None), coverage_of(other, None))
    consent = consent_for(city, TRIPS, "mallory", coverage=covered)
    body = signed(city, consent, "mallory", 1, packed(TRIPS, ROWS), [("other", packed(other, [{"km": 1}]))])
    refused(city, consent, body, ConsentError, "attribute")


@pytest.mark.parametrize("profiles", [[], [("trips", b"")], [("people", b""), ("extra", b"")], [("extra", b"")]])
def test_joined_tables_are_those_that_the_consent_covers(city, profiles):
    consent = consent_for(city, TRIPS, "mallory", join=[PEOPLE])
    refused(city, consent, signed(city, consent, "mallory", 1, packed(TRIPS, ROWS), profiles), ConsentError)


# --- schemas made to break the reader


def column(**changed: object) -> dict:
    return {"type": "integer", "low": 0, "high": 50, "unit": "", "nullable": False, "legal": "ordinary", **changed}


HOSTILE = [
    column(type="decimal", scale=2, low="abc"), column(type="decimal", scale=2, low="1e999999999"),
    column(type="decimal", scale=-5), column(type="decimal", scale=10**9), column(type="decimal", scale=2, low=None),
    column(type="timestamp", zone="UTC", low=-(10**30), high=10**30), column(type="timestamp", zone="../../etc/passwd"),
    column(type="timestamp", zone="/"), column(type="timestamp", zone=None), column(type="timestamp", zone="\x00"),
    column(type="category", values=["\ud800"]), column(type="category", values=[]), column(type="category", values=7),
    column(type="category", values=[["a"]]), column(type="evil"), column(low=True), column(low=10**400),
    column(legal="forbidden"), column(unit=1.5), column(unit=["x"]), column(nullable=float("inf")), {}, None, [], 7,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_schemas_are_refused_quickly_and_by_an_error_of_ours(city, number):
    document = {
        **TRIPS.document(),
        "columns": [["district", TRIPS.column("district").document()], ["km", HOSTILE[number]]],
    }
    hostile_bytes(city, json.dumps(document).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b"7", b"{" * 100_000, b"[" * 100_000, b'{"name": "trips"}', b"\xff\xfe", b'"\\ud800"',
     json.dumps({**TRIPS.document(), "kind": "evil"}).encode(),
     json.dumps({**TRIPS.document(), "keys": [[7]]}).encode(),
     json.dumps({**TRIPS.document(), "keys": [[{"column": "km", "kind": "day", "cuts": []}]]}).encode(),
     json.dumps({**TRIPS.document(), "keys": [[{"column": "km", "kind": "x", "cuts": [1]}]]}).encode(),
     json.dumps(TRIPS.document()).encode(), canonical(TRIPS.document()) + b" "],
    ids=range(16),
)  # fmt: skip
def test_texts_that_are_no_schema_are_refused_by_an_error_of_ours(city, raw):
    hostile_bytes(city, raw)


def hostile_bytes(city: ds.City, raw: bytes) -> None:
    consent = consent_for(city, TRIPS, "mallory")
    table = cbor.encode([raw, cbor.encode([0, [["district", "u1", b"", None], ["km", "u1", b"", None]]])])
    bad = signed(city, consent, "mallory", 1, table)
    good = consent_for(city, TRIPS, "good")
    why, fine = city.admit_many([(consent, bad), (good, contribution(city, good, "good", 1, TRIPS, ROWS))])
    assert isinstance(why, ds.DatasovError)
    assert not isinstance(why, ds.InternalError)
    assert fine is None, "one bad contribution kept another out"


# --- consents


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"audience": str(ds.CityId("lake", key_of("x").public, key_of("y").public))}, "another city"),
        ({"purpose": "advertising"}, "purpose"),
        ({"expires": NOW}, "expired"),
        ({"expires": NOW - 1}, "expired"),
    ],
)
def test_consents_for_another_city_or_purpose_or_over_are_refused(city, changed, says):
    consent = consent_for(city, TRIPS, "ann", **changed)
    refused(city, consent, signed(city, consent, "ann", 1, packed(TRIPS, ROWS)), ConsentError, says)


def test_tampered_bytes_are_refused(city):
    consent = consent_for(city, TRIPS, "ann")
    sealed = contribution(city, consent, "ann", 1, TRIPS, ROWS)
    for at in range(0, len(consent.token), 7):
        token = consent.token[:at] + bytes([consent.token[at] ^ 1]) + consent.token[at + 1 :]
        refused(city, token, sealed, ds.DatasovError)
    for at in range(0, len(sealed), 11):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        refused(city, consent, changed, ds.DatasovError)
    for what in (b"", b"\x00", sealed[:-1], sealed + b"\x00", "text", None, 7):
        refused(city, consent, what, VerificationError)
    for what in (b"", consent.token[:-1], consent.token + b"\x00", "text", None, 7):
        refused(city, what, sealed, VerificationError)


def test_claims_that_are_not_in_the_token_do_not_count(city):
    """A Consent object whose claims say more than its signed bytes."""
    consent = consent_for(city, TRIPS, "ann", columns=["km"])
    wider = replace(consent, claims=consent_for(city, TRIPS, "ann").claims)
    body = signed(city, wider, "ann", 1, packed(TRIPS, ROWS))
    refused(city, wider, body, ConsentError, "covered")


def test_a_contribution_under_the_consent_of_another_resident_is_refused(city):
    anns, bobs = consent_for(city, TRIPS, "ann"), consent_for(city, TRIPS, "bob")
    refused(city, anns, signed(city, anns, "bob", 1, packed(TRIPS, ROWS)), SignatureError)
    refused(city, anns, contribution(city, bobs, "bob", 1, TRIPS, ROWS), ConsentError, "another consent")


def test_a_contribution_sealed_to_another_city_is_refused(city, tmp_path, clock):
    (tmp_path / "x").mkdir()
    with found_city(tmp_path / "x", clock) as other:
        consent = consent_for(city, TRIPS, "ann")
        refused(city, consent, signed(other, consent, "ann", 1, packed(TRIPS, ROWS)), DecryptionError)


def test_replays_older_ones_and_superseded_consents_are_refused(city):
    first, second = (consent_for(city, TRIPS, "ann", issued=NOW - 100 + i) for i in range(2))
    one, two, three = (contribution(city, first, "ann", s, TRIPS, ROWS) for s in (1, 2, 3))
    city.admit(first, two)
    refused(city, first, two, ConsentError, "admitted already")
    refused(city, first, one, ConsentError, "admitted already")
    city.admit(first, three)
    city.admit(second, contribution(city, second, "ann", 4, TRIPS, ROWS))
    refused(city, first, contribution(city, first, "ann", 5, TRIPS, ROWS), ConsentError, "newer consent")
    refused(city, second, contribution(city, second, "ann", 4, TRIPS, ROWS), ConsentError, "admitted already")
    city.revoke(revocation(second, "ann"))
    refused(city, second, contribution(city, second, "ann", 9, TRIPS, ROWS), ConsentError, "revoked")
    refused(city, first, contribution(city, first, "ann", 9, TRIPS, ROWS), ConsentError, "newer consent")


def test_replays_within_one_batch_are_refused_and_the_newest_stands(city):
    consent = consent_for(city, TRIPS, "ann")
    pairs = [(consent, contribution(city, consent, "ann", s, TRIPS, ROWS[:1] * s)) for s in (1, 1, 3, 2)]
    assert [type(r) for r in city.admit_many(pairs)] == [type(None), ConsentError, type(None), ConsentError]
    (partition,) = city._registry.refresh()
    assert partition.member(0).sequence == 3


def test_revocations_by_others_of_others_and_twice_are_refused(city):
    (anns,) = enrol(city, ["ann"], lambda _: ROWS)
    (bobs,) = enrol(city, ["bob"], lambda _: ROWS)
    head = city._store.head()
    for bad in (revocation(anns, "bob"), b"", b"x" * 500, None):
        with pytest.raises((ConsentError, VerificationError)):
            city.revoke(bad)
    assert city._store.head() == head
    city.revoke(revocation(anns, "ann"))
    with pytest.raises(ConsentError):
        city.revoke(revocation(anns, "ann"))
    city.revoke(revocation(bobs, "bob"))


def test_a_consent_that_was_revoked_before_it_came_is_never_admitted(city, clock):
    """A contribution that is late on its way must not bring back what its resident ended."""
    early, other = consent_for(city, TRIPS, "ann"), consent_for(city, TRIPS, "bob")
    late = contribution(city, early, "ann", 1, TRIPS, ROWS)
    city.revoke(revocation(early, "ann"))
    with pytest.raises(ConsentError):
        city.revoke(revocation(early, "ann"))
    refused = city.admit_many([(early, late), (other, contribution(city, other, "bob", 1, TRIPS, ROWS))])
    assert [type(r) for r in refused] == [ConsentError, type(None)]
    city.close()
    with ds.City.open(city._path, clock=clock) as again:
        with pytest.raises(ConsentError):
            again.admit(early, late)
        with pytest.raises(ConsentError):
            again.revoke(revocation(early, "ann"))
        newer = consent_for(city, TRIPS, "ann")
        again.admit(newer, contribution(city, newer, "ann", 2, TRIPS, ROWS))


def test_a_revocation_for_another_city_is_refused(city, tmp_path):
    with ds.City.open(tmp_path / "other.city", budget=RHO, purposes=[PURPOSE]) as other:
        consent = consent_for(other, TRIPS, "ann")
        with pytest.raises(VerificationError):
            city.revoke(revocation(consent, "ann"))


def test_one_commitment_sent_many_times_does_not_stop_the_log(city, clock):
    """The commitments are the residents' to choose: equal ones must not make a batch that nobody can publish."""
    same = bytes(32)
    for name in ("ann", "bob"):
        consent = consent_for(city, TRIPS, name)
        for sequence in (1, 2):
            city.admit(consent, signed(city, consent, name, sequence, packed(TRIPS, ROWS), commitment=same))
    clock.now += 7_200
    city.tick()
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    consent = consent_for(city, TRIPS, "cem")
    city.admit(consent, signed(city, consent, "cem", 1, packed(TRIPS, ROWS), commitment=same))
    clock.now += 7_200
    city.tick()
