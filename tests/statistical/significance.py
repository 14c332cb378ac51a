"""The significance of all statistical tests together is 1e-6: each check gets its share, and none is typed by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import stats

TOTAL = 1e-6
CHECKS = {"noise": 40, "coverage": 60, "ratio": 60, "privacy": 60, "door": 24, "variance": 18, "series": 80}
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


def fits(sample: npt.NDArray[np.int64], sigma: float) -> float:
    """p-value of Pearson's chi-squared test of a sample against the discrete Gaussian; 0 where it leaves 12 sigma."""
    support, mass = discrete_gaussian(sigma)
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
