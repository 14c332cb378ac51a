"""Compiled questions, requests for their answers, and what noise left of these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidQueryError
from datasov.model.document import digest
from datasov.model.partition import Axis
from datasov.model.privacy import ATTO, NANO, Loss, Trust, check_loss
from datasov.model.query import Query
from datasov.model.series import Series
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic

LEAST_DELTA = 10_000
"""Of delta in 1e-18, the least for each key that a resident may have: OpenDP's map resolves about 1e-16 of it."""

RESPONSE = "randomised response"
"""The mechanism of devices that noise their own answers (docs/proofs/local.md)."""
_MECHANISMS = {"zcdp": "discrete Gaussian", "pure": "discrete Laplace"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled question.

    Attributes:
        axes: the keys; a cell is their row-major product.
        statistics: the vectors to noise, of `statistic.size(cells)` entries each.
        parts: for every aggregate of the question, the indices of its statistics.
        index: name of the rank index that bounds it; the key-blind one where `blind` is set.
        rows, keys: the bounds R and C as they apply (C is at most the keys that one resident could touch).
        unknown: one of the keys is unknown: its cells are found by thresholding the residents.
        top: how many of the highest cells to choose; 0 where values are released.
    """

    query: Query
    axes: tuple[Axis, ...]
    cells: int
    statistics: tuple[Statistic, ...]
    parts: tuple[tuple[int, ...], ...]
    index: str
    blind: bool
    rows: int
    keys: int
    unknown: bool
    top: int

    def losses(self, loss: Loss) -> tuple[Loss, ...]:
        """The loss of each statistic: equal parts, rounded down, so that they sum to at most `loss`.

        Raises:
            InvalidQueryError: too small to be parted, or with a delta that does not fit the question.
        """
        check_loss(loss)
        if self.unknown != (loss.delta > 0):
            raise InvalidQueryError(
                "unknown keys need a loss with a delta, for instance ds.zcdp(rho=0.02, delta=1e-9)"
                if self.unknown else "this question needs no delta: give a loss without one"
            )  # fmt: skip
        if self.unknown and loss.delta < self.statistics[self.found].touched * LEAST_DELTA:
            least = self.statistics[self.found].touched * LEAST_DELTA / ATTO
            raise InvalidQueryError(f"the delta is too small to draw with for so many keys: give at least {least:g}")
        part = loss.nano // len(self.statistics)
        if part == 0:
            raise InvalidQueryError("the loss is too small to be parted among the statistics: ask for fewer of them")
        return tuple(Loss(part, loss.measure) for _ in self.statistics)

    def scales(self, loss: Loss) -> tuple[float, ...]:
        """The scale of each statistic's noise, a little above what its loss asks for, never below.

        Gaussian: L2 sensitivity / sqrt(2 rho). Laplace: L1 sensitivity / epsilon. Noisy max: k picks, each of
        epsilon = L-infinity sensitivity / scale, and so of epsilon^2 / 8 zCDP (Cesar and Rogers 2021).
        """
        parts = zip(self.statistics, self.losses(loss), strict=True)
        return tuple(self._scale(s, part) * (1 + 1e-12) for s, part in parts)

    def _scale(self, statistic: Statistic, loss: Loss) -> float:
        if self.top and loss.measure == "zcdp":
            return statistic.most / math.sqrt(8 * loss.nano / NANO / self.top)
        if self.top:
            return statistic.most * self.top / (loss.nano / NANO)
        if loss.measure == "pure":
            return statistic.l1_sensitivity / (loss.nano / NANO)
        return math.nextafter(math.sqrt(statistic.squared_sensitivity), math.inf) / math.sqrt(2 * loss.nano / NANO)

    @property
    def found(self) -> int:
        """Of unknown keys, the index of the statistic that finds them: residents."""
        return next(i for i, s in enumerate(self.statistics) if s.kind == "distinct")

    def mechanism(self, loss: Loss) -> str:
        """The name of what draws."""
        if self.top:
            return f"noisy max ({loss.measure})"
        return _MECHANISMS[loss.measure] + (", thresholded" if self.unknown else "")


@dataclass(frozen=True, slots=True)
class Request:
    """A compiled question with all that makes it this question and no other.

    Attributes:
        programme: the identity of the approved programme that covers it, in hexadecimal digits; or empty.
        purses: to which it is charged beside the budget: the name and the cap of each.
        cohort: cells with fewer noisy residents are withheld; 0: none.
        series: that the plan was compiled from, if any.
        time: Unix seconds at which consents are looked at, and which the leaf tells; None: that of the snapshot.
    """

    plan: Plan
    loss: Loss
    purpose: str
    trust: Trust
    epoch: int
    programme: str = ""
    purses: tuple[tuple[str, Loss], ...] = ()
    cohort: int = 0
    series: Series | None = None
    time: int | None = None

    @property
    def mechanism(self) -> str:
        """The name of what draws, under this trust."""
        mine = self.plan.mechanism(self.loss) + (", binary tree" if self.series else "")
        devices = [RESPONSE] if any(part.name == "local" for part in self.trust.each) else []
        return ", ".join([*([mine] if self.trust.draws else []), *devices])

    @property
    def key(self) -> bytes:
        """The key of its stored release: 32 bytes."""
        return digest(self.document())

    def document(self) -> dict[str, Any]:
        """All that the key is made of."""
        return {
            "query": (self.series or self.plan.query).document(), "rows": self.plan.rows, "bound_keys": self.plan.keys,
            "index": self.plan.index, "blind": self.plan.blind, "mechanism": self.plan.mechanism(self.loss),
            "loss": self.loss.document(),
            "trust": self.trust.document(), "purpose": self.purpose, "programme": self.programme, "epoch": self.epoch,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Noised:
    """What noise left of a reservation's question.

    Attributes:
        values: one int64 vector a statistic; of `top` the cells alone, the highest first.
        cells: of unknown keys those that show, ascending, to which the values are aligned; else None.
    """

    identifier: bytes
    values: tuple[Integers, ...]
    cells: Integers | None = None
