"""The command line: its exit codes, and where it writes what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"datasov {ds.__version__}\n"


@pytest.mark.parametrize(
    "wrong", [[], ["no-such-command"], ["demo", "--households", "0"], ["demo", "--households", "x"]]
)
def test_wrong_usage_exits_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(wrong)
    assert left.value.code == 2
    assert "usage: datasov" in capsys.readouterr().err


def test_help_of_the_demo_names_the_json_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demo", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("exact_unbounded", "covered_share", "--households", "--keep", "--image"))


def test_a_missing_extra_is_one_clear_line_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "datasov: the demo needs its extra: pip install 'datasov[demo]'\n"


def test_a_refusal_is_one_line_on_standard_error_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--households", "1", "--keep", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("datasov: the folder to keep exists")
    assert printed.err.count("\n") == 1


def test_the_whole_demo_on_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datasov.cli", "demo", "--households", "120", "--json", "--keep", "kept"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["households"] == 120
    assert 0 < found["peak_bytes"] < 2 * 2**30
    assert "\x1b" not in done.stderr
    assert (tmp_path / "datasov-report.html").is_file()
    assert len(list((tmp_path / "kept").glob("household-*.vault"))) == 120
    assert (tmp_path / "kept" / "device-keys.json").stat().st_mode & 0o077 == 0
