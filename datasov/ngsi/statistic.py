"""DPStatistic: one noised number of a release or of a series' step, with what its guarantee and its meaning need."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model import estimates
from datasov.model.aggregate import Aggregate
from datasov.model.columns import Decimal, Integer, Timestamp
from datasov.model.consent import CityId
from datasov.model.document import digest
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.model.release import Release, key_columns
from datasov.model.series import SeriesRelease, half_width
from datasov.ngsi.periods import Period, period_of, zone_of
from datasov.ngsi.receipts import Proof
from datasov.ngsi.texts import attribute, b64url, token

MAX_STATISTICS = 100_000
"""Entities of one release or step: a broker is no place for more."""

Key: TypeAlias = str | bool | int | dt.date | None
Keys: TypeAlias = tuple[tuple[str, str, Key], ...]
By: TypeAlias = Literal["release", "question"]
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True, slots=True)
class Source:
    """What all numbers of a release, or of a step of a series, have in common.

    Attributes:
        city: its name; its keys are in the log's verifier key.
        release: identifier of the release or of the series, 32 hexadecimal digits. step: None of a release.
        query: hash of the question's document, hexadecimal. standing: names the question for this purpose, programme
            and loss in this city, whenever it is answered: 16 bytes of SHA-256 as base64url.
        trust: the name of the trust model; of several, all their names.
        epoch: the public data epoch; None of a series, whose steps have periods of their own.
        time: of the release or the step, Unix seconds.
    """

    city: str
    release: str
    step: int | None
    query: str
    standing: str
    table: str
    domain: str
    purpose: str
    programme: str
    loss: Loss
    trust: str
    mechanism: str
    epoch: int | None
    time: int
    confidence: float
    cohort: int
    zone: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class DPStatistic:
    """One number.

    Attributes:
        name: of the statistic, as a release's frame has it: "count", "km_sum". kind: of the aggregate.
        unit: of the value, "" where the column declares none.
        scale: of the noise, in the unit; of a mean that of its sum, as in :meth:`Release.scale`. None where devices
            noised their own answers, so that there is no one scale: the interval tells of the error.
        cell: the number of the public cell; None of a number about the whole question.
        keys: the cell's keys, as pairs (attribute, column, value).
        value, low, high: as released, neither rounded nor clamped; None where the cell was withheld. The highest cells
            of a question for the top have their rank as the value, without an interval.
        mesh: a code of JIS X 0410 among the keys, or None.
    """

    source: Source
    name: str
    kind: str
    unit: str
    scale: float | None
    cell: int | None
    keys: Keys
    value: float | None
    low: float | None
    high: float | None
    withheld: bool
    period: Period | None
    mesh: str | None

    def identifier(self, by: By = "release", type_: str = "DPStatistic") -> str:
        """An ASCII URN: by the release and step it is of, or the same for every answer to the question."""
        source = self.source
        step = "" if source.step is None else f":{source.step}"
        of = source.release + step if by == "release" else source.standing
        return f"urn:ngsi-ld:{type_}:{of}:{token(self.name)}:{'all' if self.cell is None else self.cell}"


def of_release(
    release: Release, proof: Proof, *, confidence: float = 0.95, zone: str = "Asia/Tokyo"
) -> list[DPStatistic]:
    """Every number of a release: by aggregate, then by cell, each exactly as it was released.

    Args:
        proof: where the log tells of the release.
        zone: for local times where the table has no column with one.

    Raises:
        InvalidQueryError: above 100,000 numbers, or no such confidence.
    """
    estimates.check_confidence(confidence)
    query = release.query
    source = _source(release, query, None, release.epoch, release.time, proof, confidence, zone, release.cohort)
    cells = (
        release.cells if release.cells is not None else range(len(key_columns(query, None)[0]) if query.key_list else 1)
    )
    return list(_of_release(release, source, [int(c) for c in cells]))


def _of_release(release: Release, source: Source, cells: Sequence[int]) -> Iterator[DPStatistic]:
    query = release.query
    if query.highest is not None:
        frame, ranked = release.frame(), _Asked(source, query, "rank", "top", "rank", None)
        _check_size(frame.height)
        for place, (rank, keys) in enumerate(zip(frame["rank"].to_list(), _keys(query, frame), strict=True)):
            yield ranked.number(place, keys, (rank, None, None))
        return
    asked = [a for a in query.aggregates if not a.whole]
    _check_size(len(asked) * len(cells))
    if asked:
        frame, hidden = release.frame(source.confidence), set(release.withheld)
        keyed = _keys(query, frame)
        for a in asked:
            one = _Asked(source, query, a.name, a.kind, _unit(query, a), _scale(release, a.name))
            numbers = zip(*(frame[a.name + end].to_list() for end in _ENDS), strict=True)
            for place, (cell, found) in enumerate(zip(cells, numbers, strict=True)):
                yield one.number(cell, keyed[place], found, place in hidden)
    whole = release.overall(source.confidence)
    for a in query.aggregates:
        if a.whole:
            one = _Asked(source, query, a.name, a.kind, _unit(query, a), _scale(release, a.name))
            yield one.number(None, (), [whole[a.name + end][0] for end in _ENDS], release.withheld_whole)


def of_step(
    series: SeriesRelease, step: int, proof: Proof, *, confidence: float = 0.95
) -> list[DPStatistic]:  # fmt: skip
    """The numbers of one step of a series alone, a cell each.

    Raises:
        InvalidQueryError: the step was not released, or there are above 100,000 cells.
    """
    estimates.check_confidence(confidence)
    query, aggregate = series.series.query, series.series.aggregate
    values = series.total(step, step + 1).tolist()
    _check_size(len(values))
    unit = estimates.unit_of(query, aggregate)
    width = half_width(series.noise, len(series.series.nodes(step, step + 1)), confidence)
    column = query.column(series.series.at)
    begin, end = (column.decode(series.series.start + i * series.series.every) for i in (step, step + 1))
    if not isinstance(begin, dt.datetime) or not isinstance(end, dt.datetime) or not isinstance(column, Timestamp):
        raise InvalidQueryError("a series goes by a Timestamp column")
    source = _source(series, query, step, None, series.times[step], proof, confidence, column.zone, 0)
    columns = key_columns(query, None)
    keys = _keys(query, pl.DataFrame(columns)) if columns else [()]
    period = Period(begin, end)
    one = _Asked(source, query, aggregate.name, aggregate.kind, _unit(query, aggregate), series.scale / unit)
    made = []
    for cell, value in enumerate(values):
        ends = [v if unit == 1 else v / unit for v in (value, value - width, value + width)]
        made.append(one.number(cell, keys[cell], ends, False, period))
    return made


def _check_size(count: int) -> None:
    if count > MAX_STATISTICS:
        raise InvalidQueryError(
            f"the release has {count:,} numbers, above {MAX_STATISTICS:,} entities: ask by fewer or wider keys, or "
            "hand it out as a file"
        )


def _source(
    answer: Release | SeriesRelease, query: Query, step: int | None, epoch: int | None, time: int, proof: Proof,
    confidence: float, zone: str, cohort: int,
) -> Source:  # fmt: skip
    document = answer.series.document() if isinstance(answer, SeriesRelease) else query.document()
    asked = digest(document)
    named = {
        "city": answer.city, "query": asked.hex(), "purpose": answer.purpose, "programme": answer.programme,
        "loss": answer.loss.document(), "trust": answer.trust.document(),
    }  # fmt: skip
    return Source(
        city=CityId.parse(answer.city).name, release=answer.identifier.hex(), step=step, query=asked.hex(),
        standing=b64url(digest(named)[:16]), table=query.schema.name, domain=query.schema.domain,
        purpose=answer.purpose, programme=answer.programme, loss=answer.loss,
        trust=", ".join(t.name for t in answer.trust.each), mechanism=answer.mechanism, epoch=epoch, time=time,
        confidence=confidence, cohort=cohort, zone=zone_of(query, zone), proof=proof,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asked:
    """One statistic of an answer, of which each cell has a number."""

    source: Source
    query: Query
    name: str
    kind: str
    unit: str
    scale: float | None

    def number(
        self, cell: int | None, keys: Keys, found: Sequence[Any], withheld: bool = False, period: Period | None = None
    ) -> DPStatistic:
        value, low, high = (None if v is None or not math.isfinite(v) else v for v in found)
        texts = [v for _, column, v in keys if column.rpartition(".")[2].startswith("mesh") and isinstance(v, str)]
        return DPStatistic(
            self.source, self.name, self.kind, self.unit, self.scale, cell, keys, value, low, high, withheld,
            period or period_of(self.query, [v for *_, v in keys]), texts[0] if texts else None,
        )  # fmt: skip


def _keys(query: Query, frame: pl.DataFrame) -> list[Keys]:
    names = [k.name for k in query.key_list]
    if not names:
        return [()] * frame.height
    attributes: list[str] = []
    for name in names:
        made = attribute(name)
        attributes.append(made if made not in attributes else f"{made}__{len(attributes)}")
    rows = frame.select([pl.col(n).cast(pl.String) if frame[n].dtype == pl.Enum else pl.col(n) for n in names]).rows()
    return [tuple(zip(attributes, names, row, strict=True)) for row in rows]


def _scale(release: Release, name: str) -> float | None:
    return None if release.responses is not None else release.scale(name)


def _unit(query: Query, aggregate: Aggregate) -> str:
    if aggregate.kind in ("count", "rows"):
        return "row"
    if aggregate.kind in ("distinct", "coverage"):
        return "resident"
    column = query.column(aggregate.column) if aggregate.column else None
    unit = column.unit if isinstance(column, Integer | Decimal) else ""
    return f"{unit}^2" if unit and aggregate.kind == "variance" else unit
