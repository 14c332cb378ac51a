"""Bounds chosen privately: the questions that find them, and what their answers suggest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal as Number

from datasov.errors import InvalidQueryError
from datasov.model.aggregate import CLIPPED, Aggregate, share_of
from datasov.model.columns import Column, Decimal, Integer
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.model.release import Release

MOST_ROWS, MOST_KEYS = 255, 63


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds that noisy quantiles suggest for a question.

    Attributes:
        rows, keys: for `bound(rows=, keys=)`; None where the question needs none.
        clips: low and high of each clipped column, in its unit.
        releases: the answers that they were read from, one or two.
    """

    rows: int | None
    keys: int | None
    clips: Mapping[str, tuple[Number | int, Number | int]]
    releases: tuple[Release, ...]

    def apply(self, query: Query) -> Query:
        """The question under these bounds; totals within the person (`per=`) keep the clips that they have."""
        return replace(
            query.bound(rows=self.rows, keys=self.keys),
            aggregates=tuple(self._clip(query, a) for a in query.aggregates),
        )

    def _clip(self, query: Query, aggregate: Aggregate) -> Aggregate:
        if aggregate.column not in self.clips or aggregate.per or aggregate.kind == "quantile":
            return aggregate
        type_ = query.column(aggregate.column)
        low, high = (type_.encode(v) for v in self.clips[aggregate.column])
        return replace(aggregate, low=low, high=high)


def suggest(
    query: Query, share: object, loss: Loss, ask: Callable[[Query, Loss], Release],
    most: tuple[int, int] = (MOST_ROWS, MOST_KEYS), *, cohort: bool = False,
) -> Bounds:  # fmt: skip
    """Ask for the quantiles, with half of the loss for rows and keys and half for values where both are wanted.

    The most rows of a resident in one key, and the keys of a resident, are each one number a resident. Values are those
    of one row of each resident, chosen by secret rank.

    Args:
        most: the largest rows and keys to look for.
        cohort: ask for the residents too, so that a minimum cohort can be tested.

    Raises:
        InvalidQueryError: the answers were withheld, or there is nothing to find.
    """
    text = share_of(share)
    if Number(text) <= Number("0.5"):
        raise InvalidQueryError("a share of residents to cover lies above 0.5: a usual choice is 0.95")
    plain = replace(query, aggregates=(), rows=None, keys_bound=None, highest=None)
    columns = list(dict.fromkeys(a.column for a in query.aggregates if a.kind in CLIPPED and a.column and not a.per))
    events = query.schema.kind == "events"
    if not events and not columns:
        raise InvalidQueryError("this question needs no bounds: ask it as it is")
    part = replace(loss, nano=loss.nano // 2) if events and columns else loss
    releases, rows, keys, clips = [], None, None, {}
    if events:
        spread = plain.bound(rows=most[0], keys=most[1])
        spread = spread.rows_per_key(text, high=max(2, most[0])).keys_per_resident(text, high=max(2, most[1]))
        found = ask(spread.coverage() if cohort else spread, part)
        frame = found.overall()
        releases.append(found)
        _check_shown(found)
        rows, keys = (
            min(bound, max(1, math.ceil(frame[a.name][0]))) for a, bound in zip(spread.aggregates, most, strict=True)
        )
    if columns:
        values = replace(plain, key_list=()).bound(rows=1, keys=1)
        ends = (f"{1 - Number(text):f}", text)
        for column in columns:
            for end in ends:
                values = values.quantile(column, end)
        found = ask(values.distinct() if cohort else values, part)
        frame = found.frame()
        releases.append(found)
        _check_shown(found)
        names = iter(a.name for a in values.aggregates)
        clips = {c: _ends(query.column(c), frame[next(names)][0], frame[next(names)][0]) for c in columns}
    return Bounds(rows, keys, clips, tuple(releases))


def _check_shown(release: Release) -> None:
    if release.withheld or release.withheld_whole:
        raise InvalidQueryError("fewer residents took part than the programme's minimum cohort: give bounds yourself")


def _ends(column: Column, low: float, high: float) -> tuple[Number | int, Number | int]:
    """Outwards to whole codes, within the declared bounds, and never empty."""
    if not isinstance(column, Integer | Decimal):
        raise InvalidQueryError("bounds are suggested for Integer and Decimal columns alone")
    unit = 10**column.scale if isinstance(column, Decimal) else 1
    least, most = column.range
    first = min(max(math.floor(low * unit), least), most)
    last = min(max(math.ceil(high * unit), first + 1), most)
    return column.decode(min(first, last)), column.decode(last)
