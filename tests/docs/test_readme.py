"""The README runs as it stands, and names only what exists."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benches.__main__ import names
from datasov.cli import parser
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = ["README.md", "CHANGELOG.md", "SECURITY.md", "benches/README.md"]


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.splitlines()) <= 27
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "count: ±" in done.stdout
    assert "district" in done.stdout
    assert "rho = 0.98" in done.stdout


def test_the_commands_are_those_that_there_are() -> None:
    assert "pip install -e '.[demo]' && datasov demo" in README
    assert "pip install -e '.[test]' && pytest -n auto --dist loadfile\n" in README
    (made,) = re.findall(r"Made by `datasov (.*?)`", README)
    options = parser().parse_args(made.split())
    assert (ROOT / options.image).is_file()


@pytest.mark.parametrize("name", TEXTS)
def test_local_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / name).parent.joinpath(link.partition("#")[0]).exists()] == []


def test_every_bench_that_is_named_can_be_run() -> None:
    pages = [ROOT / name for name in TEXTS] + sorted((ROOT / "docs").rglob("*.md"))
    named = {n for page in pages for n in re.findall(r"-m benches (\w+)", page.read_text(encoding="utf-8"))}
    assert len(named) > 5
    assert named <= set(names())


def test_every_command_that_a_page_names_is_one() -> None:
    pages = [ROOT / name for name in TEXTS] + sorted((ROOT / "docs").glob("*.md"))
    (top,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M))
        typed = re.findall(r"`datasov (\w[\w-]*) +([\w-]+)", text)
        typed += re.findall(r"^(?:\$ )?datasov (\w[\w-]*) +([\w-]+)", code, re.M)
        for first, second in typed:
            assert first in top.choices, f"{page.name}: {first}"
            inner = [a for a in top.choices[first]._actions if isinstance(a, argparse._SubParsersAction)]
            assert not inner or second in inner[0].choices, f"{page.name}: {first} {second}"


def test_nothing_in_the_readme_is_fetched_from_elsewhere() -> None:
    assert re.findall(r"!\[[^\]]*\]\((?!docs/)", README) == []


def test_every_version_has_a_privacy_heading() -> None:
    versions = re.split(r"^## \[", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    released = [v for v in versions if not v.startswith("Unreleased")]
    assert released
    assert all("### Privacy" in v for v in released)
