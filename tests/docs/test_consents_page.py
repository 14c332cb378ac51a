"""The examples of docs/consents.md run, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def test_every_block_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "consents.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "要配慮個人情報: visits.diagnosis" in done.stdout
    assert "QR version" in done.stdout
