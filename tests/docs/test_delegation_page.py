"""The examples of docs/delegation.md run, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

TEXT = (ROOT / "docs" / "delegation.md").read_text(encoding="utf-8")


def test_every_block_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "school-routes ('district', 'km') rho = 0.1"
    assert said[1].startswith("the consent goes beyond its delegation in columns, special")
    assert said[2:] == ["parental revoked", "carer in force"]
