"""docs/log.md: its commands run in order, on a city with an answer and a resident."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from datasov.vault import KeyFile
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city,
        ds.Resident.create("ann.vault", device=KeyFile("ann.device")) as ann,
    ):
        (tmp_path / "city.id").write_text(str(city.id))
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
    (policy,) = re.findall(r"```text\n(.*?)```", TEXT, re.S)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    assert len(commands) == 11
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
        if target == "witness.key":
            (tmp_path / "policy").write_text(re.sub(r"^(witness lakeside) \S+", rf"\1 {printed.strip()}", policy))
    assert "belong to one tree" in printed
    assert main(["log", "verify", "mirror", "--key", (tmp_path / "city.id").read_text(), "--policy", "policy"]) == 0
    assert "1 witness of the policy" in capsys.readouterr().out
