"""The example of docs/sql.md runs, and the forms of its tables are read or refused as they say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import datasov as ds
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
SCHEMAS = [
    ds.Schema(
        "trips", domain="mobility",
        columns={
            "district": ds.Category("NESW"), "km": ds.Integer(0, 50), "x": ds.Integer(0, 50),
            "at": ds.Timestamp("2027-01-01", "2027-02-01"), "flag": ds.Boolean(),
        },
    ),
    ds.Schema("people", domain="administration", kind="attributes", columns={"age": ds.Integer(0, 120)}),
]  # fmt: skip
ROWS = re.findall(
    r"^\| (`.*?) \| (.*) \|$", TEXT.partition("## The subset")[2].partition("## What is refused")[0], re.MULTILINE
)


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "form", [f for cell, _ in ROWS for f in re.findall(r"`(.*?)`", cell) if f not in ("<>", "<", "<=", ">", ">=")]
)
def test_the_forms_of_the_subset_are_read(form: str) -> None:
    for part in (form.replace("[NOT] ", "NOT "), form.replace("[NOT] ", "")):
        part = part.replace("...", "flag")
        if part.startswith(("FROM", "LEFT JOIN")):
            text = f"SELECT COUNT(*) {'' if part.startswith('FROM') else 'FROM trips '}{part}"
        elif part.startswith("GROUP BY"):
            text = f"SELECT district, COUNT(*) FROM trips {part}"
        elif part.startswith("ORDER BY"):
            text = f"SELECT WIDTH_BUCKET(x, ARRAY[1, 2, 3, 4, 5, 6]) FROM trips GROUP BY 1 {part}"
        elif re.match(r"(COUNT|SUM|AVG|VAR_POP|STDDEV_POP|MEDIAN|PERCENTILE_CONT)\(", part):
            text = f"SELECT {part} FROM trips"
        elif part.startswith("LEAST"):
            text = f"SELECT AVG({part}) FROM trips"
        elif re.match(r"(EXTRACT|DATE_TRUNC|CAST|WIDTH_BUCKET|at::)", part):
            text = f"SELECT {part}, COUNT(*) FROM trips GROUP BY {part}"
        elif part in ("trips.column", "people.column", "PERCENTILE_DISC", "AND", "OR", "NOT"):
            continue
        else:
            text = f"SELECT COUNT(*) FROM trips WHERE {part}"
        assert isinstance(ds.sql(text, SCHEMAS), ds.Query)
