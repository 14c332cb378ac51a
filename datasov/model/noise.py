"""The distributions of the noise, as far as intervals need them: half widths of one value, and of weighted sums."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from datasov.errors import InternalError
from datasov.model.privacy import Measure


@dataclass(frozen=True, slots=True)
class Noise:
    """Discrete noise with a scale: Gaussian (sigma) under zCDP, Laplace (b) under pure epsilon; 0 is none.

    `draws`: the sum of so many independent ones of that scale: 1, 2 where two servers add one each, 3 where a pool and
    two servers are added; 0 is none.
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
        if self.scale <= 0 or self.draws == 0:
            return 0
        if self.draws > 1 and self.measure == "zcdp":
            return summed_half_width(self.scale, confidence, self.draws)
        if self.draws > 1:
            return summed_laplace_half_width(self.scale, confidence, self.draws)
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
def summed_half_width(sigma: float, confidence: float, draws: int) -> int:
    """The least whole t with P(|Z| <= t) >= confidence for the sum of independent discrete Gaussians of this sigma.

    From sigma = 3 on the sum is the discrete Gaussian of sigma sqrt(draws) but for a relative error below exp(-80): by
    Poisson's summation the mass over any shifted lattice agrees to about exp(-pi^2 sigma^2). Below, it is summed.
    """
    if sigma >= 3:
        return half_width(math.sqrt(draws) * sigma, confidence)
    last = math.ceil(12 * sigma) + 1
    one = [math.exp(-(z * z) / (2 * sigma * sigma)) for z in range(-last, last + 1)]
    both = one
    for _ in range(draws - 1):
        size, more = len(one), len(both)
        both = [
            math.fsum(one[i] * both[k - i] for i in range(max(0, k - more + 1), min(size, k + 1)))
            for k in range(size + more - 1)
        ]
    middle = len(both) // 2
    t, covered, total = 0, both[middle], math.fsum(both)
    while covered < confidence * total:
        t += 1
        covered += 2 * both[middle + t]
    return t


def summed_laplace_half_width(scale: float, confidence: float, draws: int) -> int:
    """The least whole t with P(|Z| <= t) >= confidence for the sum of 2 or 3 discrete Laplaces of this scale.

    The sum is the difference of two negative binomials, so that P(Z = k), k >= 0, is a^k times a polynomial in k, where
    a = exp(-1 / scale) and x = a^2: of two, ((1 - a) / (1 + a))^2 (k + (1 + x) / (1 - x)); of three, (1 - a)^6 times
    (1 + 4 x + x^2) / (1 - x)^5 + k 3 (1 + x) / (2 (1 - x)^4) + k^2 / (2 (1 - x)^3), by the sums of x^j C(j + 2, 2) over
    j times 1, j and C(j + 2, 2). The tail is a geometric sum.
    """
    if draws not in (2, 3):
        raise InternalError("the sum of two or three draws of noise")
    a, rest = math.exp(-1 / scale), -math.expm1(-1 / scale)
    x, gap = a * a, rest * (1 + a)  # gap: 1 - x
    if draws == 2:
        square = (rest / (1 + a)) ** 2
        terms = (square * (1 + x) / gap, square, 0.0)
    else:
        sixth = (rest * rest / gap) ** 3
        terms = (sixth * (1 + 4 * x + x * x) / gap**2, sixth * 1.5 * (1 + x) / gap, sixth / 2)

    def tail(t: int) -> float:
        m = t + 1
        whole = (terms[0] + terms[1] * m + terms[2] * m * m) / rest
        whole += (terms[1] + 2 * terms[2] * m) * a / rest**2 + terms[2] * a * (1 + a) / rest**3
        return 2 * math.exp(-m / scale) * whole

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
