"""The example of docs/keys.md runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

TEXT = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")


def test_the_example_runs_and_leaves_what_it_says(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{5}-){11}[0-9A-HJKMNP-TV-Z]{5}", printed[0])
    assert [line.split(maxsplit=1)[1].strip() for line in printed[1:4]] == [
        "device key",
        "recovery key",
        "guardian aunt",
    ]
    assert printed[-1] == "0"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["phone.key", "resident.vault"]
