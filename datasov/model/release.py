"""Releases: noised vectors with their meaning, as frames with intervals."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model.columns import Category, Decimal
from datasov.model.document import Document, digest
from datasov.model.privacy import MAX_NANO, Loss, Trust
from datasov.model.query import Aggregate, Query, query_from_document
from datasov.model.schema import Schema, cell_labels
from datasov.model.statistics import Statistic, half_width, ratio_interval, variance_interval


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """The answer to one question, as it was drawn and stored.

    Attributes:
        identifier: 16 bytes.
        city: text of the city's id.
        statistics, values, sigmas: each noised vector (int64, one entry a cell) and the scale of its noise.
        parts: for every aggregate, the indices of its statistics.
        epoch: the public data epoch. time: Unix seconds.
    """

    identifier: bytes
    city: str
    query: Query
    purpose: str
    programme: str
    loss: Loss
    trust: Trust
    mechanism: str
    epoch: int
    time: int
    statistics: tuple[Statistic, ...]
    parts: tuple[tuple[int, ...], ...]
    values: tuple[npt.NDArray[np.int64], ...]
    sigmas: tuple[float, ...]

    def frame(self, confidence: float = 0.95) -> pl.DataFrame:
        """A row a key, in the order of the public cells: the keys, then value, low and high of each aggregate.

        Each interval covers the exact bounded statistic with probability `confidence` over the noise. What the bounds
        leave out, no interval can know.
        """
        _check_confidence(confidence)
        columns = self._keys()
        for aggregate, part in zip(self.query.aggregates, self.parts, strict=True):
            columns += self._columns(aggregate, part, confidence)
        return pl.DataFrame(columns)

    def sigma(self, name: str) -> float:
        """The scale of the noise of an aggregate by its column's name, in the column's unit.

        Of a mean it is that of its sum; of a variance or a standard deviation that of its sum of squares, unit squared.
        """
        for aggregate, part in zip(self.query.aggregates, self.parts, strict=True):
            if aggregate.name == name:
                squares = self.statistics[part[-1]].kind == "square"
                return self.sigmas[part[-1]] / self._unit(aggregate) ** (2 if squares else 1)
        raise InvalidQueryError(f"the release has no statistic {name!r}")

    def _keys(self) -> list[pl.Series]:
        labels = [cell_labels(k, self.query.column(k.column)) for k in self.query.key_list]
        cells = math.prod(len(group) for group in labels)
        columns, stride = [], cells
        for key, group in zip(self.query.key_list, labels, strict=True):
            stride //= len(group)
            places = np.arange(cells) // stride % len(group)
            column = self.query.column(key.column)
            if key.kind == "value" and isinstance(column, Category):
                texts = pl.Series(key.name, group, dtype=pl.Enum(column.values))
            else:
                texts = pl.Series(key.name, group)
            columns.append(texts.gather(places))
        return columns

    def _unit(self, aggregate: Aggregate) -> int:
        """Codes in one logical unit of an aggregate's column."""
        column = self.query.column(aggregate.column) if aggregate.column else None
        return 10**column.scale if isinstance(column, Decimal) else 1

    def _columns(self, aggregate: Aggregate, part: tuple[int, ...], confidence: float) -> list[pl.Series]:
        unit = self._unit(aggregate)
        if len(part) > 1:
            spread = self._mean if aggregate.kind == "mean" else self._variance
            value, low, high = spread(aggregate, part, confidence)
            unit = unit * unit if aggregate.kind == "variance" else unit
            numbers: list[npt.NDArray[Any]] = [value / unit, low / unit, high / unit]
        else:
            exact = self.values[part[0]]
            width = half_width(self.sigmas[part[0]], confidence)
            whole = [exact, exact - width, exact + width]
            numbers = whole if unit == 1 else [n / unit for n in whole]
        names = (aggregate.name, aggregate.name + "_low", aggregate.name + "_high")
        return [pl.Series(n, v) for n, v in zip(names, numbers, strict=True)]

    def _mean(self, aggregate: Aggregate, part: tuple[int, ...], confidence: float) -> list[npt.NDArray[np.float64]]:
        counts, totals = (self.values[i].astype(np.float64) for i in part)
        sigma_count, sigma_total = (self.sigmas[i] for i in part)
        centre = self.statistics[part[1]].centre
        low, high = aggregate.low - centre, aggregate.high - centre
        value = np.clip(totals / np.maximum(counts, 1), low, high)
        ends = [
            ratio_interval(t, c, sigma_total, sigma_count, confidence, low, high)
            for t, c in zip(totals.tolist(), counts.tolist(), strict=True)
        ]
        return [value + centre, *(np.array(side, dtype=np.float64) + centre for side in zip(*ends, strict=True))]

    def _variance(
        self, aggregate: Aggregate, part: tuple[int, ...], confidence: float
    ) -> list[npt.NDArray[np.float64]]:
        """Of codes: the variance or its root, and the range of it over a box in which all three intervals hold."""
        vectors = [self.values[i].astype(np.float64) for i in part]
        widths = [half_width(self.sigmas[i], 1 - (1 - confidence) / 3) for i in part]
        most = ((aggregate.high - aggregate.low + 1) / 2) ** 2
        counts, totals, squares = (vectors[0].clip(1), vectors[1], vectors[2])
        value = np.clip(squares / counts - (totals / counts) ** 2, 0, most)
        boxes = [[(v - w, v + w) for v in vector.tolist()] for vector, w in zip(vectors, widths, strict=True)]
        ends = [variance_interval(c, t, q, most) for c, t, q in zip(*boxes, strict=True)]
        columns = [value, *(np.array(side, dtype=np.float64) for side in zip(*ends, strict=True))]
        return [np.sqrt(c) for c in columns] if aggregate.kind == "std" else columns

    def document(self) -> dict[str, Any]:
        """All but the values, as a document."""
        return {
            "id": self.identifier.hex(), "city": self.city, "query": self.query.document(),
            "schemas": [s.document() for s in (self.query.schema, *self.query.profiles)],
            "purpose": self.purpose, "programme": self.programme, "loss": self.loss.document(),
            "trust": self.trust.document(), "mechanism": self.mechanism, "epoch": self.epoch, "time": self.time,
            "statistics": [
                [s.kind, s.column, s.low, s.high, s.centre, s.squared_sensitivity] for s in self.statistics
            ],
            "parts": [list(p) for p in self.parts], "sigmas": [s.hex() for s in self.sigmas],
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Document, values: Mapping[int, bytes]) -> Release:
        """The release of a document and the little-endian words of each statistic."""
        schemas = [Schema.from_document(s) for s in doc["schemas"]]
        return Release(
            identifier=bytes.fromhex(doc["id"]), city=doc["city"],
            query=query_from_document(doc["query"], {s.digest: s for s in schemas}),
            purpose=doc["purpose"], programme=doc["programme"], loss=Loss(doc["loss"]["nano_rho"]),
            trust=Trust(doc["trust"]["model"]), mechanism=doc["mechanism"], epoch=doc["epoch"], time=doc["time"],
            statistics=tuple(Statistic(*s) for s in doc["statistics"]),
            parts=tuple(tuple(p) for p in doc["parts"]),
            values=tuple(np.frombuffer(values[i], dtype="<i8") for i in range(len(doc["statistics"]))),
            sigmas=tuple(float.fromhex(s) for s in doc["sigmas"]),
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        """SHA-256 that the log's leaf carries: of the document and the values, 32 bytes."""
        return digest({**self.document(), "values": [v.astype("<i8").tobytes().hex() for v in self.values]})

    def __repr__(self) -> str:
        names = ", ".join(a.name for a in self.query.aggregates)
        return f"<Release of {names} from {self.query.schema.name}, {self.loss}, epoch {self.epoch}>"


@dataclass(frozen=True, slots=True)
class Preview:
    """The error to expect of a question, from its plan alone: no data was touched and nothing was spent.

    Attributes:
        frame: a row a statistic: its name, `sigma` (scale of the noise in one cell) and `margin` (half the width of the
            interval) in the column's unit. For a mean they are those of a cell that holds `mean_rows` rows.
        notes: what to know before asking.
    """

    loss: Loss
    confidence: float
    cells: int
    frame: pl.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.loss} over {self.cells} cells; {self.confidence:.0%} intervals are the value ± margin"]
        lines += [f"  {r['statistic']}: ± {r['margin']:,.6g} (sigma {r['sigma']:,.6g})" for r in self.frame.to_dicts()]
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes)])


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence <= 1 - 1e-9:
        raise InvalidQueryError("a confidence lies above 0 and at most at 1 - 1e-9: a usual choice is 0.95")


def _expected(aggregate: Aggregate, sigmas: list[float], confidence: float) -> tuple[float, float]:
    """Scale of the noise and half the width of the interval, in codes; of a ratio, for a cell of MEAN_ROWS rows."""
    if len(sigmas) == 1:
        return sigmas[0], half_width(sigmas[0], confidence)
    reach = (aggregate.high - aggregate.low + 1) / 2
    spread = math.hypot(sigmas[1], reach * sigmas[0])
    if aggregate.kind == "mean":
        return spread / MEAN_ROWS, min(half_width(spread, confidence) / MEAN_ROWS, 2 * reach)
    spread = math.hypot(sigmas[2], 2 * reach * spread)
    widths = [half_width(s, 1 - (1 - confidence) / 3) for s in sigmas]
    margin = (widths[2] + 2 * reach * widths[1] + 3 * reach * reach * widths[0]) / MEAN_ROWS
    sigma, margin = spread / MEAN_ROWS, min(margin, reach * reach)
    return (math.sqrt(sigma), math.sqrt(margin)) if aggregate.kind == "std" else (sigma, margin)


MEAN_ROWS = 1000
"""Rows in a cell for which a preview states the error of a mean."""


def preview(
    query: Query, parts: tuple[tuple[int, ...], ...], sigmas: tuple[float, ...],
    cells: int, loss: Loss, confidence: float, notes: tuple[str, ...],
) -> Preview:  # fmt: skip
    """The preview of a compiled question; InvalidQueryError where the confidence is none."""
    _check_confidence(confidence)
    rows = []
    for aggregate, part in zip(query.aggregates, parts, strict=True):
        column = query.column(aggregate.column) if aggregate.column else None
        unit = 10**column.scale if isinstance(column, Decimal) else 1
        sigma, margin = _expected(aggregate, [sigmas[i] for i in part], confidence)
        unit = unit * unit if aggregate.kind == "variance" else unit
        rows.append({"statistic": aggregate.name, "sigma": sigma / unit, "margin": margin / unit})
    if any(a.kind in ("mean", "variance", "std") for a in query.aggregates):
        notes = (
            *notes,
            f"the error of a mean or a variance is that of a cell with {MEAN_ROWS} rows: more rows, less error",
        )
    return Preview(loss, confidence, cells, pl.DataFrame(rows), notes)


def least_loss(preview_of: Callable[[Loss], Preview], within: float | Mapping[str, float]) -> Loss:
    """The least loss whose preview has margins of at most `within`: one for all statistics, or by name.

    Raises:
        InvalidQueryError: no loss gives such margins, or there is no such statistic.
    """
    names = set(preview_of(Loss(MAX_NANO)).frame["statistic"])
    limits = dict(within) if isinstance(within, Mapping) else dict.fromkeys(names, within)
    if not limits or not limits.keys() <= names or not all(limit > 0 for limit in limits.values()):
        raise InvalidQueryError(f"within maps some of {', '.join(sorted(names))} to margins above zero")

    def enough(nano: int) -> bool:
        try:
            margins = preview_of(Loss(nano)).frame
        except InvalidQueryError:
            return False
        return all(m <= limits.get(n, m) for n, m in margins.select("statistic", "margin").iter_rows())

    if not enough(MAX_NANO):
        raise InvalidQueryError("no loss gives such small margins: allow wider ones, or lower the bounds")
    return Loss(bisect.bisect_left(range(MAX_NANO), True, lo=1, key=enough))
