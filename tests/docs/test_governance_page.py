"""docs/governance.md: its commands run in order, and its example prints what stands beside it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from tests.helpers import TRIPS
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "governance.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trips.json").write_text(json.dumps(TRIPS.document()))
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    assert len(commands) == 17
    for line in commands:
        filled = re.sub(r"\$\(cat (\S+)\)", lambda m: (tmp_path / m[1]).read_text().strip(), line)
        arguments = shlex.split(filled)
        target = None
        if ">" in arguments:
            arguments, target = arguments[: arguments.index(">")], arguments[-1]
        assert arguments[0] == "datasov"
        assert main(arguments[1:]) == 0, line
        printed = capsys.readouterr().out
        if target:
            (tmp_path / target).write_text(printed)
    opens = ("--log", "lake.city", "--notices", "--passphrase-file", "pass")
    (tmp_path / "pass").write_text("correct horse\n")
    with ds.Resident.create("ann", passphrase="correct horse") as ann:
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        city_id = (tmp_path / "city.id").read_text().strip()
        ann.grant(city_id, TRIPS, purpose="bus-planning", loss=ds.zcdp(rho="0.1"), until="2999-01-01")
    assert main(["receipts", "ann", *opens]) == 0
    told = capsys.readouterr().out
    assert "the city's charter, version 1" in told
    assert "buses, version 1" in told
    assert main(["receipts", "ann", *opens, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [n["subject"] for n in found["notices"]] == ["charter", "programme"]
    assert found["erasures"] == []
    code, expected = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.S).groups()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    found = done.stdout.splitlines()
    wanted = expected.splitlines()
    assert found[0] == wanted[0]
    assert re.fullmatch("[0-4] of 4 cells are withheld", found[1]), "noise decides"
    assert found[2:] == wanted[2:]
