"""The operator's key for commands that open a city, and the commands of a city's first day."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.city import City
from datasov.commands import approvals, trusts
from datasov.errors import InvalidDataError, StoreError
from datasov.founding import DEFAULT_PLACE
from datasov.model.consent import CityId
from datasov.store import place, where
from datasov.vault import files

DAY = 86_400


def add_option(parser: argparse.ArgumentParser, what: str = "where the key is (default: CITY.key)") -> None:
    """The option from which :func:`key_of` takes the key."""
    parser.add_argument("--operator-key-file", type=Path, metavar="FILE", help=what)


def add_store(parser: argparse.ArgumentParser) -> None:
    """The option that names a server's database, which :func:`store_of` reads."""
    parser.add_argument(
        "--store", metavar="URL", help="keep the database on a PostgreSQL server, and not in the folder: "
        "postgresql://USER@HOST/DATABASE?schema=NAME; the password is PGPASSWORD, or in ~/.pgpass",
    )  # fmt: skip


def store_of(options: argparse.Namespace) -> str | None:
    """The URL that was given, or None; StoreError where a password is in it."""
    if options.store is not None and where.parse(options.store, "any").secret:
        raise StoreError("leave the password out of the command line: set PGPASSWORD, or put it into ~/.pgpass")
    return None if options.store is None else str(options.store)


def key_of(file: Path | None) -> bytes | None:
    """The 32 bytes of a key file, or None where no file is named: then the key lies beside the city.

    Raises:
        StoreError, InvalidDataError: it cannot be read, or holds something else.
    """
    if file is None:
        return None
    try:
        with file.open("rb") as source:
            key = source.read(33)
    except OSError as fault:
        raise StoreError(f"the key file cannot be read: {fault.strerror or fault}") from None
    if len(key) != 32:
        raise InvalidDataError("an operator's key file holds 32 bytes: name the right one")
    return key


def open_city(path: Path, key_file: Path | None) -> City:
    """A city that is there already; StoreError where there is none."""
    if not place.is_city(path):
        raise StoreError(f"no city is at {path}: check the path")
    return City.open(path, operator_key=key_of(key_file))


def add_founding(command: Callable[..., Any]) -> None:
    """Add `key` and `found` to the commands of `datasov city`, by the function that adds one."""
    key = command(
        "key", _key, "print the id of a city that is to be founded, once its key is made",
        "The key's file is made where it is not there: it is all that opens the city, so keep a second copy elsewhere. "
        "A charter names the city by this id, and its operator by the key's public half (--public).",
    )  # fmt: skip
    key.add_argument("--public", action="store_true", help="print the public half of the key: 64 hexadecimal digits")
    found = command(
        "found", _found, "found a city", "What is not an option here is one of City.open in Python. CITY.key is made "
        "where it is not there; a key file that is named is there before (`datasov city key`).",
    )  # fmt: skip
    for parser in (key, found):
        parser.add_argument("--name", metavar="TEXT", help="the city's name (default: the folder's, without ending)")
    found.add_argument(
        "--budget", type=approvals.loss, required=True, metavar="LOSS",
        help="the most that all answers may ever cost together, like rho=1; fixed for good",
    )  # fmt: skip
    found.add_argument(
        "--purpose", action="append", required=True, metavar="NAME",
        help="what may be asked for (may be repeated): a name, or a term like dpv:ImproveTransportMobility",
    )  # fmt: skip
    found.add_argument(
        "--trust", action="append", type=trusts.part, metavar="TRUST",
        help="who adds: central (the default), local, or two-server=LEADER_ID,HELPER_ID with the ids that `datasov "
        "aggregator init` prints; several of them, one option each, of which each resident accepts one; fixed for good",
    )  # fmt: skip
    found.add_argument(
        "--enrol", action="store_true",
        help="under local trust: only people on the city's roll (`datasov city enrol`) answer, once each; for good",
    )  # fmt: skip
    add_store(found)
    found.add_argument("--processing", metavar="PLACE", help=f"where: ISO 3166, like JP-25 (default: {DEFAULT_PLACE})")
    found.add_argument(
        "--allowance",
        type=approvals.loss,
        metavar="LOSS",
        help="the most that may be spent in one period",
    )
    found.add_argument("--period-days", type=_days, default=365, metavar="N", help="its length (default: %(default)s)")
    found.add_argument(
        "--erase-within-days", type=_days, default=30, metavar="N",
        help="within so many days rows of a consent that ended leave the pool (default: %(default)s)",
    )  # fmt: skip
    found.add_argument(
        "--charter",
        type=Path,
        metavar="SIGNED",
        help="found it under this charter, which `charter collect` wrote",
    )


def _days(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("one day or more")
    return number


def _name(options: argparse.Namespace) -> str:
    return str(options.city.stem if options.name is None else options.name)


def _key(options: argparse.Namespace) -> int:
    file: Path = options.operator_key_file or place.key_path(options.city)
    if not os.path.lexists(file):
        try:
            files.create_new(file, secrets.token_bytes(place.KEY))
        except OSError as fault:
            raise StoreError(f"{file} cannot be made: {fault.strerror or fault}") from None
    signing, opening = place.keys(key_of(file) or b"")
    identity = CityId(_name(options), signing.public, opening.public)
    print(signing.public.hex() if options.public else identity, flush=True)
    return 0


def _found(options: argparse.Namespace) -> int:
    if os.path.lexists(options.city):
        raise StoreError(f"{options.city} exists already: a city is founded where nothing is")
    with City.open(
        options.city, budget=options.budget, purposes=options.purpose, trust=trusts.several(options.trust),
        enrol=options.enrol,
        processing=options.processing, name=_name(options), allowance=options.allowance,
        period=options.period_days * DAY, erase_within=options.erase_within_days * DAY,
        operator_key=key_of(options.operator_key_file),
        store=store_of(options),
        charter=None if options.charter is None else approvals.read(options.charter),
    ) as city:  # fmt: skip
        print(city.id, flush=True)
    return 0
