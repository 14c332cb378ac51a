"""`datasov programme`: what a city may ask, written, signed, collected and checked with files."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.authority import approval
from datasov.authority.approval import Signed
from datasov.authority.charter import missing
from datasov.authority.programme import read_programme
from datasov.commands import approvals, operator, words
from datasov.commands.nested import nested
from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.model.programme import MECHANISMS, PROGRAMME
from datasov.model.schema import Schema

_ABOUT = """A programme says what a city under a charter may ask: for what purpose, of which tables and columns, by
which question or template of questions, at what loss, over how many residents, and until when. The council and the
assembly sign it.

new writes it, unsigned, as readable JSON. Each member signs it on a device of their own and sends the signature by
e-mail or on paper; one of them collects the signatures, and anybody checks. The city takes it up: datasov programme
approve, or city.approve. An emergency programme needs more signatures, starts at once and ends within days.

Exit codes: 0 done, and in check nothing is missing; 1 refused, or signatures are missing; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add `programme` with its commands to those of `datasov`."""
    inside = nested(commands, "programme", "write, sign, collect and check what a city may ask", _ABOUT)

    def command(name: str, help_: str, more: str = "") -> argparse.ArgumentParser:
        return inside(name, _RUN[name], help_, more)

    new = command(
        "new", "write a programme, unsigned",
        "Options go before what --from says. Give --question for one question, or the options of a template.",
    )  # fmt: skip
    new.add_argument("out", type=Path, metavar="OUT", help="a path where nothing is yet")
    new.add_argument("--charter", type=Path, required=True, metavar="SIGNED", help="the present charter, signed")
    new.add_argument("--from", dest="template", type=Path, metavar="JSON", help="a programme, or parts of one")
    _contents(new)
    _, _, check = approvals.shared(command, "programme")
    check.add_argument("--charter", type=Path, required=True, metavar="SIGNED", help="the charter that it names")
    approve = command("approve", "let a city on this machine take up a signed programme")
    approve.add_argument("city", type=Path, metavar="CITY", help="the city's folder")
    approve.add_argument("signed", type=Path, metavar="SIGNED", help="what `collect` wrote")
    operator.add_option(approve)


def _contents(new: argparse.ArgumentParser) -> None:
    for name, about in (
        ("name", "what it is called"), ("purpose", "as in the consents"), ("processing", "where: ISO 3166, like JP-25"),
    ):  # fmt: skip
        new.add_argument(f"--{name}", metavar="TEXT", help=about)
    for name, about in (
        ("version", "a later one of the same name takes the place of earlier ones (default: 1)"),
        ("cohort", "withhold cells with fewer residents, as counted with noise (default: 0)"),
        ("retention-days", "how long answers are kept"),
        ("period-days", "the length of a period"),
    ):  # fmt: skip
        new.add_argument(f"--{name}", type=int, metavar="N", help=about)
    for name, about in (
        ("largest", "the loss of one question, like rho=0.001"), ("total", "of all together"),
        ("period", "in a period"),
    ):  # fmt: skip
        new.add_argument(f"--{name}", type=approvals.loss, metavar="LOSS", help=about)
    new.add_argument("--not-before", type=approvals.moment, metavar="DAY", help="its start (default: at once)")
    new.add_argument("--expires", type=approvals.moment, metavar="DAY", help="its sunset")
    new.add_argument("--days", type=int, metavar="N", help="its sunset, so many days after its start")
    new.add_argument("--emergency", action="store_true", default=None, help="an emergency programme")
    new.add_argument("--mechanism", action="append", metavar="NAME", help="; ".join(MECHANISMS))
    new.add_argument("--trust", action="append", metavar="NAME", help="a trust model (default: central)")
    new.add_argument(
        "--table", action="append", metavar="FILE[:COLUMNS]",
        help="the schema of a table, as JSON, and the columns that may be read, by commas; the own table first",
    )  # fmt: skip
    new.add_argument("--question", type=Path, metavar="JSON", help="the one question: json.dumps(query.document())")
    new.add_argument(
        "--key", action="append", metavar="KEY", help="of a template: district, km:bin:5,10, at:day (may be repeated)"
    )
    new.add_argument(
        "--aggregate",
        action="append",
        metavar="KIND[:COLUMN]",
        help="of a template: count, distinct, sum:km, ...",
    )
    new.add_argument("--where", action="append", metavar="COLUMN", help="of a template: a where may read it")
    new.add_argument("--derived", action="append", metavar="COLUMN", help="of a template: a derived column allowed")
    for name, about in (
        ("rows", "rows of a resident in a key, at most"), ("keys", "keys of a resident, at most"),
        ("top", "keys of a top, at most"), ("steps", "steps of a series, at most"),
    ):  # fmt: skip
        new.add_argument(f"--{name}", type=int, metavar="N", help=f"of a template: {about}")


def _new(options: argparse.Namespace) -> int:
    charter = approvals.signed_charter(options.charter)
    now = approvals.now()
    document: dict[str, Any] = {
        "type": PROGRAMME, "version": 1, "emergency": False, "question": None, "template": None,
        "mechanisms": ["discrete Gaussian"], "trust": ["central"], "period_days": 0, "period": None, "cohort": 0,
        "not_before": now, **approvals.template_of(options.template),
        "city": charter.city, "charter": charter.version, "issued": now,
    }  # fmt: skip
    given = {
        **{n: getattr(options, n) for n in (
            "name", "purpose", "processing", "version", "cohort", "retention_days", "period_days", "not_before",
            "expires", "emergency", "trust",
        )},
        "mechanisms": options.mechanism,
        **{n: getattr(options, n) and getattr(options, n).document() for n in ("largest", "total", "period")},
        "tables": None if options.table is None else [_table(text) for text in options.table],
        "question": None if options.question is None else approval.parse(approvals.read(options.question)),
    }  # fmt: skip
    if str(document["not_before"]) < now:
        document["not_before"] = now  # a programme to begin with is older: this one cannot start before it is written
    document |= {name: value for name, value in given.items() if value is not None}
    if options.days is not None:
        start = dt.datetime.fromisoformat(document["not_before"])
        document["expires"] = (start + dt.timedelta(days=options.days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    _fill_template(options, document)
    return approvals.write_document(options.out, PROGRAMME, document)


def _fill_template(options: argparse.Namespace, document: dict[str, Any]) -> None:
    given = {
        "keys": options.key and [_key(text) for text in options.key],
        "aggregates": options.aggregate and [_aggregate(text) for text in options.aggregate],
        "where": options.where, "derived": options.derived, "rows": options.rows, "bound_keys": options.keys,
        "top": options.top, "steps": options.steps,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        empty = {
            "keys": [],
            "aggregates": [],
            "where": [],
            "derived": [],
            "rows": 1,
            "bound_keys": 1,
            "top": 0,
            "steps": 0,
        }
        document["template"] = {**empty, **(document["template"] or {}), **given}


def _table(text: str) -> dict[str, Any]:
    name, colon, columns = text.partition(":")
    try:
        schema = Schema.from_document(json.loads(approvals.read(Path(name))))
        found = [c for c in columns.split(",") if c] if colon else [n for n, _ in schema.items]
        for column in found:
            schema.column(column)
    except (ValueError, KeyError, TypeError) as why:
        reason = str(why) if isinstance(why, InvalidQueryError) else "it holds no schema as schema.document() gives it"
        raise InvalidDataError(f"--table {text}: {reason}") from None
    return {"name": schema.name, "schema": schema.digest.hex(), "columns": found}


def _key(text: str) -> dict[str, Any]:
    column, _, rest = text.partition(":")
    kind, _, cuts = rest.partition(":")
    return {"column": column, "kind": kind or "value", "cuts": cuts.split(",") if cuts else []}


def _aggregate(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    column, _, per = rest.partition(":per=")
    return {"kind": kind, "column": column, "per": per.split(",") if per else []}


def _check(options: argparse.Namespace) -> int:
    found = approvals.gathered(options, PROGRAMME)
    approvals.say(approvals.told(PROGRAMME, found.document))
    charter, programme = approvals.signed_charter(options.charter), read_programme(found)
    if programme.city != charter.city or programme.charter != charter.version:
        raise InvalidDataError(f"it is not under {options.charter}: see the version and the city of each")
    if programme.emergency and not charter.emergency_days:
        raise InvalidDataError("the charter foresees no emergencies: write an ordinary programme")
    by = approval.signers(found)
    approvals.say(words.standing(charter, by, emergency=programme.emergency))
    complete = not any(missing(charter, by, emergency=programme.emergency).values())
    approvals.say(["Nothing is missing." if complete else "Signatures are missing."])
    return 0 if complete else 1


def _approve(options: argparse.Namespace) -> int:
    with operator.open_city(options.city, options.operator_key_file) as city:
        found = city.approve(Signed.from_bytes(approvals.read(options.signed)))
        start = dt.datetime.fromtimestamp(found.starts, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        approvals.say([f"Approved: {found.identity.hex()}, from {start} on; its notice is in the log."])
    return 0


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new, "check": _check, "approve": _approve,
    "sign": lambda options: approvals.sign(options, PROGRAMME),
    "collect": lambda options: approvals.collect(options, PROGRAMME),
}  # fmt: skip
