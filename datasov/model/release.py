"""Releases: noised vectors with their meaning, as frames with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model import estimates, responses
from datasov.model.aggregate import Aggregate
from datasov.model.columns import Category
from datasov.model.document import Document, digest
from datasov.model.energy import Energy, estimate
from datasov.model.noise import Noise
from datasov.model.partition import axes_of
from datasov.model.privacy import Loss, Trust
from datasov.model.query import Query, query_from_document
from datasov.model.responses import Responses
from datasov.model.schema import Schema
from datasov.model.statistics import Statistic


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """The answer to one question, as it was drawn and stored.

    Attributes:
        identifier: 16 bytes.
        city: text of the city's id.
        statistics, values, scales: each noised vector (int64) and the scale of its noise; of a question for the top,
            `values` is one vector of cells, the highest first.
        parts: for every aggregate, the indices of its statistics.
        epoch: the public data epoch. time: Unix seconds.
        cells: of unknown keys the cells that showed, ascending; else None.
        cohort: cells with fewer noisy residents were withheld before the release was stored; 0: none were.
        withheld: those cells, ascending, with values of 0 that show as null; of unknown keys they are left out instead.
        withheld_whole: what was asked about the whole question is withheld too.
        responses: of devices that noised their own answers; their estimates are added to what `values` tell.
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
    scales: tuple[float, ...]
    cells: npt.NDArray[np.int64] | None = None
    cohort: int = 0
    withheld: tuple[int, ...] = ()
    withheld_whole: bool = False
    responses: Responses | None = None

    def frame(self, confidence: float = 0.95, *, adjusted: bool = False) -> pl.DataFrame:
        """A row a key, in the order of the public cells: the keys, then value, low and high of each aggregate.

        Each interval covers the exact bounded statistic with probability `confidence` over the noise: for the residents
        of unknown keys over all draws, those included after which a key does not show. What the bounds leave out, no
        interval can know. Of a question for the top it is a row a rank; of one that asks for numbers
        about the whole alone, one row, as :meth:`overall`. A cell that was withheld has its keys, and nulls.

        Args:
            adjusted: add `NAME_adjusted` to counts, residents and sums that cannot be negative: whole numbers of at
                least 0 whose total is that of the noised values, as near to these as they can be. That is
                post-processing: it costs nothing and is biased in small cells, so the intervals stay those of `NAME`.
        """
        estimates.check_confidence(confidence)
        if self.query.highest is not None:
            ranks = pl.Series("rank", np.arange(1, len(self.values[0]) + 1))
            return pl.DataFrame([ranks, *key_columns(self.query, self.values[0])])
        asked = [(a, p) for a, p in zip(self.query.aggregates, self.parts, strict=True) if not a.whole]
        if not asked:
            return self.overall(confidence)
        columns = key_columns(self.query, self.cells)
        for aggregate, part in asked:
            found = self._columns(aggregate, part, confidence)
            if adjusted and estimates.adjustable(aggregate):
                values = self.values[part[0]] if self.responses is None else _whole(self.query, aggregate, found[0])
                shown = np.isin(np.arange(len(values)), self.withheld, invert=True)
                whole = np.zeros_like(values)
                whole[shown] = estimates.adjusted(values[shown])
                unit = estimates.unit_of(self.query, aggregate)
                found.append(pl.Series(aggregate.name + "_adjusted", whole if unit == 1 else whole / unit))
            columns += [c.scatter(list(self.withheld), None) for c in found] if self.withheld else found
        return pl.DataFrame(columns)

    def overall(self, confidence: float = 0.95) -> pl.DataFrame:
        """One row: what was asked about the whole question, as coverage; no columns where nothing was."""
        estimates.check_confidence(confidence)
        columns = []
        for aggregate, part in zip(self.query.aggregates, self.parts, strict=True):
            found = self._columns(aggregate, part, confidence) if aggregate.whole else []
            columns += [c.scatter(0, None) for c in found] if self.withheld_whole else found
        return pl.DataFrame(columns)

    @property
    def energy(self) -> Energy:
        """What the answer cost in energy, estimated from the question and public sizes alone, never measured."""
        return estimate(self.query, self.statistics)

    def scale(self, name: str) -> float:
        """The scale of the noise of an aggregate by its column's name, in the column's unit.

        It is sigma of discrete Gaussian noise under zCDP, b of discrete Laplace noise under pure epsilon; under two
        servers each adds noise of this scale. Where devices noised their own answers there is none
        (InvalidQueryError). Of a mean it is that of its sum; of a variance or a standard deviation
        that of its sum of squares, unit squared.
        """
        if self.responses is not None:
            raise InvalidQueryError("devices noised their own answers, so there is no one scale: see the intervals")
        for aggregate, part in zip(self.query.aggregates, self.parts, strict=True):
            if aggregate.name == name:
                power = {"square": 2, "count": 0}.get(self.statistics[part[-1]].kind, 1)
                return float(self.scales[part[-1]] / estimates.unit_of(self.query, aggregate) ** power)
        raise InvalidQueryError(f"the release has no statistic {name!r}")

    def _columns(self, aggregate: Aggregate, part: tuple[int, ...], confidence: float) -> list[pl.Series]:
        noises = [Noise(self.scales[i], self.loss.measure, self.trust.draws) for i in part]
        pieces = [(self.statistics[i], self.values[i], n) for i, n in zip(part, noises, strict=True)]
        if self.responses is not None:
            return responses.columns(self.query, aggregate, pieces, self.responses, confidence)
        return estimates.columns(self.query, aggregate, pieces, confidence)

    def document(self) -> dict[str, Any]:
        """All but the values, as a document."""
        return {
            "id": self.identifier.hex(), "city": self.city, "query": self.query.document(),
            "schemas": [s.document() for s in (self.query.schema, *self.query.profiles)],
            "purpose": self.purpose, "programme": self.programme, "loss": self.loss.document(),
            "trust": self.trust.document(), "mechanism": self.mechanism, "epoch": self.epoch, "time": self.time,
            "statistics": [s.document() for s in self.statistics],
            "parts": [list(p) for p in self.parts], "scales": [s.hex() for s in self.scales],
            "cells": None if self.cells is None else self.cells.tolist(),
            **self._withheld(), **({"responses": self.responses.document()} if self.responses else {}),
        }  # fmt: skip

    @property
    def words(self) -> list[bytes]:
        """The little-endian words of each statistic, and then of the responses' supports, where there are any."""
        supports = [self.responses.tally.supports] if self.responses else []
        return [v.astype("<i8").tobytes() for v in (*self.values, *supports)]

    def _withheld(self) -> Document:
        """Only where a minimum cohort was asked for: without one a document is what it was before there were any."""
        if not self.cohort:
            return {}
        return {"cohort": self.cohort, "withheld": list(self.withheld), "withheld_whole": self.withheld_whole}

    @staticmethod
    def from_document(doc: Document, values: Mapping[int, bytes]) -> Release:
        """The release of a document and the little-endian words of each statistic."""
        schemas = [Schema.from_document(s) for s in doc["schemas"]]
        return Release(
            identifier=bytes.fromhex(doc["id"]), city=doc["city"],
            query=query_from_document(doc["query"], {s.digest: s for s in schemas}),
            purpose=doc["purpose"], programme=doc["programme"], loss=Loss.from_document(doc["loss"]),
            trust=Trust.from_document(doc["trust"]), mechanism=doc["mechanism"], epoch=doc["epoch"], time=doc["time"],
            statistics=tuple(Statistic.from_document(s) for s in doc["statistics"]),
            parts=tuple(tuple(p) for p in doc["parts"]),
            values=tuple(np.frombuffer(values[i], dtype="<i8") for i in range(len(doc["statistics"]))),
            scales=tuple(float.fromhex(s) for s in doc["scales"]),
            cells=None if doc["cells"] is None else np.array(doc["cells"], dtype=np.int64),
            cohort=doc.get("cohort", 0), withheld=tuple(doc.get("withheld", ())),
            withheld_whole=doc.get("withheld_whole", False),
            responses=Responses.from_document(doc["responses"], values[len(doc["statistics"])])
            if "responses" in doc else None,
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        """SHA-256 that the log's leaf carries: of the document and the values, 32 bytes."""
        return digest({**self.document(), "values": [w.hex() for w in self.words]})

    def __repr__(self) -> str:
        names = ", ".join(a.name for a in self.query.aggregates)
        return f"<Release of {names} from {self.query.schema.name}, {self.loss}, epoch {self.epoch}>"


def _whole(query: Query, aggregate: Aggregate, shown: pl.Series) -> npt.NDArray[np.int64]:
    """Estimates in whole codes."""
    whole: npt.NDArray[np.int64] = np.rint(shown.to_numpy() * estimates.unit_of(query, aggregate)).astype(np.int64)
    return whole


def key_columns(query: Query, cells: npt.NDArray[np.int64] | None) -> list[pl.Series]:
    """The keys of these cells, or of all public ones in their order, a column a key."""
    axes = axes_of(query.key_list, query.column)
    sizes = [a.size for a in axes]
    stride = math.prod(sizes)
    cells = np.arange(stride) if cells is None else cells
    columns = []
    for axis, size in zip(axes, sizes, strict=True):
        stride //= size
        places = cells // stride % size
        column = query.column(axis.key.column)
        if axis.key.kind == "unknown":
            columns.append(pl.Series(axis.key.name, places + axis.first))
            continue
        listed = axis.key.kind == "value" and isinstance(column, Category)
        texts = pl.Series(axis.key.name, axis.labels, dtype=pl.Enum(column.values) if listed else None)  # type: ignore[union-attr]
        columns.append(texts.gather(places))
    return columns
