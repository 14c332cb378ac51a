"""Series: one count or sum, released again and again over a fixed horizon, for one loss.

The steps of the horizon are the leaves of a binary tree. A node is noised once, when its last step is over, and the
total of any run of steps is a sum of few nodes (Dwork, Naor, Pitassi and Rothblum 2010; Chan, Shi and Song 2011).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError
from datasov.model import estimates
from datasov.model.aggregate import Aggregate
from datasov.model.columns import Timestamp
from datasov.model.derived import Duration, microseconds
from datasov.model.document import Document, digest
from datasov.model.energy import Energy, estimate
from datasov.model.noise import Noise, sum_half_width
from datasov.model.predicate import col
from datasov.model.privacy import Loss, Trust
from datasov.model.query import Query, query_from_document
from datasov.model.release import key_columns
from datasov.model.schema import Schema
from datasov.model.statistics import Statistic

MAX_STEPS = 1 << 14


@dataclass(frozen=True, slots=True)
class Series:
    """A standing question. Make one with :func:`series`.

    Attributes:
        query: one count or sum, by public keys or none.
        at: the Timestamp column that tells in which step a row falls.
        start: of the first step, in microseconds since 1970 (UTC). every: microseconds of a step.
        steps: the horizon. rows: of a resident, at most so many count over the whole horizon.
        delay: microseconds after the end of a step, for late rows.
    """

    query: Query
    at: str
    start: int
    every: int
    steps: int
    rows: int
    delay: int

    @property
    def levels(self) -> int:
        """Levels of the tree whose nodes close within the horizon: a step lies in one node of each, at most."""
        return self.steps.bit_length()

    def closing(self, step: int) -> list[int]:
        """The levels whose node ends with this step."""
        return [level for level in range(self.levels) if (step + 1) % (1 << level) == 0]

    def over(self, now: float) -> int:
        """How many steps are over, with their delay, at this Unix time in seconds."""
        passed = int(now * 1_000_000) - self.start - self.delay
        return min(max(passed // self.every, 0), self.steps)

    def nodes(self, first: int, last: int) -> list[tuple[int, int]]:
        """The fewest nodes that make up the steps first .. last - 1: the level of each, and its last step."""
        found: list[tuple[int, int]] = []
        while first < last:
            level = min((first & -first).bit_length() - 1 if first else self.levels, (last - first).bit_length() - 1)
            first += 1 << level
            found.append((level, first - 1))
        return found

    def window(self, step: int) -> Query:
        """The question about one step's rows alone."""
        column = self.query.column(self.at)
        begin, end = (column.decode(self.start + i * self.every) for i in (step, step + 1))
        return self.query.where((col(self.at) >= begin) & (col(self.at) < end))

    def paid(self, loss: Loss) -> Loss:
        """What residents are charged parts of, and what the noise is made for: one unit a step is left for rounding up.

        Raises:
            InvalidQueryError: nothing is left.
        """
        if loss.nano <= self.steps:
            raise InvalidQueryError("the loss is too small for so many steps: give a larger one, or take fewer steps")
        return replace(loss, nano=loss.nano - self.steps)

    def document(self) -> dict[str, Any]:
        """The series as a document: that of its question, with the rest under "series"."""
        own = {name: getattr(self, name) for name in ("at", "start", "every", "steps", "rows", "delay")}
        return {**self.query.document(), "series": own}

    def tables(self) -> tuple[tuple[str, bytes, tuple[str, ...]], ...]:
        """As :meth:`Query.tables`, with the column of times."""
        return self.window(0).tables()

    @property
    def aggregate(self) -> Aggregate:
        return self.query.aggregates[0]


def series(
    query: Query, *, every: Duration, rows: int, at: str | None = None, start: dt.datetime | str | None = None,
    steps: int | None = None, delay: Duration = "0s",
) -> Series:  # fmt: skip
    """A count or a sum, told anew after every step of a fixed horizon, for one loss that is charged at the start.

    ``ds.series(ds.query(trips).keys("district").count(), every="1d", rows=100)``

    Args:
        query: one `count()` or `sum()`, with public keys and `where` as one likes, without `bound`.
        every: length of a step: "1d", "1h", "7d". Steps have one length, also where clocks are set forward.
        rows: of a resident, at most so many count over the whole horizon: the lifetime bound.
        at: the Timestamp column; may be left out where the table has one.
        start: of the first step; the column's declared beginning where None.
        steps: how many; up to the column's declared end where None, at most 16,384.
        delay: how long after its end a step waits for late rows. What comes later does not count.

    Raises:
        InvalidQueryError: what is wrong, and what to write instead.
    """
    if not isinstance(query, Query) or query.schema.kind != "events":
        raise InvalidQueryError("ds.series takes a question about an event table, made with ds.query")
    times = [name for name, column in query.schema.items if isinstance(column, Timestamp)]
    if at is None:
        if len(times) != 1:
            raise InvalidQueryError("say by which Timestamp column the steps go: at=...")
        at = times[0]
    column = query.schema.column(at)
    if not isinstance(column, Timestamp):
        raise InvalidQueryError(f"column {at!r} is no Timestamp: steps need one")
    first, last = column.range
    length, begin = microseconds(every), first if start is None else column.encode(start)
    if length == 0:
        raise InvalidQueryError("a step has a length: every='1d'")
    count = -(-(last + 1 - begin) // length) if steps is None else steps
    made = Series(query, at, begin, length, count, rows, microseconds(delay))
    check_series(made)
    return made


def check_series(made: Series) -> None:
    """Raise InvalidQueryError unless a series has all that it needs, and its horizon lies where the table has times."""
    query = made.query
    first, last = query.schema.column(made.at).range
    if len(query.aggregates) != 1 or made.aggregate.kind not in ("count", "sum") or made.aggregate.per:
        raise InvalidQueryError("a series tells one count() or one sum(): open another for another statistic")
    if query.rows is not None or query.keys_bound is not None:
        raise InvalidQueryError("a series is bounded over its whole horizon: leave bound() out and give rows=")
    if query.highest is not None or any(k.kind == "unknown" for k in query.key_list):
        raise InvalidQueryError("a series needs public keys and tells numbers: leave top() and unknown keys out")
    for name, value, most in (("rows", made.rows, 65_535), ("steps", made.steps, MAX_STEPS)):
        if type(value) is not int or not 1 <= value <= most:
            raise InvalidQueryError(f"{name} is a whole number from 1 to {most:,}: choose longer steps, or fewer")
    if not first <= made.start <= last or made.start + (made.steps - 1) * made.every > last:
        raise InvalidQueryError(
            f"the steps begin within the declared range of {made.at!r}: check start, every and steps"
        )


def series_from_document(doc: Mapping[str, Any], schemas: Mapping[bytes, Schema]) -> Series:
    """The series that `document()` described, given the schemas by digest."""
    own = doc["series"]
    names = ("at", "start", "every", "steps", "rows", "delay")
    if not isinstance(own, Mapping) or set(own) != set(names):
        raise InvalidQueryError("the series' document is incomplete")
    query = query_from_document({k: v for k, v in doc.items() if k != "series"}, schemas)
    numbers = [own[n] for n in names[1:]]
    if not isinstance(own["at"], str) or any(type(n) is not int or n < 0 for n in numbers) or own["every"] < 1:
        raise InvalidQueryError("the series' document names steps that are none")
    made = Series(query, own["at"], *numbers)
    check_series(made)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class SeriesRelease:
    """A series with the steps that were released so far.

    Attributes:
        identifier: 16 bytes.
        city: text of the city's id.
        statistic, scale: what every node holds, and the scale of its noise.
        outputs: for each step that was released the nodes that closed with it, from the smallest up (int64 vectors of
            the cells). times: when each was released, in Unix seconds.
        time: of the opening, in Unix seconds.
    """

    identifier: bytes
    city: str
    series: Series
    purpose: str
    programme: str
    loss: Loss
    trust: Trust
    mechanism: str
    time: int
    statistic: Statistic
    scale: float
    outputs: tuple[tuple[npt.NDArray[np.int64], ...], ...] = ()
    times: tuple[int, ...] = ()

    @property
    def energy(self) -> Energy:
        """What a step costs in energy, estimated from the question and public sizes alone, never measured."""
        return estimate(self.series.query, [self.statistic], rows=self.series.rows)

    def total(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """The noisy totals of the steps first .. last - 1, a vector over the cells."""
        if not 0 <= first < last <= len(self.outputs):
            raise InvalidQueryError(f"steps 0 to {len(self.outputs)} were released: ask for a run within them")
        parts = [self.outputs[end][level] for level, end in self.series.nodes(first, last)]
        added: npt.NDArray[np.int64] = np.sum(parts, axis=0, dtype=np.int64)
        return added

    def frame(self, confidence: float = 0.95, *, last: int | None = None) -> pl.DataFrame:
        """A row a step and key: the step, its beginning and end, the keys, then value, low and high.

        The value is the total from the first step to this one or, with `last`, of the last so many steps up to this one
        (fewer at the beginning). Each interval covers the exact bounded total with probability `confidence`.
        """
        estimates.check_confidence(confidence)
        if last is not None and (type(last) is not int or last < 1):
            raise InvalidQueryError("last is a number of steps: 1 for each step alone, 7 for a week of days")
        query, done = self.series.query, len(self.outputs)
        unit = estimates.unit_of(query, self.series.aggregate)
        values, widths = [], []
        for step in range(done):
            begin = 0 if last is None else max(0, step + 1 - last)
            values.append(self.total(begin, step + 1))
            widths.append(half_width(self.noise, len(self.series.nodes(begin, step + 1)), confidence))
        keys = pl.DataFrame(key_columns(query, None))
        cells = len(values[0]) if values else 0
        steps = np.repeat(np.arange(done), cells)
        column = query.column(self.series.at)
        edges = [column.decode(self.series.start + i * self.series.every) for i in range(done + 1)]
        zone = column.zone if isinstance(column, Timestamp) else "UTC"
        edge = pl.Series("edge", edges, dtype=pl.Datetime("us", zone))
        value = np.concatenate(values) if values else np.zeros(0, dtype=np.int64)
        width = np.repeat(np.array(widths, dtype=np.int64), cells)
        name = self.series.aggregate.name
        told = [pl.Series("step", steps), edge.gather(steps).alias("begin"), edge.gather(steps + 1).alias("end")]
        told += [keys[n].gather(np.tile(np.arange(cells), done)) for n in keys.columns]
        for suffix, number in (("", value), ("_low", value - width), ("_high", value + width)):
            told.append(pl.Series(name + suffix, number if unit == 1 else number / unit))
        return pl.DataFrame(told)

    @property
    def noise(self) -> Noise:
        """The noise of one node."""
        return Noise(self.scale, self.loss.measure)

    def document(self) -> dict[str, Any]:
        """The opening as a document: all but the steps."""
        query = self.series.query
        return {
            "id": self.identifier.hex(), "city": self.city, "query": self.series.document(),
            "schemas": [s.document() for s in (query.schema, *query.profiles)],
            "purpose": self.purpose, "programme": self.programme, "loss": self.loss.document(),
            "trust": self.trust.document(), "mechanism": self.mechanism, "time": self.time,
            "statistic": self.statistic.document(), "scale": self.scale.hex(),
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Document) -> SeriesRelease:
        """The opening of a document, without steps."""
        schemas = [Schema.from_document(s) for s in doc["schemas"]]
        return SeriesRelease(
            identifier=bytes.fromhex(doc["id"]), city=doc["city"],
            series=series_from_document(doc["query"], {s.digest: s for s in schemas}),
            purpose=doc["purpose"], programme=doc["programme"], loss=Loss.from_document(doc["loss"]),
            trust=Trust.from_document(doc["trust"]), mechanism=doc["mechanism"], time=doc["time"],
            statistic=Statistic.from_document(doc["statistic"]), scale=float.fromhex(doc["scale"]),
        )  # fmt: skip

    def and_step(self, values: tuple[npt.NDArray[np.int64], ...], time: int) -> SeriesRelease:
        """The same with the next step's nodes."""
        return replace(self, outputs=(*self.outputs, values), times=(*self.times, time))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the opening's document, 32 bytes: what its leaf carries."""
        return digest(self.document())

    def step_digest(self, step: int) -> bytes:
        """SHA-256 of a step's output, 32 bytes: what its leaf carries."""
        return step_digest(self.identifier, step, self.times[step], self.outputs[step])

    def __repr__(self) -> str:
        done = f"{len(self.outputs)} of {self.series.steps} steps"
        return (
            f"<SeriesRelease of {self.series.aggregate.name} from {self.series.query.schema.name}, {self.loss}, {done}>"
        )


def step_digest(identifier: bytes, step: int, time: int, nodes: Sequence[npt.NDArray[np.int64]]) -> bytes:
    """SHA-256 of a step's output: the series, the step, the time, and the nodes' little-endian words; 32 bytes."""
    values = [v.astype("<i8").tobytes().hex() for v in nodes]
    return digest({"series": identifier.hex(), "step": step, "time": time, "values": values})


def half_width(noise: Noise, nodes: int, confidence: float) -> int:
    """The half width of the interval of a sum of so many nodes."""
    if nodes == 1:
        return noise.half_width(confidence)
    return int(np.ceil(sum_half_width([noise], [float(nodes)], [1.0], (1 - confidence) / 2)))
