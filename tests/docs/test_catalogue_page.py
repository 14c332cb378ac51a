"""docs/catalogue.md: its examples run, one after the other, and its tables are those of the catalogue."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from datasov import catalogue
from datasov.catalogue import page
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")


def test_every_block_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "(('long_term_care', 'level'),)" in done.stdout
    assert "53393599" in done.stdout
    assert "102016 102016 ('群馬県', 'Gunma')" in done.stdout


def test_the_tables_are_those_of_the_catalogue() -> None:
    assert page.fill(TEXT) == TEXT, "run: python -m datasov.catalogue.page docs/catalogue.md"
    between = TEXT.partition(page.BEGIN)[2].partition(page.END)[0]
    for entry in catalogue.entries():
        section = between.partition(f"\n### {entry.schema.name}\n")[2].partition("\n### ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` (\|.*)$", section, re.MULTILINE))
        assert list(rows) == list(entry.schema.columns)
        for name, label in entry.labels:
            special = "| special: " in rows[name]
            assert f"| {label.en} | {label.ja} |" in rows[name]
            assert special == (name in entry.special)


def test_the_changelog_counts_the_tables() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"`ds.catalogue`: {len(catalogue.entries())} tables" in text
