"""A release beside its exact answers, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from datasov.demo.questions import Question, Statistic
from datasov.model.privacy import Loss
from datasov.model.release import Release

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a release.

    Attributes:
        key: the released key, as it stands in the release's frame; None for null.
        label: the same for people.
        low, high: the 95 % interval. sigma: the scale of the noise (of a mean: of its sum).
        exact: of the question as bounded, which the interval should cover; None for the mean of no rows.
        exact_unbounded: of the question without bounds.
    """

    key: object
    label: str
    statistic: Statistic
    value: float
    low: float
    high: float
    sigma: float
    exact: float | None
    exact_unbounded: float | None

    @property
    def covered(self) -> bool | None:
        """Whether the interval covers the exact bounded answer; None where there is none. Half a cent is rounding."""
        if self.exact is None:
            return None
        return self.low - 5e-7 <= self.exact <= self.high + 5e-7


@dataclass(frozen=True, slots=True)
class Answer:
    """A release with all its cells, in the order of the statistics and of the public keys.

    Attributes:
        remaining: of the city's budget, after it.
        seconds: that the release took.
    """

    question: Question
    release: Release
    cells: tuple[Cell, ...]
    remaining: Loss
    seconds: float

    def of(self, statistic: Statistic) -> list[Cell]:
        """The cells of one statistic."""
        return [c for c in self.cells if c.statistic is statistic]


def cells(question: Question, release: Release, exact: pl.DataFrame, unbounded: pl.DataFrame) -> tuple[Cell, ...]:
    """The cells of a release beside the two exact answers."""
    frame = release.frame(CONFIDENCE)
    key = frame.columns[0]
    found, true = ({row.pop("key"): row for row in f.to_dicts()} for f in (exact, unbounded))
    made = []
    for statistic in question.statistics:
        sigma, name = release.scale(statistic.name), statistic.name
        for row in frame.to_dicts():
            here = row[key]
            made.append(
                Cell(
                    here, question.labels.get(here, _readable(here)), statistic,
                    row[name], row[name + "_low"], row[name + "_high"], sigma,
                    _exact(found, here, statistic), _exact(true, here, statistic),
                )
            )  # fmt: skip
    return tuple(made)


def _readable(key: object) -> str:
    text = str(key)
    return text.title().replace("Gm", "GM") if text.isupper() else text


def _exact(found: Mapping[object, Mapping[str, Any]], key: object, statistic: Statistic) -> float | None:
    if key in found:
        return float(found[key][statistic.name])
    return None if statistic.kind == "mean" else 0.0


def covered_share(answers: Iterable[Answer]) -> float:
    """The share of cells whose interval covers the exact bounded answer, of those that have one."""
    known = [c.covered for a in answers for c in a.cells if c.covered is not None]
    return sum(known) / len(known)


def document(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """All cells, flat, for JSON. `sigma` of a mean is that of its sum."""
    return [
        {
            "question": a.question.name, "title": a.question.title, "loss_rho": a.release.loss.rho,
            "key": {a.release.query.key_list[0].name: c.key}, "statistic": c.statistic.name,
            "value": c.value, "low": c.low, "high": c.high, "sigma": c.sigma,
            "exact": c.exact, "exact_unbounded": c.exact_unbounded,
        }
        for a in answers
        for c in a.cells
    ]  # fmt: skip
