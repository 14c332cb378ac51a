"""Floats that are the nearest double of a decimal are that decimal; others are refused."""

from __future__ import annotations

import polars as pl
import pytest

import datasov as ds
from datasov.model.frames import encode

PRICES = ds.Schema("prices", domain="payments", columns={"spent": ds.Decimal(0, 500, scale=2, nullable=True)})


def test_every_cent_up_to_500_is_accepted_as_a_float() -> None:
    cents = list(range(50_001))
    frame = pl.DataFrame({"spent": [float(f"{c // 100}.{c % 100:02d}") for c in cents]})
    assert encode(PRICES, frame)["spent"].to_list() == cents


def test_nulls_stay_null_beside_floats() -> None:
    assert encode(PRICES, pl.DataFrame({"spent": [0.35, None]}))["spent"].to_list() == [35, None]


def test_a_third_digit_is_refused_with_its_row() -> None:
    with pytest.raises(ds.InvalidDataError) as refused:
        encode(PRICES, pl.DataFrame({"spent": [0.35, 0.351]}))
    assert (refused.value.row, refused.value.column) == (1, "spent")
