"""The significance of all statistical tests together is 1e-6: each check gets its share, and none is typed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

TOTAL = 1e-6
CHECKS = {
    "noise": 40, "coverage": 60, "ratio": 60, "privacy": 60, "door": 24, "variance": 18, "mechanisms": 48,
    "quantiles": 140, "attacks": 48, "series": 80, "joins": 200, "refusal": 60, "cohort": 5, "servers": 20,
    "tokens": 8, "local": 60, "mixed": 40, "two servers": 12,
}  # fmt: skip
"""Most checks that each file makes; a file that makes more fails (see `Share`)."""


class Share:
    """Hands out the significance of each check of one file."""

    def __init__(self, name: str) -> None:
        self._left = CHECKS[name]

    def take(self) -> float:
        """The significance of one check."""
        assert self._left > 0, "more checks than declared: raise their number in CHECKS"
        self._left -= 1
        return TOTAL / sum(CHECKS.values())


def discrete_gaussian(sigma: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Support and exact probabilities of the discrete Gaussian, to 12 sigma (Canonne, Kamath and Steinke 2020)."""
    last = int(np.ceil(12 * sigma)) + 2
    support = np.arange(-last, last + 1)
    mass = np.exp(-((support / sigma) ** 2) / 2)
    return support, mass / mass.sum()


def discrete_laplace(scale: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Support and probabilities of the discrete Laplace, to 45 scales: both sides of the geometric."""
    last = int(np.ceil(45 * scale)) + 2
    support = np.arange(-last, last + 1)
    mass = np.exp(-np.abs(support) / scale)
    return support, mass / mass.sum()


def agrees(sample: Sequence[Any], expected: Mapping[Any, float]) -> float:
    """p-value of Pearson's chi-squared test of outcomes against their probabilities, rare ones taken together."""
    seen = Counter(sample)
    if not seen.keys() <= expected.keys():
        return 0.0
    common = [o for o, chance in expected.items() if chance * len(sample) >= 25]
    pairs = [(seen[o], expected[o] * len(sample)) for o in common]
    rest = len(sample) - sum(e for _, e in pairs)
    if rest >= 5:
        pairs.append((len(sample) - sum(o for o, _ in pairs), rest))
    elif any(seen[o] > 60 for o in expected if o not in common):
        return 0.0
    assert len(pairs) > 1, "one outcome alone tells nothing"
    o, e = np.array(pairs).T
    return float(stats.chi2.sf(((o - e) ** 2 / e).sum(), len(pairs) - 1))


Distribution = Callable[[float], tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]


def fits(sample: npt.NDArray[np.int64], sigma: float, distribution: Distribution = discrete_gaussian) -> float:
    """p-value of Pearson's chi-squared test of a sample against a distribution; 0 where it leaves the support."""
    support, mass = distribution(sigma)
    if np.abs(sample).max() > support[-1]:
        return 0.0
    observed = np.bincount(sample + support[-1], minlength=len(support))
    expected = mass * len(sample)
    least = max(25.0, len(sample) / 150)
    edges, gathered = [0], 0.0
    for i, e in enumerate(expected):
        gathered += e
        if gathered >= least:
            edges.append(i + 1)
            gathered = 0.0
    edges[-1] = len(expected)
    groups = [slice(a, b) for a, b in pairwise(edges)]
    assert len(groups) > 2, "too small a sample, or too little noise, for a test"
    o = np.array([observed[g].sum() for g in groups])
    e = np.array([expected[g].sum() for g in groups])
    return float(stats.chi2.sf(((o - e) ** 2 / e).sum(), len(groups) - 1))


def too_rare(successes: int, trials: int, probability: float) -> float:
    """p-value of "each trial succeeds with at least this probability"."""
    return float(stats.binom.cdf(successes, trials, probability))


def least_probability(successes: int, trials: int, significance: float) -> float:
    """Lower end of the one-sided Clopper-Pearson interval."""
    return 0.0 if successes == 0 else float(stats.beta.ppf(significance, successes, trials - successes + 1))


def most_probability(successes: int, trials: int, significance: float) -> float:
    """Upper end of the one-sided Clopper-Pearson interval."""
    return 1.0 if successes == trials else float(stats.beta.ppf(1 - significance, successes + 1, trials - successes))
