"""The error to expect of a question, from its plan alone."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model.aggregate import Aggregate
from datasov.model.energy import Energy, estimate
from datasov.model.estimates import check_confidence, unit_of
from datasov.model.noise import Noise, threshold
from datasov.model.plan import Plan
from datasov.model.privacy import ATTO, MAX_NANO, Loss
from datasov.model.quantiles import rank_half_width
from datasov.model.query import Query
from datasov.model.responses import Fit
from datasov.model.series import Series, half_width
from datasov.model.statistics import Statistic


@dataclass(frozen=True, slots=True)
class Preview:
    """The error to expect of a question, from its plan alone: no data was touched and nothing was spent.

    Attributes:
        frame: a row a statistic: its name, `sigma` (scale of the noise in one cell) and `margin` (half the width of the
            interval) in the column's unit. For a mean they are those of a cell that holds MEAN_ROWS rows; for a
            quantile those of its rank, in items; for the top, of the difference of the chosen score to the true one.
        notes: what to know before asking.
        energy: what the question costs in energy, estimated; of a series, a step.
    """

    loss: Loss
    confidence: float
    cells: int
    frame: pl.DataFrame
    notes: tuple[str, ...]
    energy: Energy

    def __str__(self) -> str:
        lines = [f"{self.loss} over {self.cells} cells; {self.confidence:.0%} intervals are the value ± margin"]
        lines += [f"  {r['statistic']}: ± {r['margin']:,.6g} (sigma {r['sigma']:,.6g})" for r in self.frame.to_dicts()]
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes)])


def _expected(
    aggregate: Aggregate, pieces: Sequence[tuple[Statistic, Noise]], cells: int, top: int | None, confidence: float
) -> tuple[float, float]:
    """Deviation of the noise and half the width of the interval, in codes; of a ratio, for a cell of MEAN_ROWS rows."""
    noises = [n for _, n in pieces]
    first = noises[0]
    if top is not None:
        # A pick falls short by more than scale (ln cells + t) with probability exp(-t) (McSherry and Talwar 2007), and
        # under exponential noise no more often (McKenna and Sheldon 2020).
        spread = math.pi / math.sqrt(6) if first.measure == "zcdp" else 1.0  # of Gumbel noise, of exponential noise
        return spread * first.scale, first.scale * math.log(cells * top / (1 - confidence))
    if aggregate.cuts:
        widths = [
            rank_half_width([s.cuts for s, _ in pieces], noises, float(aggregate.q), error).max()
            for error in (0.1586, (1 - confidence) / 2)
        ]
        return float(widths[0]), float(widths[1])
    if len(noises) == 1:
        return first.deviation, first.half_width(confidence)
    reach = (aggregate.high - aggregate.low + 1) / 2
    spread = math.hypot(noises[1].deviation, reach * first.deviation)
    if aggregate.kind == "mean":
        widths = [n.half_width(1 - (1 - confidence) / 2) for n in noises]
        margin = (
            Noise(spread, "zcdp").half_width(confidence) if first.measure == "zcdp" else widths[1] + reach * widths[0]
        )
        return spread / MEAN_ROWS, min(margin / MEAN_ROWS, 2 * reach)
    spread = math.hypot(noises[2].deviation, 2 * reach * spread)
    widths = [n.half_width(1 - (1 - confidence) / 3) for n in noises]
    margin = (widths[2] + 2 * reach * widths[1] + 3 * reach * reach * widths[0]) / MEAN_ROWS
    sigma, margin = spread / MEAN_ROWS, min(margin, reach * reach)
    return (math.sqrt(sigma), math.sqrt(margin)) if aggregate.kind == "std" else (sigma, margin)


DEVICES = 10_000
"""Devices for which a preview states the error under local trust."""
MEAN_ROWS = 1000
"""Rows in a cell for which a preview states the error of a mean."""


def preview(
    query: Query, statistics: Sequence[Statistic], parts: tuple[tuple[int, ...], ...], scales: tuple[float, ...],
    cells: int, loss: Loss, confidence: float, notes: tuple[str, ...], draws: int = 1,
) -> Preview:  # fmt: skip
    """The preview of a compiled question; InvalidQueryError where the confidence is none.

    `draws`: how many independent draws of noise are in each value (:attr:`datasov.model.privacy.Trust.draws`).
    """
    check_confidence(confidence)
    rows = []
    for aggregate, part in zip(query.aggregates, parts, strict=True):
        pieces = [(statistics[i], Noise(scales[i], loss.measure, draws)) for i in part]
        sigma, margin = _expected(aggregate, pieces, cells, query.highest, confidence)
        unit = 1 if aggregate.cuts else unit_of(query, aggregate)
        unit = unit * unit if aggregate.kind == "variance" else unit
        rows.append({"statistic": aggregate.name, "sigma": sigma / unit, "margin": margin / unit})
    kinds = {a.kind for a in query.aggregates}
    if kinds & {"mean", "variance", "std"}:
        notes = (
            *notes,
            f"the error of a mean or a variance is that of a cell with {MEAN_ROWS} rows: more rows, less error",
        )
    if kinds & {"quantile", "rows", "keys"}:
        notes = (*notes, "the error of a quantile is that of its rank, in rows or items: the more a cell has, the less")
    if loss.delta:
        found = next(i for i, s in enumerate(statistics) if s.kind == "distinct")
        least = threshold(scales[found], loss.delta / ATTO / statistics[found].touched) + 1
        notes = (*notes, f"an unknown key shows where its residents, with their noise, reach {least}")
    return Preview(loss, confidence, cells, pl.DataFrame(rows), notes, estimate(query, statistics))


def expected(plan: Plan, fit: Fit, beside: Preview) -> Preview:
    """The preview where devices noise their own answers: of a cell of none among DEVICES, and what is added beside.

    Of a mean it is that of a cell that holds MEAN_ROWS residents.
    """
    rows, each = [], fit.how.deviation(DEVICES)
    wide = NormalDist().inv_cdf((1 + beside.confidence) / 2)
    reach = max(abs(fit.low), abs(fit.high))
    for aggregate, row in zip(plan.query.aggregates, beside.frame.to_dicts(), strict=True):
        unit = 1 if aggregate.kind in ("count", "distinct") else unit_of(plan.query, aggregate)
        weight = math.hypot(1, 1) if fit.total is not None and unit == 1 else 1.0
        if aggregate.kind == "sum":
            weight = math.hypot(fit.low, fit.high)
        if aggregate.kind == "mean":
            weight = math.sqrt(2) * reach / MEAN_ROWS
        sigma = each * weight / unit
        rows.append(
            {
                "statistic": row["statistic"],
                "sigma": math.hypot(sigma, row["sigma"]),
                "margin": wide * sigma + row["margin"],
            }
        )
    note = f"under local trust the error grows with the root of the number of devices: it is stated for {DEVICES:,}"
    return replace(beside, frame=pl.DataFrame(rows), notes=(*beside.notes, note))


def least_loss(preview_of: Callable[[Loss], Preview], within: float | Mapping[str, float], like: Loss) -> Loss:
    """The least loss whose preview has margins of at most `within`: one for all statistics, or by name.

    Args:
        like: a loss whose measure and delta the found one has.

    Raises:
        InvalidQueryError: no loss gives such margins, or there is no such statistic.
    """
    names = set(preview_of(replace(like, nano=MAX_NANO)).frame["statistic"])
    limits = dict(within) if isinstance(within, Mapping) else dict.fromkeys(names, within)
    if not limits or not limits.keys() <= names or not all(limit > 0 for limit in limits.values()):
        raise InvalidQueryError(f"within maps some of {', '.join(sorted(names))} to margins above zero")

    def enough(nano: int) -> bool:
        try:
            margins = preview_of(replace(like, nano=nano)).frame
        except InvalidQueryError:
            return False
        return all(m <= limits.get(n, m) for n, m in margins.select("statistic", "margin").iter_rows())

    if not enough(MAX_NANO):
        raise InvalidQueryError("no loss gives such small margins: allow wider ones, or lower the bounds")
    return replace(like, nano=bisect.bisect_left(range(MAX_NANO), True, lo=1, key=enough))


def preview_series(series: Series, plan: Plan, loss: Loss, confidence: float) -> Preview:
    """The preview of a compiled series: of the total of one step, and of the worst total from the first step on."""
    check_confidence(confidence)
    noise, rows = Noise(plan.scales(series.paid(loss))[0], loss.measure), []
    unit, name = unit_of(series.query, series.aggregate), series.aggregate.name
    worst = max(len(series.nodes(0, step + 1)) for step in range(series.steps))
    for statistic, nodes in ((name, worst), (name + "_step", 1)):
        sigma, margin = noise.deviation * math.sqrt(nodes), half_width(noise, nodes, confidence)
        rows.append({"statistic": statistic, "sigma": sigma / unit, "margin": margin / unit})
    notes = (
        f"{series.steps} steps in {series.levels} levels; a resident counts with at most {series.rows} rows in all",
    )
    return Preview(
        loss,
        confidence,
        plan.cells,
        pl.DataFrame(rows),
        notes,
        estimate(series.query, plan.statistics, rows=series.rows),
    )
