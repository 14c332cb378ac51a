"""Tokens and messages for any input: what is signed comes back, and any change is refused."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasov.authority import messages, terms, token
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, VerificationError
from datasov.model.consent import CityId, Claims, Coverage
from datasov.model.privacy import MAX_NANO, Loss, central
from datasov.wire import cbor, cose
from tests.unit.test_token import CITY, CONSENT, KEY, OPENING, OTHER
from tests.unit.test_token_messages import CONTRIBUTION, REVOCATION

REFUSED = (VerificationError, ConsentError)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
octets32 = st.binary(min_size=32, max_size=32)
coverages = st.builds(Coverage, names, octets32, st.lists(names, min_size=1, max_size=6, unique=True).map(tuple))
cities = st.builds(
    lambda name, key: str(CityId(name, key.public, OPENING.public)),
    st.text("abcあ市+", min_size=1, max_size=8),
    st.builds(SigningKey, octets32),
)


@st.composite
def claims(draw: st.DrawFn) -> tuple[Claims, SigningKey]:
    key = draw(st.builds(SigningKey, octets32))
    issued, later, end = sorted(draw(st.lists(st.integers(0, 2**37), min_size=3, max_size=3, unique=True)))
    covered = tuple(draw(st.lists(coverages, min_size=1, max_size=3, unique_by=lambda c: c.table)))
    named = sorted({f"{c.table}.{name}" for c in covered for name in c.columns})
    other = draw(st.none() | st.builds(SigningKey, octets32).filter(lambda k: k.public != key.public))
    return Claims(
        key.public, draw(cities), draw(st.binary(min_size=16, max_size=16)), issued, later, end, covered,
        draw(st.sampled_from(["bus-planning", "防災", "https://w3id.org/dpv#ServiceProvision", "a b"])), central(),
        Loss(draw(st.integers(1, MAX_NANO))), draw(st.sampled_from(["JP", "JP-10", "GB-ENG", "FR-75C"])),
        draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(["", "JP", "JP-13"])),
        tuple(sorted(draw(st.sets(st.sampled_from(named))))), draw(st.just(b"") | octets32),
        other.public if other else b"", draw(octets32) if other else b"",
    ), key  # fmt: skip


@given(claims())
def test_what_is_issued_is_read(drawn):
    consent = token.issue(*drawn)
    assert consent.claims == drawn[0]
    assert token.read(consent.token) == consent


@given(claims(), claims(), st.sampled_from([f.name for f in fields(Claims)]))
def test_every_changed_claim_is_another_token_and_breaks_the_signature(one, two, field):
    mine, key = one
    changed = replace(mine, **{field: getattr(two[0], field)})
    if changed == mine:
        return
    consent = token.issue(mine, key)
    try:
        payload = token.encode_claims(changed)
    except VerificationError:
        return
    assert payload != cose.peek1(consent.token)
    parts = cbor.decode(consent.token)
    with pytest.raises(REFUSED):
        token.read(cbor.encode([parts[0], parts[1], payload, parts[3]]))


def flipped(data: st.DataObject, raw: bytes) -> bytes:
    at = data.draw(st.integers(0, len(raw) - 1))
    return raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]


@given(st.data())
def test_every_changed_byte_of_a_token_is_refused(data):
    with pytest.raises(REFUSED):
        token.read(flipped(data, CONSENT.token))


@given(st.data())
def test_every_changed_byte_of_a_contribution_is_refused(data):
    sent = messages.sign_contribution(CONTRIBUTION, KEY, CITY)
    with pytest.raises(REFUSED):
        messages.open_contribution(flipped(data, sent), OPENING, CITY, CONSENT)


@given(st.data())
def test_every_changed_byte_of_a_revocation_is_refused(data):
    with pytest.raises(REFUSED):
        messages.read_revocation(flipped(data, messages.sign_revocation(REVOCATION, KEY)), CONSENT)
    sealed = messages.seal_revocation(messages.sign_revocation(REVOCATION, KEY), CONSENT, CITY)
    with pytest.raises(REFUSED):
        messages.open_revocation(flipped(data, sealed), OPENING, CITY)


@given(st.data(), st.binary(min_size=1, max_size=3))
def test_bytes_added_taken_or_put_in_are_refused(data, more):
    for raw, read in (
        (CONSENT.token, token.read),
        (messages.sign_contribution(CONTRIBUTION, KEY, CITY),
         lambda d: messages.open_contribution(d, OPENING, CITY, CONSENT)),
        (messages.sign_revocation(REVOCATION, KEY), lambda d: messages.read_revocation(d, CONSENT)),
    ):  # fmt: skip
        at = data.draw(st.integers(0, len(raw) - 1))
        for bad in (raw + more, raw[:at], raw[:at] + more + raw[at:], more + raw):
            with pytest.raises(REFUSED):
                read(bad)


@given(st.binary(max_size=400))
def test_no_bytes_break_a_reader(junk):
    for read in (
        token.read, messages.envelope_digest, lambda b: messages.open_revocation(b, OPENING, CITY),
        lambda b: messages.open_contribution(b, OPENING, CITY, CONSENT),
        lambda b: messages.read_revocation(b, CONSENT),
        lambda b: token.read(cose.sign1(b, OTHER, token.KIND)),
    ):  # fmt: skip
        with pytest.raises(REFUSED):
            read(junk)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=40) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-3, 8) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from([*token._REQUIRED, *token._OPTIONAL]), values)
def test_a_signed_claim_of_any_value_is_read_as_itself_or_refused(label, value):
    """The holder signs what they like: what a city reads then encodes to the same bytes, so nothing was dropped."""
    check_read_whole(cbor.encode({**cbor.decode(cose.peek1(CONSENT.token)), label: value}))


@given(st.sampled_from([*terms.REQUIRED, *terms.OPTIONAL]), values)
def test_a_signed_term_of_any_value_is_read_as_itself_or_refused(label, value):
    found = cbor.decode(cose.peek1(CONSENT.token))
    shared = cbor.encode({**cbor.decode(found[token._TERMS]), label: value})
    check_read_whole(cbor.encode({**found, token._TERMS: shared}))


def check_read_whole(payload: bytes) -> None:
    try:
        found = token.read(cose.sign1(payload, KEY, token.KIND))
    except REFUSED:
        return
    assert token.encode_claims(found.claims) == payload


@given(octets32, octets32, st.binary(max_size=80), st.binary(max_size=80))
def test_salted_hashes_differ_where_salt_or_record_does(salt, other, record, another):
    if (salt, record) != (other, another):
        assert messages.salted(salt, record) != messages.salted(other, another)
