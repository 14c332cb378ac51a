"""The examples of docs/spec: run, their output is what stands beside them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.parametrize("name", ["consent", "log"])
def test_the_worked_examples_are_what_the_code_gives(name):
    text = (ROOT / "docs" / "spec" / f"{name}.md").read_text()
    for code, expected in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == expected
