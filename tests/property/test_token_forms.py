"""The short ways of reading a token against the general one: both read the same, and both refuse the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from datasov.authority import token
from datasov.crypto.es256 import P256SigningKey
from datasov.errors import DatasovError, SignatureError, VerificationError
from datasov.wire import cbor, cose
from tests.unit.test_token import CLAIMS, CONSENT, KEY, OTHER

CERTIFIED = cose.sign1(b"payload", P256SigningKey(), token.KIND)
PAYLOAD = cose.peek1(CONSENT.token)
DELEGATED = token.encode_claims(replace(CLAIMS, subject=OTHER.public, parent=bytes(32)))
EARLY = token.encode_claims(replace(CLAIMS, issued=2**16 - 1, not_before=2**16 - 1, expires=2**32, status=23))


def general(message: bytes) -> tuple[object, ...] | None:
    """Header, payload and signature of a COSE_Sign1 by the general reader of CBOR."""
    try:
        match cbor.decode(message):
            case [
                b"\xa1\x01\x32" | b"\xa1\x01\x28" as protected,
                dict(unprotected),
                bytes(payload),
                bytes(signature),
            ] if not unprotected and len(signature) == 64:
                return protected, payload, signature
    except VerificationError:
        pass
    return None


def short(message: bytes) -> tuple[object, ...] | None:
    try:
        parts = cose.parts1(message, token.KIND)
    except SignatureError:
        return None
    protected = cbor.encode({1: parts.alg})
    assert parts.signed == cbor.encode(["Signature1", protected, token.KIND.encode(), parts.payload])
    return protected, parts.payload, parts.signature


@st.composite
def hostile(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes near `raw`: flipped, cut, repeated, put in, each near any place, up to four times."""
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        to = min(len(raw), at + draw(st.integers(0, 6)))
        piece = raw[at:to]
        raw = draw(
            st.sampled_from(
                [
                    raw[:at] + raw[to:], raw[:at] + piece + raw[at:],
                    raw[:at] + draw(st.binary(max_size=3)) + raw[to:], raw + draw(st.binary(max_size=2)),
                    raw[:at] + bytes(b ^ draw(st.integers(0, 255)) for b in piece) + raw[to:],
                ]
            )
        )  # fmt: skip
    return raw


heads = st.sampled_from(
    [b"\x18\x18", b"\x19\x00\xff", b"\x1a\x00\x00\xff\xff", b"\x1b" + bytes(8), b"\xf5", b"\xc1\x00"]
)


@given(
    st.one_of(
        hostile(CONSENT.token), hostile(CERTIFIED), st.integers(0, 70000).map(lambda n: cose.sign1(bytes(n), KEY, "x"))
    )
)
@example(CONSENT.token)
@example(CERTIFIED)
@example(cose.sign1(bytes(23), KEY, "x"))
@example(cose.sign1(bytes(24), KEY, "x"))
@example(cose.sign1(bytes(255), KEY, "x"))
@example(cose.sign1(bytes(256), KEY, "x"))
@example(cose.sign1(bytes(65535), KEY, "x"))
@example(cose.sign1(bytes(65536), KEY, "x"))
@example(b"\x84\x43\xa1\x01\x32\xa0\x58\x17" + bytes(23) + b"\x58\x40" + bytes(64))
@example(b"\x84\x43\xa1\x01\x32\xa0\x59\x00\xff" + bytes(255) + b"\x58\x40" + bytes(64))
@example(b"\x84\x43\xa1\x01\x32\xa0\x58\x40" + bytes(64))
@example(b"\x84\x43\xa1\x01\x32\xa0\x5f\x41\x00\xff\x58\x40" + bytes(64))
@example(b"")
def test_a_message_is_taken_apart_as_the_general_reader_does(message):
    assert short(message) == general(message)


def claims_or_refusal(read: Callable[[bytes], object], payload: bytes) -> object:
    try:
        return read(payload)
    except DatasovError as why:
        return type(why)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """Maps with entries of the claims in any order, some twice, some longer than they need be, some of another type."""
    found = [
        cbor.encode(k) + cbor.encode(v) for k, v in cbor.decode(draw(st.sampled_from([PAYLOAD, DELEGATED]))).items()
    ]
    change = draw(st.sampled_from(["none", "order", "twice", "head", "number", "long", "end"]))
    at = draw(st.integers(0, len(found) - 1))
    if change == "order":
        found = draw(st.permutations(found))
    elif change == "twice":
        found.insert(draw(st.integers(0, len(found))), found[at])
    elif change == "number":
        at = draw(st.integers(1, 3))
        found[at] = found[at][:1] + draw(heads)
    elif change == "long":
        found[at] = b"\x18" + found[at] if at < 5 else b"\x3b" + bytes(4) + found[at][1:]
    head = {"head": b"\xb8" + bytes([len(found)]), "end": b"\xbf"}.get(change, bytes([0xA0 + len(found)]))
    return head + b"".join(found) + (b"\xff" if change == "end" else b"")


@st.composite
def layouts(draw: st.DrawFn) -> bytes:
    """The bytes of the usual form with integers of any size in its four bytes."""
    parts = list(token._USUAL.unpack_from(PAYLOAD))
    for at in draw(st.sets(st.sampled_from([3, 5, 7, 11]))):
        parts[at] = draw(st.sampled_from([0, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**32 - 1]))
    return token._USUAL.pack(*parts) + PAYLOAD[token._USUAL.size :]


def test_every_constant_byte_of_the_usual_form_counts():
    own = {*range(4, 47), *range(49, 53), *range(55, 59), *range(61, 65), *range(67, 83), *range(89, 93)}
    for at in set(range(token._USUAL.size)) - own:
        for byte in range(256):
            other = PAYLOAD[:at] + bytes([byte]) + PAYLOAD[at + 1 :]
            assert token._usual(other) is None or other == PAYLOAD


@given(st.one_of(hostile(PAYLOAD), hostile(DELEGATED), hostile(EARLY), entries(), layouts()))
@example(PAYLOAD)
@example(DELEGATED)
@example(EARLY)
def test_claims_are_read_as_the_general_reader_does(payload):
    quick = token._usual(payload)
    if quick is not None:
        assert claims_or_refusal(token._any, payload) == quick
    elif payload == PAYLOAD:
        raise AssertionError("the usual form is not read the short way")


@given(st.one_of(hostile(CONSENT.token), hostile(PAYLOAD).map(lambda p: cose.sign1(p, KEY, token.KIND)),
                 st.one_of(entries(), layouts()).map(lambda p: cose.sign1(p, KEY, token.KIND))))  # fmt: skip
def test_a_token_is_read_where_the_general_way_reads_it(data):
    """Whatever is signed: read by both ways with one result, or refused by both with one kind of error."""
    usual, token._usual = token._usual, lambda _: None
    try:
        slow = claims_or_refusal(token.read, data)
    finally:
        token._usual = usual
    assert claims_or_refusal(token.read, data) == slow
    if not isinstance(slow, type):
        assert cose.sign1(token.encode_claims(slow.claims), KEY, token.KIND) == data
