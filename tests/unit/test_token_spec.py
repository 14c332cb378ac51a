"""The examples of docs/spec: run, their output is what stands beside them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.parametrize("name", ["charter", "consent", "log"])
def test_the_worked_example_is_what_the_code_gives(name):
    text = (ROOT / "docs" / "spec" / f"{name}.md").read_text()
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S)
    assert len(examples) == text.count("```python")
    for code, expected in examples:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == expected
