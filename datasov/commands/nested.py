"""A command of `datasov` that has commands of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Protocol

Run = Callable[[argparse.Namespace], int]


class Command(Protocol):
    def __call__(self, name: str, run: Run, help_: str, more: str = "") -> argparse.ArgumentParser: ...


def nested(
    commands: Any, name: str, help_: str, about: str, each: Callable[[argparse.ArgumentParser], None] | None = None
) -> Command:
    """Add a group to those of `datasov`; what adds a command to it, with what `each` of them takes first."""
    parser = commands.add_parser(
        name, help=help_, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest=f"{name}_command", required=True, metavar="COMMAND")

    def command(name: str, run: Run, help_: str, more: str = "") -> argparse.ArgumentParser:
        said = f"{help_[0].upper()}{help_[1:]}. {more}".strip()
        made: argparse.ArgumentParser = parsers.add_parser(name, help=help_, description=said, allow_abbrev=False)
        if each is not None:
            each(made)
        made.set_defaults(run=run)
        return made

    return command
