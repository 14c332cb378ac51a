"""Minimum cohorts: cells whose noisy number of residents is too small are withheld.

The test reads noised values alone, so it is post-processing: it costs nothing, and tells nothing that the noised values
did not. A true number is never seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasov.model.plan import Noised
from datasov.model.query import Query
from datasov.model.series import Series
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a noised answer: withheld entries are 0, withheld unknown keys are gone.

    Attributes:
        cells: those withheld, ascending; none of unknown keys.
        whole: the numbers about the whole question are withheld.
    """

    noised: Noised
    cells: tuple[int, ...] = ()
    whole: bool = False


def missing(query: Query, series: Series | None) -> str | None:
    """What a question lacks for a minimum cohort to be tested on it; None where it can be."""
    if series is not None:
        return "it has a minimum cohort, which the nodes of a series cannot be tested for: ask with release"
    if query.highest is not None:
        return "it has a minimum cohort, and top tells no numbers to test: ask without top"
    kinds = {a.kind for a in query.aggregates}
    if any(not a.whole for a in query.aggregates) and "distinct" not in kinds:
        return "it has a minimum cohort, which is tested on a noisy number of residents: add .distinct()"
    if kinds & {"rows", "keys"} and "coverage" not in kinds:
        return "it has a minimum cohort, which is tested on a noisy number of residents: add .coverage()"
    return None


def withhold(statistics: Sequence[Statistic], noised: Noised, cohort: int) -> Kept:
    """The answer without the cells that have fewer than `cohort` noisy residents: a function of noised values alone.

    Each cell is tested on its own noisy residents, all its statistics go together; what was asked about the whole
    question is tested on the noisy number of those who took part.
    """
    if not cohort:
        return Kept(noised)
    kinds = [s.kind for s in statistics]
    values, cells, whole = list(noised.values), noised.cells, False
    below: tuple[int, ...] = ()
    if "distinct" in kinds:
        few = noised.values[kinds.index("distinct")] < cohort
        if cells is not None:
            values, cells = [v[~few] for v in values], cells[~few]
        else:
            below = tuple(np.flatnonzero(few).tolist())
            values = [v if s.whole else _zeroed(v, s, few) for v, s in zip(values, statistics, strict=True)]
    if "coverage" in kinds and noised.values[kinds.index("coverage")][0] < cohort:
        whole = True
        values = [np.zeros_like(v) if s.whole else v for v, s in zip(values, statistics, strict=True)]
    return Kept(replace(noised, values=tuple(values), cells=cells), below, whole)


def _zeroed(value: Integers, statistic: Statistic, few: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Integers:
    return np.where(np.repeat(few, statistic.width), 0, value)
