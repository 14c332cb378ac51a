"""The group P-256 against plain arithmetic of its own, with the edges that random points never reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.crypto import oprf, p256
from datasov.crypto.p256 import ORDER, Point, Scalar
from datasov.errors import InternalError, InvalidDataError, ProofError, VerificationError

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
G = Scalar(1).base
EDGES = [1, 2, 3, ORDER // 2, ORDER // 2 + 1, ORDER - 3, ORDER - 2, ORDER - 1]
SCALARS = st.one_of(st.sampled_from(EDGES), st.integers(1, ORDER - 1))


def plus(one, other):
    """The textbook's sum; None is the identity."""
    if one is None or other is None:
        return one or other
    if one.x == other.x and (one.y + other.y) % P == 0:
        return None
    top, bottom = (3 * one.x**2 - 3, 2 * one.y) if one == other else (other.y - one.y, other.x - one.x)
    slope = top * pow(bottom, P - 2, P) % P
    x = (slope**2 - one.x - other.x) % P
    return Point(x, (slope * (one.x - x) - one.y) % P)


def many(k, point):
    found = None
    for bit in bin(k)[2:]:
        found = plus(found, found)
        if bit == "1":
            found = plus(found, point)
    return found


def test_the_generator_is_the_standards():
    """FIPS 186-5 (SP 800-186, section 3.2.1.3)."""
    assert G.x == 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
    assert G.y == 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
    assert many(ORDER, G) is None


@settings(max_examples=15, deadline=None)
@given(SCALARS, SCALARS)
def test_products(k, m):
    point = many(m, G)
    assert Scalar(m).base == point
    assert Scalar(k).times(point) == many(k, point)
    assert Scalar(k).x_of(point) == many(k, point).x.to_bytes(32, "big")


@pytest.mark.parametrize("k", [1, 2, ORDER - 2, ORDER - 1])
@pytest.mark.parametrize("m", [1, 2, ORDER - 1])
def test_products_at_the_edges(k, m):
    point = many(m, G)
    assert Scalar(k).times(point) == many(k, point)


SMALL = {0: None, **{k: many(k, G) for k in (1, 2, 3, ORDER - 1, ORDER - 2)}}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(SMALL)), max_size=9))
def test_sums(multiples):
    points = [SMALL[k] for k in multiples]
    expected = None
    for point in points:
        expected = plus(expected, point)
    assert p256.total(points) == expected
    pairs = list(zip(points, reversed(points), strict=True))
    assert p256.sums(pairs) == [plus(*pair) for pair in pairs]


@given(st.integers(1, ORDER - 1))
def test_inverses(k):
    assert p256.inverse(k) * k % ORDER == 1


@settings(deadline=None)
@given(st.integers(0, P - 1), st.booleans())
def test_points_are_read_exactly_where_the_equation_has_a_root(x, odd):
    square = (x**3 - 3 * x + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B) % P
    root, data = pow(square, (P + 1) // 4, P), bytes([2 + odd]) + x.to_bytes(32, "big")
    if root * root % P == square:
        found = p256.decoded(data)
        assert (found.x, found.y % 2) == (x, odd)
        assert found.y in (root, P - root)
        assert found.encoded() == data
    else:
        with pytest.raises(VerificationError, match="not a point"):
            p256.decoded(data)


def map_(u):
    """RFC 9380, section 6.6.2, as it is written there, with the curve's A = -3 and Z = -10."""
    a, b, z = -3, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B, -10
    t = (z * z * u**4 + z * u**2) % P
    x = -b * pow(a, P - 2, P) * (1 + pow(t, P - 2, P)) % P if t else b * pow(z * a, P - 2, P) % P
    if pow(x**3 + a * x + b, (P - 1) // 2, P) not in (0, 1):
        x = z * u * u * x % P
    y = pow(x**3 + a * x + b, (P + 1) // 4, P)
    return Point(x, y if y % 2 == u % 2 else P - y)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([0, 1, P - 1]), st.integers(0, P - 1)), min_size=1, max_size=5))
def test_the_map_to_the_curve(us):
    assert p256._map_to_curve(us) == [map_(u) for u in us]


@pytest.mark.parametrize("value", [0, -1, ORDER, ORDER + 1])
def test_no_scalar_is_zero_or_beyond_the_order(value):
    with pytest.raises(InternalError):
        Scalar(value)


def test_nothing_secret_shows():
    key = oprf.PrivateKey(7)
    for thing in (key, key.under(b"info"), Scalar(7)):
        assert "7" not in repr(thing).replace(key.public.hex(), "")


def test_inputs_are_of_a_bounded_size():
    key = oprf.PrivateKey.derive(bytes(32), b"")
    with pytest.raises(InvalidDataError):
        oprf.PrivateKey.derive(bytes(31), b"")
    with pytest.raises(InvalidDataError):
        key.under(bytes(2**16))
    with pytest.raises(VerificationError):
        oprf.blind(bytes(2**16), 1)
    for number in (0, oprf.MAX_BATCH + 1):
        with pytest.raises(VerificationError, match="1 to 64"):
            key.under(b"").evaluate([G.encoded()] * number)


def test_the_inputs_and_the_key_that_would_make_zeros_are_refused():
    """A key may be chosen as the negative of an info's scalar: then nothing is evaluated under that info."""
    tweak = oprf._tweak(b"info")
    key = oprf.PrivateKey(ORDER - tweak)
    with pytest.raises(InternalError):
        key.under(b"info")
    with pytest.raises(ProofError):
        oprf.verify(b"info", key.public, [G.encoded()], oprf.Evaluation((G.encoded(),), bytes(31) + b"\1" * 33))


def test_a_whole_batch_goes_through():
    key = oprf.PrivateKey.derive(bytes(32), b"batch")
    under, inputs = key.under(b"i"), [bytes([i]) for i in range(5)]
    scalars = [p256.random_scalar() for _ in inputs]
    blinded = [oprf.blind(*pair) for pair in zip(inputs, scalars, strict=True)]
    found = under.evaluate(blinded)
    outputs = [oprf.finalize(d, s, b"i", key.public, blinded, found, i)
               for i, (d, s) in enumerate(zip(inputs, scalars, strict=True))]  # fmt: skip
    assert under.check(inputs, outputs) == [True] * 5
    assert under.check(inputs, outputs[1:] + outputs[:1]) == [False] * 5
    assert under.check([b"\0", b"\0"], [outputs[0], bytes(32)]) == [True, False]
    assert oprf.PrivateKey.derive(bytes(32), b"other").under(b"i").check(inputs, outputs) == [False] * 5
