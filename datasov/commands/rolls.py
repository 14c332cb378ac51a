"""Files of people for a roll: whoever issues enrolment tokens reads them, an aggregator or a city."""

from __future__ import annotations

import argparse
import base64
import contextlib
from collections.abc import Callable
from pathlib import Path

from datasov.errors import InvalidDataError

WHO = (
    "Whoever is on the roll gets one token for each task, and with it one report. You decide who is: "
    "check at a counter, or by a certificate, that the key is the person's, and that nobody is on the roll twice."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The file and what is to be done with it: :func:`changed` reads them."""
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="lines of PERSON,KEY: what your register calls them (a keyed hash of it is kept), and what they read off "
        "`datasov vault enrolment-key`; a person who stands there already gets the new key, and no second token. "
        "Lines that begin with # are left out",
    )  # fmt: skip
    parser.add_argument("--strike", action="store_true", help="take people off the roll instead; lines of PERSON alone")


def changed(
    options: argparse.Namespace, enrol: Callable[[list[tuple[str, bytes]]], int], strike: Callable[[list[str]], int]
) -> int:
    """Enrol or strike the people of the file; each returns how many places the roll has."""
    try:
        lines = options.file.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        raise InvalidDataError(f"{options.file.name} cannot be read: give a text file in UTF-8") from None
    people = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if options.strike:
        places = strike([line for _, line in people])
    else:
        places = enrol([_person(line, number) for number, line in people])
    done = "off" if options.strike else "on"
    print(f"{len(people)} are {done} the roll now, which has places for {places}.", flush=True)
    return 0


def _person(line: str, number: int) -> tuple[str, bytes]:
    who, comma, text = line.rpartition(",")
    with contextlib.suppress(ValueError):
        key = base64.b64decode(text.strip() + "=", altchars=b"-_", validate=True)
        if comma and len(key) == 32:
            return who, key
    raise InvalidDataError(f"line {number} is not PERSON,KEY: the key has 43 characters; nobody was enrolled")
