"""Composition of losses in whole units.

rho-zCDP and delta compose by addition, adaptively (Bun and Steinke 2016, lemmas 2.3 and 8.2), pure epsilon too: it is
the addition of `Loss`. Fully adaptive composition under a fixed total holds as well (Whitehouse, Ramdas, Rogers and Wu
2023, theorem 1), which is what the ledger's `reserve` enforces.
"""

from __future__ import annotations

from datasov.errors import InvalidQueryError
from datasov.model.privacy import Loss, Measure


def charged(loss: Loss, measure: Measure) -> Loss:
    """What a loss costs an account of this measure: a pure one costs one of zCDP epsilon^2 / 2.

    Raises:
        InvalidQueryError: zCDP implies no pure epsilon.
    """
    if measure == "zcdp":
        return loss.concentrated
    if loss.measure != "pure":
        raise InvalidQueryError("the city's budget is in pure epsilon: ask with loss=ds.pure(epsilon=...)")
    return loss
