"""The example of docs/identity.md runs and prints what the page says, and its numbers are those of the tests."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.adversary.test_joinability import PEOPLE
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "identity.md").read_text(encoding="utf-8")


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_prints_what_the_page_says(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert run(code, tmp_path).split() == ["True", "False", "True"]


def test_the_measurement_of_the_check_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r'python -c "\n(.*?)"\n', TEXT, re.DOTALL)
    assert float(run(textwrap.dedent(code), tmp_path)) > 0


def test_the_numbers_are_those_of_the_test() -> None:
    assert len(re.findall(rf"{PEOPLE} of {PEOPLE}", TEXT)) == 2
    assert f"for {PEOPLE} residents" in TEXT
