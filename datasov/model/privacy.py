"""Losses and trust models.

The unit of privacy is one resident with everything they have; neighbours differ by adding or removing one resident.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from datasov.errors import InvalidQueryError
from datasov.model.columns import exact

NANO = 10**9
MAX_NANO = 10**15

TrustName: TypeAlias = Literal["central"]


@dataclass(frozen=True, slots=True, order=True)
class Loss:
    """A zero-concentrated differential privacy loss (zCDP; Bun and Steinke 2016), in whole nano-rho.

    Integers add without rounding, so a ledger of them is exact.
    """

    nano: int

    @property
    def rho(self) -> float:
        return self.nano / NANO

    def epsilon(self, delta: float) -> float:
        """An epsilon for which rho-zCDP implies (epsilon, delta)-DP.

        rho + 2 sqrt(rho ln(1/delta)) (Bun and Steinke 2016, proposition 1.3): simple and valid; tighter ones exist.
        """
        if not 0 < delta < 1:
            raise InvalidQueryError("delta lies strictly between 0 and 1: a usual choice is 1e-6")
        return self.rho + 2 * math.sqrt(self.rho * math.log(1 / delta))

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.nano + other.nano)

    def __sub__(self, other: Loss) -> Loss:
        return Loss(self.nano - other.nano)

    def __str__(self) -> str:
        whole, part = divmod(self.nano, NANO)
        return f"rho = {whole}" + (f".{part:09d}".rstrip("0") if part else "")

    def document(self) -> dict[str, Any]:
        return {"measure": "zcdp", "nano_rho": self.nano, "delta": 0, "adjacency": "add-remove", "unit": "resident"}


def zcdp(*, rho: float | int | str | Fraction) -> Loss:
    """A loss of rho under zero-concentrated differential privacy, rounded down to whole nano-rho.

    Raises:
        InvalidQueryError: rho is not a finite number above zero (at least 1e-9, at most 1e6).
    """
    nano = math.floor(rho * NANO if isinstance(rho, Fraction) else exact(rho) * NANO)
    if nano <= 0:
        raise InvalidQueryError("a loss is above zero: give rho of at least 1e-9, for instance ds.zcdp(rho=0.02)")
    if nano > MAX_NANO:
        raise InvalidQueryError("a loss above rho = 1e6 protects nobody: give a smaller one")
    return Loss(nano)


def check_loss(loss: object) -> None:
    """Raise InvalidQueryError unless it is a Loss of whole nano-rho above zero and of at most rho = 1e6."""
    if not isinstance(loss, Loss) or type(loss.nano) is not int or not 0 < loss.nano <= MAX_NANO:
        raise InvalidQueryError("a loss is above zero and at most rho = 1e6: make it with ds.zcdp(rho=...)")


@dataclass(frozen=True, slots=True)
class Trust:
    """Who adds and who noises, and so who must be trusted for what."""

    name: TrustName

    def document(self) -> dict[str, Any]:
        return {"model": self.name}

    def __str__(self) -> str:
        return self.name


def central() -> Trust:
    """One operator's process holds the pool's key, adds exactly and noises once.

    Analysts and services see only releases. The operator, whoever holds the process or its key, can see the pooled
    rows: this is trust in that operator, not in hardware.
    """
    return Trust("central")
