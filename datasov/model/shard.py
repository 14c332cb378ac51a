"""A shard of pooled rows, and the residents' bounded vectors that are made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InternalError

Integers = npt.NDArray[np.int64]

RESIDENT, PAIR, ROW = "_resident", "_pair:", "_row:"
"""Column names of a shard beside the data: the resident's place in the shard, and two ranks for each index."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The pooled rows of the residents `first` .. `first + residents - 1` of one account list.

    Attributes:
        rows: codes; RESIDENT (place in the shard, ascending); PAIR + index and ROW + index ranks. `order` is the index
            by whose ranks the rows lie within a resident.
        profiles: joined columns `table.column`, one row a resident of the shard, or None.
    """

    first: int
    residents: int
    rows: pl.DataFrame
    profiles: pl.DataFrame | None
    order: str

    def joined(self, rows: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
        """Rows with the joined columns among `names`: each resident has one profile row, so no row is repeated."""
        if self.profiles is not None and self.profiles.height != self.residents:
            raise InternalError("the pool does not hold one profile row a resident")
        added, here = [], rows[RESIDENT]
        for name in sorted(n for n in names if "." in n):
            held = self.profiles is not None and name in self.profiles.columns
            column = self.profiles[name].gather(here) if self.profiles is not None and held else pl.lit(None, pl.Int64)
            added.append(column.alias(name))
        return rows.with_columns(added) if added else rows


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The consents as they stand, and the rows under them.

    Attributes:
        account: name of the list of residents.
        fence: streams and the lengths at which all this was true.
        eligible: one entry a resident: whether their live consent covers the question.
        caps: its most nano and delta in all; shape (2, residents).
        shards: the pooled rows.
    """

    account: str
    fence: Mapping[str, int]
    eligible: npt.NDArray[np.bool_]
    caps: Integers
    shards: Sequence[Shard]


@dataclass(frozen=True, slots=True, repr=False)
class Vector:
    """One statistic of a shard's residents: all entries but zeros. No pair (resident, entry) stands twice.

    `resident` (place in the shard), `entry` (place in the statistic's vector) and `value` have one length.
    """

    resident: Integers
    entry: Integers
    value: Integers


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A shard's residents' bounded vectors, one a statistic. Private: the repr is redacted."""

    first: int
    residents: int
    vectors: tuple[Vector, ...]

    def __repr__(self) -> str:
        return "Part(redacted)"


def runs(*columns: Integers) -> Integers:
    """Where each run of equal rows begins."""
    new = np.zeros(len(columns[0]), dtype=np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    starts: Integers = np.flatnonzero(new)
    return starts
