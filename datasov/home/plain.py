"""What a loss means, for people: how often somebody who guesses a fact about you could be right.

A fact is anything about one resident that is yes or no; two vaults that differ in it are two steps apart (one resident
removed, another added). Whoever tosses a coin is right 50 times in 100; whoever sees answers with a total variation
distance of t between the two worlds is right at most (1 + t) / 2 of the time, whatever else they compute.
"""

from __future__ import annotations

import math

from datasov.model.privacy import ATTO, NANO, Loss

COIN = 50


def distance(loss: Loss) -> float:
    """The most that two residents can differ in total variation, 0 to 1, in all answers that this loss pays for.

    rho-zCDP bounds the Kullback-Leibler divergence by rho, and at two steps by 4 rho (Bun and Steinke 2016, proposition
    1.9); Pinsker's inequality and that of Bretagnolle and Huber bound the distance by it. Pure epsilon at two steps is
    2 epsilon, and bounds it by tanh(epsilon). A delta fails at each of the two steps.
    """
    divergence = 4 * loss.concentrated.nano / NANO
    bounds = [1.0, math.sqrt(divergence / 2) + 2 * loss.delta / ATTO]
    if not loss.delta:
        bounds.append(math.sqrt(-math.expm1(-divergence)))
    if loss.measure == "pure":
        bounds.append(math.tanh(loss.nano / NANO))
    return min(bounds)


def right(loss: Loss) -> int:
    """Of 100 guesses at a fact that was even before, how many can be right at most, rounded up: 50 to 100."""
    return min(100, math.ceil(COIN * (1 + distance(loss)) - 1e-9))


def share(part: Loss, whole: Loss | None) -> float | None:
    """How much of an account is used, 0 to 1; None where it has no limit."""
    if whole is None:
        return None
    return min(1.0, max(part.nano / whole.nano, part.delta / whole.delta if whole.delta else float(part.delta > 0)))
