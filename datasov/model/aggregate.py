"""Aggregates: what a question asks of each cell, and the bins of its quantiles."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast

from datasov.errors import InvalidQueryError
from datasov.model.columns import Integer, exact
from datasov.model.schema import Key, KeyKind

AggregateKind: TypeAlias = Literal[
    "count", "sum", "mean", "variance", "std", "distinct", "quantile", "coverage", "rows", "keys"
]
CLIPPED = ("sum", "mean", "variance", "std", "quantile")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One statistic.

    Attributes:
        column: "" counts rows.
        low, high: clip what is added, as codes.
        per: what is one item: a row (), a resident's rows of a cell ("resident",), or those of them that agree in a key
            (column, kind, cuts ...). An item's value is the sum of its rows' values.
        q: of a quantile, a decimal text. cuts: inner edges of its histogram, as codes.
    """

    kind: AggregateKind
    column: str = ""
    low: int = 0
    high: int = 0
    per: tuple[str, ...] = ()
    q: str = ""
    cuts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of the statistic's column in a release."""
        share = f"{decimal.Decimal(self.q) * 100:f}".rstrip("0").rstrip(".") if self.q else ""
        what = ("median" if share == "50" else "p" + share.replace(".", "_")) if self.q else self.kind
        name = {"count": "count", "distinct": "residents", "coverage": "took_part"}.get(self.kind)
        per = {"rows": "_per_key", "keys": "_per_resident"}.get(self.kind, f"_per_{self.per[0]}" if self.per else "")
        return name + per if name else f"{self.column or ('keys' if self.kind == 'keys' else 'rows')}_{what}{per}"

    @property
    def whole(self) -> bool:
        """Whether it is one number for the whole question, and not one a cell."""
        return self.kind in ("coverage", "rows", "keys")

    @property
    def unit_key(self) -> Key | None:
        """The key by which a resident's rows make items; None where rows or the whole do."""
        return Key(self.per[0], cast(KeyKind, self.per[1]), self.per[2:]) if len(self.per) > 1 else None

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "column": self.column, "low": self.low, "high": self.high,
            "per": list(self.per), "q": self.q, "cuts": list(self.cuts),
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Aggregate:
        return Aggregate(
            doc["kind"], doc["column"], doc["low"], doc["high"], tuple(doc["per"]), doc["q"], tuple(doc["cuts"])
        )


ROWS = Integer(0, 65_535)
"""The type of what is added where no column is named: 1 for each row."""
MAX_BINS = 1024


def equal_cuts(low: int, high: int, bins: int) -> tuple[int, ...]:
    """The inner edges of at most `bins` bins of equal width over the codes [low, high]: one a code where they are few.

    Raises:
        InvalidQueryError: fewer than two bins or more than 1,024, or a range of one code.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or not 2 <= bins <= MAX_BINS or low == high:
        raise InvalidQueryError("a quantile needs 2 to 1,024 bins, between bounds that differ")
    span = high + 1 - low
    bins = min(bins, span)
    return tuple(low + -(-i * span // bins) for i in range(1, bins))


def share_of(q: object) -> str:
    """A share as its shortest decimal text; InvalidQueryError unless above 0, below 1, of at most four decimals."""
    number = exact(q).normalize()
    exponent = number.as_tuple().exponent
    if not 0 < number < 1 or not isinstance(exponent, int) or exponent < -4:
        raise InvalidQueryError("a quantile's share lies above 0 and below 1, with at most four decimals: 0.5 or 0.95")
    return f"{number:f}"


def ascending(cuts: Sequence[int], low: int, high: int) -> bool:
    return 1 <= len(cuts) < MAX_BINS and all(a < b for a, b in pairwise((low, *cuts))) and cuts[-1] <= high
