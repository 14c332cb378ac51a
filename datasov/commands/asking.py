"""`datasov city admit`, `revoke` and `ask`: what residents hand over, and one question with its answer."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datasov import catalogue
from datasov.authority import messages, parcel
from datasov.city import City
from datasov.commands import approvals, operator, outgoing, show, trusts
from datasov.errors import DatasovError, InvalidDataError
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.sql import sql

_ADMIT_AT_ONCE, _HANDED = 512, "what a resident handed over"
Command = Callable[..., Any]


def add(command: Command) -> None:
    """Add `admit`, `revoke` and `ask` to the commands of `datasov city`."""
    admitted = command(
        "admit", _admit, "admit what residents handed over, files of `datasov consent contribute`",
        "Give many at once: they are admitted in a drawn order, so that who came beside whom is not kept. Where one is "
        "refused the others are admitted all the same, and the exit code is 1.",
    )  # fmt: skip
    revoked = command("revoke", _revoke, "end consents, by files of `datasov consent revoke`")
    for parser in (admitted, revoked):
        parser.add_argument("file", nargs="+", type=Path, metavar="FILE", help="what a resident handed over")

    asked = command(
        "ask", _ask, "answer a question in SQL with noise, or say what error to expect",
        "Asked again in the same data epoch, the same question gives the stored answer at no charge. Where devices "
        "answer (two servers, local trust) `collect` opens it, and this gives the answer after its end. docs/sql.md",
    )  # fmt: skip
    question_options(asked)
    asked.add_argument("--preview", action="store_true", help="spend nothing: say what error to expect")
    asked.add_argument(
        "--confidence", type=float, default=0.95, metavar="P", help="of intervals (default: %(default)s)"
    )
    asked.add_argument("--form", choices=["table", "csv", "json"], default="table", help="(default: %(default)s)")


def question_options(parser: argparse.ArgumentParser) -> None:
    """The options from which :func:`question_of` takes a question, and those of its loss, purpose and programme."""
    option = parser.add_argument
    option("sql", metavar="SQL", help="one SELECT, like 'SELECT district, COUNT(*) FROM trips GROUP BY 1'")
    option(
        "--table", action="append", type=Path, default=[], metavar="JSON",
        help="a table's schema (may be repeated); those of the catalogue are known by their names",
    )  # fmt: skip
    option("--rows", type=int, metavar="R", help="at most so many rows of a resident in each key")
    option("--keys", type=int, metavar="C", help="at most so many keys of a resident")
    option("--loss", type=approvals.loss, required=True, metavar="LOSS", help="like rho=0.02")
    option("--purpose", metavar="NAME", help="one that the city declares")
    option("--programme", metavar="HEX", help="the identity of the programme under which it is asked")


def question_of(options: argparse.Namespace) -> Query:
    """The question of :func:`question_options`; InvalidQueryError, InvalidDataError, StoreError where it is none."""
    schemas = [show.schema(path) for path in options.table]
    known = {s.name for s in schemas}
    schemas += [catalogue.schema(name) for name in catalogue.names() if name not in known]
    return sql(options.sql, schemas, rows=options.rows, keys=options.keys)


def under(options: argparse.Namespace) -> dict[str, Any]:
    """The purpose, the loss and the programme of a question that is asked."""
    if options.purpose is None:
        raise InvalidDataError("name the purpose with --purpose: `datasov city show` lists those of the city")
    programme = None if options.programme is None else _identity(options.programme)
    return {"loss": options.loss, "purpose": options.purpose, "programme": programme}


def _admit(options: argparse.Namespace) -> int:
    refused = 0
    with operator.open_city(options.city, options.operator_key_file) as city:
        for at in range(0, len(options.file), _ADMIT_AT_ONCE):
            refused += _admit_some(city, options.file[at : at + _ADMIT_AT_ONCE])
            _progress(min(at + _ADMIT_AT_ONCE, len(options.file)), len(options.file))
    _say(f"{len(options.file) - refused} admitted, {refused} refused.")
    return 1 if refused else 0


def _admit_some(city: City, paths: Sequence[Path]) -> int:
    pairs: list[tuple[bytes, bytes]] = []
    names: list[Path] = []
    faults: list[tuple[Path, DatasovError]] = []
    for path in paths:
        try:
            pairs.append(parcel.unparcel(outgoing.read(path, parcel.MOST, _HANDED)))
            names.append(path)
        except DatasovError as fault:
            faults.append((path, fault))
    faults += [(p, f) for p, f in zip(names, city.admit_many(pairs), strict=True) if f is not None]
    for path, why in faults:
        print(f"datasov: {path}: {why}", file=sys.stderr)
    return len(faults)


def _revoke(options: argparse.Namespace) -> int:
    refused = 0
    with operator.open_city(options.city, options.operator_key_file) as city:
        for path in options.file:
            try:
                city.revoke(outgoing.read(path, messages.MAX_NOTICE + 4096, _HANDED))
            except DatasovError as fault:
                refused += 1
                print(f"datasov: {path}: {fault}", file=sys.stderr)
    _say(f"{len(options.file) - refused} taken, {refused} refused.")
    return 1 if refused else 0


def _ask(options: argparse.Namespace) -> int:
    question = question_of(options)
    with operator.open_city(options.city, options.operator_key_file) as city:
        if options.preview:
            return _preview(city, question, options)
        release = city.release(question, **under(options))
        left = city.remaining
    _show(release, options)
    if release.trust.name != "central":
        approvals.say([f"{name}: {text}" for name, text in trusts.lines(release.trust)], to=sys.stderr)
    print(f"{options.loss} was the price, {left} is left.", file=sys.stderr)
    return 0


def _preview(city: City, question: Query, options: argparse.Namespace) -> int:
    found = city.preview(question, loss=options.loss, confidence=options.confidence)
    if options.form == "table":
        approvals.say(str(found).splitlines())
    else:
        _frame(found.frame, options.form)
    return 0


def _show(release: Release, options: argparse.Namespace) -> None:
    _frame(release.frame(options.confidence), options.form)


def _frame(frame: pl.DataFrame, form: str) -> None:
    if form == "csv":
        text = io.StringIO()
        frame.write_csv(text)
        print(text.getvalue(), end="", flush=True)
    elif form == "json":
        print(json.dumps(json.loads(frame.write_json()), ensure_ascii=False), flush=True)
    else:
        rows = [[_plain(value) for value in row] for row in frame.rows()]
        _say(show.table(frame.columns, rows))


def _plain(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def _identity(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise InvalidDataError("a programme's identity is 64 hexadecimal digits: see `datasov programme check`")
    return found


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\radmitted {done} of {total}" + ("\r\x1b[K" if done == total else ""), end="", file=sys.stderr, flush=True
        )


def _say(text: str) -> None:
    print(text, flush=True)
