"""Composition of zCDP losses in whole nano-rho, and their conversions.

rho-zCDP composes by addition, adaptively (Bun and Steinke 2016, lemma 2.3); fully adaptive composition under a fixed
total holds too (Whitehouse, Ramdas, Rogers and Wu 2023, theorem 1), which is what the ledger's `reserve` enforces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from datasov.model.privacy import NANO, Loss


def compose(losses: Iterable[Loss]) -> Loss:
    """The loss of all of them together, exactly."""
    return Loss(sum(loss.nano for loss in losses))


def epsilon(loss: Loss, delta: float) -> float:
    """The least epsilon over the orders searched for which the loss implies (epsilon, delta)-DP.

    The bound is that of Canonne, Kamath and Steinke 2020 (proposition 12): for every order a > 1,
    epsilon = a rho + ln(1/(a delta)) / (a - 1) + ln(1 - 1/a). Any order gives a valid value; the search only tightens.
    """
    rho = loss.nano / NANO
    best = loss.epsilon(delta)
    for step in range(1, 2000):
        order = 1 + 1.01**step * 1e-3
        bound = order * rho + math.log(1 / (order * delta)) / (order - 1) + math.log1p(-1 / order)
        best = min(best, max(bound, 0.0))
    return best
