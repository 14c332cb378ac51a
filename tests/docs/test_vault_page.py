"""The examples of docs/vault.md run, one after the other, and the commands after them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

TEXT = (ROOT / "docs" / "vault.md").read_text(encoding="utf-8")


def test_every_block_and_every_command_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "row 0, column 'km': the value lies outside the declared bounds" in done.stdout
    for name in re.findall(r"^\| `([\w.-]+)` \|", TEXT, re.MULTILINE):
        assert (tmp_path / "out" / name).is_file()
    (tmp_path / "ann.pass").write_text("correct horse battery staple\n")
    (commands,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    script = f'set -euo pipefail\ndatasov() {{ "{sys.executable}" -m datasov.cli "$@"; }}\n{commands}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "every byte is as it was written" in done.stdout
    assert "district  km  fare  at" in done.stdout
    assert not (tmp_path / "bob.vault").exists()
