"""docs/home.md: its commands are ones that exist, and its pictures are those that its command makes."""

from __future__ import annotations

import re
import shlex

from datasov.cli import parser
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "home.md").read_text(encoding="utf-8")


def test_its_commands_are_taken() -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    found = [parser().parse_args(shlex.split(line)[1:]) for line in lines if line.startswith("datasov ")]
    assert [(o.demo, str(o.vault), o.log, o.city_url) for o in found] == [
        (True, "None", [], []), (False, "resident.vault", ["lakeside.log"], []),
        (False, "resident.vault", [], ["https://lakeside.example"]),
    ]  # fmt: skip
    for name in re.findall(r"`(--[a-z-]+)`", TEXT):
        assert name in _help(), name


def _help() -> str:
    home = parser()._subparsers._group_actions[0].choices["home"]  # type: ignore[union-attr,index]
    return str(home.format_help())


def test_its_pictures_are_made_by_its_command() -> None:
    shots = (ROOT / "tests" / "home_shots.py").read_text(encoding="utf-8")
    shown = re.findall(r"images/(home-[\w-]+)\.png", TEXT)
    assert len(shown) == 4
    for name in shown:
        assert f'"{name}"' in shots
        assert (ROOT / "docs" / "images" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
