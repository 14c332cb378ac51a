"""Field64 and Field128 in limbs, the transforms, and the extendable output function, against Python's integers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from datasov.mpc import ntt, xof
from datasov.mpc.field import FIELD64, FIELD128, MOST, Field
from tests.vdaf_reference import P64, P128, draw, interpolate, roots, turboshake128

FIELDS = pytest.mark.parametrize("field", [FIELD64, FIELD128], ids=lambda field: field.name)


def _edges(field):
    p = field.modulus
    near = [0, 1, 2, p - 1, p - 2, p // 2, p // 2 + 1, (1 << field.low) - 1, 1 << field.low, field.factor << field.low]
    limbs = [(1 << 26 * i) + d for i in range(1, field.limbs) for d in (-1, 0, 1)]
    words = [(1 << 64) + d for d in (-1, 0, 1)] if field.top > 64 else []
    return [value % p for value in near + limbs + words]


def _many(field, count, seed=0):
    source = random.Random(seed)
    return [source.randrange(field.modulus) for _ in range(count)]


def _tight(field, elements):
    """What field.py promises of every element that it returns."""
    value = sum(limb.astype(object) << (26 * i) for i, limb in enumerate(elements))
    slack = 1 << (field.top - 10)
    return (np.abs(elements) <= 2**26 + 2**10).all() and ((value > -slack) & (value < (1 << field.top) + slack)).all()


def test_the_moduli_are_the_drafts():
    assert (FIELD64.modulus, FIELD128.modulus) == (P64, P128)
    for field in (FIELD64, FIELD128):
        assert pow(field.root(1 << 20), 1 << 19, field.modulus) == field.modulus - 1


@FIELDS
def test_bytes_come_back_and_are_canonical(field):
    values = _edges(field) + _many(field, 50)
    assert field.ints(field.of(values)) == values
    words = field.to_words(field.of(values)[:, :, None])
    assert words[:, :, 0].astype("<u8").tobytes() == b"".join(v.to_bytes(field.size, "little") for v in values)
    assert field.ints(field.of_words(words)[:, :, 0]) == values


@FIELDS
def test_what_is_below_the_modulus(field):
    values = [field.modulus - 1, field.modulus, field.modulus + 1, 0, (1 << field.top) - 1, field.modulus >> 64 << 64]
    octets = b"".join(v.to_bytes(field.size, "little") for v in values)
    words = np.frombuffer(octets, "<u8").astype(np.uint64).reshape(len(values), field.words, 1)
    assert field.below(words)[:, 0].tolist() == [v < field.modulus for v in values]


@FIELDS
def test_products_sums_and_differences(field):
    a = _edges(field) + _many(field, 300, 1)
    b = _many(field, len(a) - 5, 2) + _edges(field)[:5]
    p, x, y = field.modulus, field.of(a), field.of(b)
    product = field.mul(x, field.prepare(y))
    assert _tight(field, product)
    assert field.ints(product) == [u * v % p for u, v in zip(a, b, strict=True)]
    assert field.ints(field.mul(x, field.of(b, prepared=True))) == [u * v % p for u, v in zip(a, b, strict=True)]
    assert field.ints(x + y) == [(u + v) % p for u, v in zip(a, b, strict=True)]
    assert field.ints(x - y) == [(u - v) % p for u, v in zip(a, b, strict=True)]
    assert field.ints(-x) == [-u % p for u in a]


@FIELDS
@pytest.mark.parametrize("terms", [1, MOST - 1, MOST, MOST + 1, 2 * MOST + 3])
def test_long_dot_products_of_the_largest_limbs(field, terms):
    # A column each of the largest limbs, less a little, so that what is left over takes many values.
    less = np.random.default_rng(terms).integers(0, 1000, (field.limbs, 1, 200))
    worst = np.broadcast_to(2**26 + 2**10 - less, (field.limbs, terms, 200)).copy()
    worst[-1] -= 2**26 + 2**10 - (1 << field.top - 26 * (field.limbs - 1)) - 1
    values = sum(limb.astype(object) << (26 * i) for i, limb in enumerate(worst[:, 0]))
    inverse = pow(1 << 26 * field.limbs, -1, field.modulus)
    for sign in (1, -1):
        found = field.dot(worst, sign * worst)
        assert _tight(field, found)
        assert field.ints(found) == [sign * terms * v * v * inverse % field.modulus for v in values]


@FIELDS
def test_products_of_sums_as_large_as_is_allowed(field):
    values = _many(field, 16, 3)
    one = field.of(values)
    large, small = sum(one[:, i : i + 1] for i in range(16)), -sum(one[:, i : i + 1] for i in range(16))
    found = field.mul(large, field.mul(small, field.prepare(small)) * 16)
    assert _tight(field, found)
    s = sum(values) % field.modulus
    assert field.ints(found) == [16 * s**3 * pow(1 << 26 * field.limbs, -1, field.modulus) % field.modulus]


@FIELDS
@pytest.mark.parametrize("terms", [0, 1, 255, 256, 1000])
def test_totals(field, terms):
    values = _many(field, terms, 4)
    found = field.total(field.of(values).reshape(field.limbs, terms, 1))
    assert _tight(field, found)
    assert field.ints(found) == [sum(values) % field.modulus]


@FIELDS
def test_tidy_of_the_largest_sums(field):
    for sign in (1, -1):
        large = sign * MOST * np.full((field.limbs, 1), 2**26 + 2**10, np.int64)
        large[-1] = sign * MOST * (1 << field.top - 26 * (field.limbs - 1))
        value = sum(int(limb) << (26 * i) for i, limb in enumerate(large[:, 0]))
        assert _tight(field, field.tidy(large))
        assert field.ints(large) == [value % field.modulus]


@FIELDS
def test_zero_has_many_forms(field):
    p = field.of([0])
    p[:, 0] = [field.modulus >> (26 * i) & (1 << 26) - 1 for i in range(field.limbs)]
    forms = np.stack([p, -p, p - p, field.of([1]), p + field.of([1])], axis=1)
    assert field.zero(forms)[:, 0].tolist() == [True, True, True, False, False]


@FIELDS
@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_transforms(field, n):
    p, coefficients = field.modulus, _many(field, n, 5)
    plain = [sum(c * pow(x, i, p) for i, c in enumerate(coefficients)) % p for x in roots(p, 2 * n)]
    columns = field.of(coefficients).reshape(field.limbs, n, 1).repeat(3, axis=2)
    assert field.ints(ntt.ntt(field, columns)[:, :, 2]) == plain[0::2]
    assert field.ints(ntt.ntt(field, columns, shifted=True)[:, :, 0]) == plain[1::2]
    values = field.of(plain[0::2]).reshape(field.limbs, n, 1)
    assert field.ints(ntt.inverse_ntt(field, values)[:, :, 0]) == coefficients
    assert field.ints(ntt.odd_values(field, values)[:, :, 0]) == plain[1::2]


@FIELDS
@pytest.mark.parametrize("n", [2, 4, 32])
def test_values_between_the_roots(field, n):
    p, values, points = field.modulus, _many(field, n, 6), _many(field, 3, 7)
    at = field.of(points, prepared=True)
    weights, power = ntt.lagrange(field, at, n)
    column = field.of(values)[:, :, None]
    assert field.ints(field.dot(column, weights)) == [interpolate(p, roots(p, n), values, t) for t in points]
    unprepared = field.mul(field.of([1] * 3), power)
    assert field.ints(unprepared) == [pow(t, n, p) for t in points]
    short = field.dot(column[:, :-1], ntt.short_lagrange(field, at, n))
    assert field.ints(short) == [interpolate(p, roots(p, n)[:-1], values[:-1], t) for t in points]


def test_turboshake_of_rfc_9861():
    empty = "1e415f1c5983aff2169217277d17bb538cd945a397ddec541f1ce41af2c1b74c"
    assert turboshake128(b"", 0x1F, 32).hex() == empty
    words = xof.in_batch(np.zeros((2, 0), np.uint8), 0x1F, 4)
    assert xof.octets(words)[1].tobytes().hex() == empty


@pytest.mark.parametrize("length", [0, 1, 8, 165, 166, 167, 168, 169, 335, 336, 337])
def test_both_ways_of_hashing_are_the_reference(length, monkeypatch):
    messages = np.random.default_rng(length).integers(0, 256, (5, length), np.uint8)
    expected = [turboshake128(message.tobytes(), 1, 8 * 45) for message in messages]
    found = xof.octets(xof.in_batch(messages, 1, 45))
    assert [row.tobytes() for row in found] == expected
    assert [row.tobytes() for row in xof.octets(xof.turboshake128(messages, 1, 45))] == expected
    monkeypatch.setattr(xof, "one_by_one", lambda: None)
    assert [row.tobytes() for row in xof.octets(xof.turboshake128(messages, 1, 45))] == expected


def test_an_element_at_or_above_the_modulus_is_drawn_again():
    half = Field("half", factor=1 << 31, low=32, top=64, limbs=3)
    seeds = np.arange(4 * 32, dtype=np.uint8).reshape(4, 32)
    words = xof.expand(half, 4, seeds, b"dst", [b"binder"], 20)
    expected = [draw(half.modulus, seed.tobytes(), b"dst", b"binder", 20) for seed in seeds]
    assert words[:, 0].T.tolist() == expected
