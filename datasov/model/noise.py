"""The distributions of the noise, as far as intervals need them: half widths of one value, and of weighted sums."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from datasov.model.privacy import Measure


@dataclass(frozen=True, slots=True)
class Noise:
    """Discrete noise with a scale: Gaussian (sigma) under zCDP, Laplace (b) under pure epsilon; 0 is none.

    `draws`: the sum of so many independent ones of that scale: 1, or 2 where two servers add one each.
    """

    scale: float
    measure: Measure
    draws: int = 1

    @property
    def deviation(self) -> float:
        """The standard deviation, a little above the true one."""
        return math.sqrt(self.draws) * (self.scale if self.measure == "zcdp" else math.sqrt(2) * self.scale)

    def half_width(self, confidence: float) -> int:
        """The least whole t with P(|Z| <= t) >= confidence."""
        if self.scale <= 0:
            return 0
        if self.draws == 2:
            return (both_half_width if self.measure == "zcdp" else both_laplace_half_width)(self.scale, confidence)
        return (half_width if self.measure == "zcdp" else laplace_half_width)(self.scale, confidence)


@functools.lru_cache(maxsize=4096)
def half_width(sigma: float, confidence: float) -> int:
    """The least whole t with P(|Z| <= t) >= confidence for Z from the discrete Gaussian with parameter sigma.

    The probability mass is proportional to exp(-z^2 / (2 sigma^2)) over the integers (Canonne, Kamath and Steinke
    2020). It is summed term by term up to sigma = 1000. Above, t = ceil(z sigma) + 1 for the normal z: the two
    distribution functions then differ by far less than the mass of that last step.
    """
    if sigma <= 0:
        return 0
    if sigma > 1000:
        return math.ceil(NormalDist().inv_cdf((1 + confidence) / 2) * sigma) + 1
    last = math.ceil(12 * sigma) + 1
    mass = [math.exp(-(z * z) / (2 * sigma * sigma)) for z in range(last + 1)]
    total = mass[0] + 2 * math.fsum(mass[1:])
    tail = 2 * math.fsum(mass[1:])
    t = 0
    while tail > (1 - confidence) * total:
        t += 1
        tail -= 2 * mass[t]
    return t


def laplace_half_width(scale: float, confidence: float) -> int:
    """The least whole t with P(|Z| <= t) >= confidence for the discrete Laplace: P(|Z| > t) = 2 a^(t+1) / (1 + a),

    where a = exp(-1 / scale) (Ghosh, Roughgarden and Sundararajan 2012; both sides of the geometric).
    """
    a = math.exp(-1 / scale)
    t = max(0, math.ceil(scale * math.log(2 / ((1 + a) * (1 - confidence)))) - 2)
    while 2 * math.exp(-(t + 1) / scale) / (1 + a) > 1 - confidence:
        t += 1
    return t


@functools.lru_cache(maxsize=4096)
def both_half_width(sigma: float, confidence: float) -> int:
    """The least whole t with P(|X + Y| <= t) >= confidence for two independent discrete Gaussians of this sigma.

    From sigma = 3 on the sum is the discrete Gaussian of sigma sqrt(2) but for a relative error below exp(-80): by
    Poisson's summation the mass over any shifted lattice agrees to about exp(-pi^2 sigma^2). Below, it is summed.
    """
    if sigma >= 3:
        return half_width(math.sqrt(2) * sigma, confidence)
    last = math.ceil(12 * sigma) + 1
    mass = [math.exp(-(z * z) / (2 * sigma * sigma)) for z in range(-last, last + 1)]
    size = len(mass)
    both = [
        math.fsum(mass[i] * mass[k - i] for i in range(max(0, k - size + 1), min(size, k + 1)))
        for k in range(2 * size - 1)
    ]
    t, covered, total = 0, both[size - 1], math.fsum(both)
    while covered < confidence * total:
        t += 1
        covered += 2 * both[size - 1 + t]
    return t


def both_laplace_half_width(scale: float, confidence: float) -> int:
    """The least whole t with P(|X + Y| <= t) >= confidence for two independent discrete Laplaces of this scale.

    With a = exp(-1 / scale), P(X + Y = k) = ((1 - a) / (1 + a))^2 a^|k| (|k| + (1 + a^2) / (1 - a^2)): the convolution
    of two symmetric geometrics. Its tail is a geometric sum.
    """
    a, rest = math.exp(-1 / scale), -math.expm1(-1 / scale)
    square, offset = (rest / (1 + a)) ** 2, (1 + a * a) / (rest * (1 + a))

    def tail(t: int) -> float:
        return 2 * square * math.exp(-(t + 1) / scale) * ((t + 1 + offset) / rest + a / rest**2)

    low, high = -1, max(1, math.ceil(4 * scale))
    while tail(high) > 1 - confidence:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(middle) > 1 - confidence else (low, middle)
    return high


def sum_half_width(noises: Sequence[Noise], squares: Sequence[float], largest: Sequence[float], error: float) -> float:
    """A t that the noise of a weighted sum exceeds with probability at most `error`: one side.

    Args:
        squares, largest: for the terms of each noise, the sum of their squared weights and their largest weight.

    Gaussian: the normal quantile, and one for what rounding may add. Laplace: the least Chernoff bound over a grid,
    with E exp(x Z) <= 1 / (1 - x^2 b^2) and the convexity of -ln(1 - y) to bound many small weights by their squares.
    """
    if all(n.measure == "zcdp" for n in noises):
        spread = math.sqrt(math.fsum(s * n.deviation**2 for n, s in zip(noises, squares, strict=True)))
        return NormalDist().inv_cdf(1 - error) * spread + 1
    each = zip(noises, squares, largest, strict=True)
    parts = [(s * n.scale**2, w * n.scale) for n, s, w in each if s > 0 for _ in range(n.draws)]
    if not parts:
        return 0.0
    limit = 1 / max(reach for _, reach in parts)
    best = math.inf
    for step in range(1, 200):
        x = limit * step / 200
        grown = math.fsum(-math.log1p(-((x * reach) ** 2)) * power / reach**2 for power, reach in parts)
        best = min(best, (grown - math.log(error)) / x)
    return best


def threshold(sigma: float, delta: float) -> int:
    """A t that one plus the noise of a discrete Gaussian reaches with probability at most `delta`.

    P(1 + Z >= t) is the mass of z >= t - 1: at most that of a geometric series with its first ratio, over a total of at
    least sigma sqrt(2 pi) (Canonne, Kamath and Steinke 2020, fact 18). It errs only to the safe side, by a little.
    """
    t = 2
    while _tail(sigma, t - 1) > delta:
        t += max(1, int(sigma / 64))
    return t


def _tail(sigma: float, z: int) -> float:
    first = math.exp(-(z * z) / (2 * sigma * sigma))
    return first / -math.expm1(-(2 * z + 1) / (2 * sigma * sigma)) / max(sigma * math.sqrt(2 * math.pi), 1.0)
