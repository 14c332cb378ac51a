"""docs/tutorials/two-servers.md and the README's block run as they stand; what is replaced: see tests/shell.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adversary.test_aggregator_kill import free
from tests.paths import ROOT
from tests.shell import Shell, block

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorials" / "two-servers.md").read_text(encoding="utf-8")


def ported(text: str) -> str:
    for port in ("7301", "7302"):
        text = text.replace(port, str(free()))
    return text


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    made = Shell(tmp_path, monkeypatch, servers=2)
    yield lambda text: made.run(ported(text))
    made.close()


def readme() -> str:
    (found,) = (b for b in re.findall(r"```sh\n(.*?)```", README, re.S) if "aggregator" in b)
    return str(found)


def test_the_readmes_city_of_two_servers_runs_as_it_stands(shell):
    text = readme()
    assert len(text.splitlines()) <= 16
    printed = shell(text)
    assert "is answered. What was said shows nowhere" in printed
    assert "service" in printed
    assert "count_low" in printed
    assert "rho = 0.05 was the price, rho = 0.95 is left." in printed


def test_the_tutorial_runs_and_who_refuses_prints_what_others_print(shell, tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL, re.S)
    assert blocks[0] == block(TUTORIAL) == "pip install -e '.[two-server,sql]'\n"
    printed = shell("\n".join(blocks[1:]))
    said = re.findall(r"^The task .* is answered\..*$", printed, re.M)
    assert len(said) == 2
    assert len(set(said)) == 1
    assert "2 are on the roll now, which has places for 2." in printed
    assert "shows its shares to nobody" in printed
    assert "count_low" in printed


def test_it_is_told_in_both_languages_at_every_step():
    steps = re.split(r"^\*\*(?:\d+\. |On two machines)", TUTORIAL, flags=re.MULTILINE)[1:]
    assert len(steps) == 8
    for step in steps:
        prose = re.sub(r"```.*?```", "", step, flags=re.DOTALL)
        assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", prose), step[:40]
    assert "](two-servers.md)" in (ROOT / "docs" / "tutorials" / "README.md").read_text(encoding="utf-8")


@pytest.mark.campaign
def test_the_readmes_block_runs_in_processes_of_its_own_with_the_clock_of_the_machine(tmp_path):
    command = Path(sys.executable).with_name("datasov")
    assert shutil.which("datasov") or command.exists()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", ported(readme())], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "count_low" in done.stdout
