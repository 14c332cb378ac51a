"""The tutorials run, block after block, and are told in both languages."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
PAGES = ("engineer", "researcher", "resident")
PRINTED = {
    "engineer": [
        "residents_low", '"informationClass": "統計情報"', "ConsentError", "BudgetExceededError", "InvalidQueryError",
    ],
    "researcher": ["for ± 8 residents", "residents_exact", "rows=8: ±", "bounds cut 0 of", "wait_median"],
    "resident": ["special class", "rho = 0.02", "2 rows", "[]"],
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_runs_from_its_first_block_to_its_last(tmp_path, name):
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for text in PRINTED[name]:
        assert text in done.stdout, text


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_speaks_both_languages_at_every_step(name):
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    steps = re.split(r"^\*\*\d+\. ", page, flags=re.MULTILINE)[1:]
    assert len(steps) >= 5
    for step in steps:
        prose = re.sub(r"```.*?```", "", step, flags=re.DOTALL)
        assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", prose), step[:40]
    assert f"]({name}.md)" in (TUTORIALS / "README.md").read_text(encoding="utf-8")
