"""Polynomials by their values at the roots of unity (draft-irtf-cfrg-vdaf-20, section 6.1), for whole batches.

Arrays have the shape (limbs, n, ...): the values, or the coefficients, along the second axis; n is a power of two.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from datasov.mpc.field import Elements, Field


@lru_cache(maxsize=256)
def _powers(field: Field, base: int, count: int) -> Elements:
    """base^0, base^1, ...: prepared, (limbs, count). Shared: not to be written to."""
    values = [1]
    for _ in range(count - 1):
        values.append(values[-1] * base % field.modulus)
    out = field.of(values, prepared=True)
    out.flags.writeable = False
    return out


def constants(field: Field, base: int, count: int, axes: int) -> Elements:
    """The powers of a public base, prepared: (limbs, count, 1, ...) with `axes` axes after the limbs'."""
    return _powers(field, base % field.modulus, count).reshape(field.limbs, count, *(1 for _ in range(axes - 1)))


def _transform(field: Field, values: Elements, root: int) -> Elements:
    """Sums of values_j root^(i j), i = 0, ..., n - 1: log2 n stages, each over all that is left of the batch."""
    n = values.shape[1]
    # y[:, k, m] is the transform, at k, of the values m, m + n/done, m + 2 n/done, ...
    y = values[:, None]
    done = 1
    while done < n:
        half = n // done // 2
        twiddles = constants(field, pow(root, half, field.modulus), done, y.ndim - 1)
        even, odd = y[:, :, :half], field.mul(y[:, :, half:], twiddles)
        y = np.concatenate([even + odd, even - odd], axis=1)
        done *= 2
    return field.tidy(y[:, :, 0])


def inverse_ntt(field: Field, values: Elements) -> Elements:
    """The coefficients of the polynomial with these values at the roots of order n."""
    n = values.shape[1]
    out = _transform(field, values, pow(field.root(n), -1, field.modulus))
    return field.mul(out, scalar(field, pow(n, -1, field.modulus), out.ndim - 1))


def ntt(field: Field, coefficients: Elements, *, shifted: bool = False) -> Elements:
    """Values at the roots of order n, or, shifted, at each of them times the root of order 2n."""
    n = coefficients.shape[1]
    if shifted:
        shift = constants(field, field.root(2 * n), n, coefficients.ndim - 1)
        coefficients = field.mul(coefficients, shift)
    return _transform(field, coefficients, field.root(n))


def odd_values(field: Field, values: Elements) -> Elements:
    """Of a polynomial of degree below n with these values at the roots of order n: those at the other roots of 2n."""
    return ntt(field, inverse_ntt(field, values), shifted=True)


def scalar(field: Field, value: int, axes: int) -> Elements:
    """A public constant, prepared: (limbs, 1, ...)."""
    return field.of([value], prepared=True).reshape(field.limbs, *(1 for _ in range(axes)))


def lagrange(field: Field, point: Elements, n: int) -> tuple[Elements, Elements]:
    """What each of n values weighs in the value at a point.

    The weight of the value at w^k, w of order n, is the product over b = 0, ..., log2 n - 1 of 1 + (t / w^k)^(2^b),
    divided by n: a geometric sum, factored. No inversion, and 4 n products.

    Args:
        point: t, prepared, (limbs, batch).

    Returns:
        The weights, prepared, (limbs, n, batch), and t^n, prepared, (limbs, batch).
    """
    powers = [point]
    while 1 << len(powers) <= n:
        powers.append(field.mul(powers[-1], powers[-1]))
    one = scalar(field, 1, 2)
    weights = scalar(field, pow(n, -1, field.modulus), 2)
    inverse = pow(field.root(n), -1, field.modulus)
    for b in reversed(range(n.bit_length() - 1)):
        half = n >> b >> 1
        turned = field.mul(powers[b][:, None], constants(field, pow(inverse, 1 << b, field.modulus), half, 2))
        factor = np.concatenate([one + turned, one - turned], axis=1)
        weights = field.mul(np.concatenate([weights, weights], axis=1), factor)
    return weights, powers[-1]


def short_lagrange(field: Field, point: Elements, n: int) -> Elements:
    """The same where the polynomial has degree below n - 1 and its last value is not given: (limbs, n - 1, batch).

    The coefficient of x^(n-1) is zero, so the last value is -w times the sum of value_i w^i.
    """
    weights, _ = lagrange(field, point, n)
    w = field.root(n)
    turned = constants(field, w, n, 2)[:, 1:]
    return field.tidy(weights[:, :-1] - field.mul(weights[:, -1:], turned))
