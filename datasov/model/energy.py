"""What a question costs in energy, estimated from its plan and from public sizes alone.

A measured time would tell of the data it was spent on. So nothing is measured: the same question has the same estimate
whatever the pool holds, and anybody can make it again from the release.

The model: processor seconds, of reading and bounding the rows, of charging the residents and of drawing the noise,
times `WATTS` a virtual processor at full load, times `OVERHEAD` of the building. `WATTS` is the greatest of AMD EPYC's
third generation in the coefficients of Cloud Carbon Footprint (made from SPECpower_ssj2008 results); `OVERHEAD` is the
average PUE of the Uptime Institute's survey of 2023. The seconds are fits to `python -m benches energy`, which checks
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidQueryError
from datasov.model.partition import axes_of, index_name, indexes
from datasov.model.query import Query, bounds_of
from datasov.model.statistics import Statistic

MODEL = "datasov-energy-1"
WATTS, OVERHEAD = 1.957, 1.58
QUESTION, ENTRY, RESIDENT, SORTED, ROW = 0.011, 25e-6, 0.3e-6, 2.5e-6, 20e-9
"""Processor seconds of any question, of an entry that is noised, of a resident in a vector, of a resident whose rows
are cut into a histogram or bounded without their keys, and of a row that they hold."""


@dataclass(frozen=True, slots=True)
class Energy:
    """An estimate for one question.

    Attributes:
        seconds: of a processor, whatever the number of residents.
        each: seconds of a processor for each resident, beside their rows.
        rows: rows a resident that are counted at most: what is taken for the rows that they hold.
    """

    seconds: float
    each: float
    rows: int

    def joules(self, residents: int, rows: float | None = None) -> float:
        """Joules of the question in a city of so many residents: a public number, as of its statistics office.

        Args:
            rows: what each of them holds in the table on average; the rows that the bounds let count where None.

        Raises:
            InvalidQueryError: a number below zero.
        """
        held = self.rows if rows is None else rows
        if residents < 0 or held < 0:
            raise InvalidQueryError("residents and rows are numbers of at least zero")
        return (self.seconds + residents * (self.each + ROW * held)) * WATTS * OVERHEAD

    def document(self) -> dict[str, Any]:
        """The model's name, joules of the question itself, and joules for each thousand residents of the city."""
        base = self.joules(0)
        return {"model": MODEL, "joules": base, "joules_per_1000_residents": self.joules(1000) - base}


def estimate(query: Query, statistics: Sequence[Statistic], *, rows: int | None = None) -> Energy:
    """The estimate of a question with the vectors that it needs.

    Where its keys are unknown, as many cells are noised as residents can touch; else the public ones.

    Args:
        rows: of a resident that count at most, of a question that has no bounds of its own: a step of a series.
    """
    axes = axes_of(query.key_list, query.column)
    blind = index_name(query.key_list) not in indexes(query.schema)
    own = math.prod(a.size for a in axes if not a.key.profile)
    each_key, keys = bounds_of(query, own, blind) if rows is None else (rows, 1)
    keys = 1 if blind else keys
    seconds, each = QUESTION, RESIDENT * len(statistics)
    if (blind and axes) or any(s.cuts for s in statistics):
        each += SORTED
    if any(a.key.kind == "unknown" for a in axes):
        each += ENTRY * len(statistics) * (each_key if blind else keys)
    else:
        cells = math.prod(a.size for a in axes)
        seconds += ENTRY * max(1, query.highest or 0) * sum(s.size(cells) for s in statistics)
    return Energy(seconds, each, each_key * keys)
