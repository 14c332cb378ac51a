"""`datasov consent`: what a resident signs, from the command line."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasov.authority import parcel, qr
from datasov.commands import answering, approvals, outgoing, secret, show, trusts
from datasov.commands.nested import nested
from datasov.commands.outgoing import place
from datasov.errors import ConsentError, InvalidDataError, StoreError
from datasov.model.consent import CityId, Consent
from datasov.remote import Remote
from datasov.resident import Resident

_ABOUT = """A consent is signed in your vault and lets one city ask about one table, for one purpose, up to one loss.

`grant` signs one and keeps it: nothing leaves the vault. `contribute` writes what the city needs, the consent with the
covered columns sealed to the city, into one file: hand that over, and again whenever your rows have changed. `revoke`
writes the file that ends it. Both send a sealed letter instead where FILE is the address of the city's gateway, like
https://city.example: what became of it stands in the city's log.

Under two servers or local trust no row leaves the vault: `answer` answers each task of the city, also where you refuse.
IDs are those of `list`; a beginning of one is enough.

Exit codes: 0 done; 1 refused or failed; 2 cannot be run as asked."""
_SHOWN = 16
_LANGUAGES: tuple[Literal["ja", "en"], ...] = ("ja", "en")


def add(commands: Any) -> None:
    """Add `consent` with its commands to those of `datasov`."""
    command = nested(
        commands, "consent", "grant, list and revoke consents, and write what a city needs", _ABOUT, _vault
    )

    granted = command(
        "grant", _grant, "sign a consent for a table of the vault",
        "It says what it is about to sign, and asks. The whole loss is reserved in your lifetime account.",
    )  # fmt: skip
    granted.add_argument("table", metavar="TABLE", help="the table's name")
    granted.add_argument("--city", required=True, metavar="ID", help="the city's id, as `datasov city show` prints it")
    granted.add_argument("--purpose", required=True, metavar="NAME", help="one that the city declares")
    granted.add_argument(
        "--loss", type=approvals.loss, required=True, metavar="LOSS",
        help="the most that all answers may ever cost you, like rho=0.1",
    )  # fmt: skip
    granted.add_argument("--until", required=True, metavar="DATE", help="the last day, as 2027-12-31")
    granted.add_argument(
        "--column",
        action="append",
        metavar="NAME",
        help="only this column (may be repeated; all ordinary ones if none)",
    )
    granted.add_argument(
        "--special", action="append", default=[], metavar="NAME",
        help="also this column of the special class, 要配慮個人情報 (may be repeated)",
    )  # fmt: skip
    granted.add_argument("--jurisdiction", default="JP", metavar="CODE", help="ISO 3166 (default: %(default)s)")
    granted.add_argument("--processing", default="", metavar="CODE", help="only within this place, as JP-10")
    trusts.add_option(granted)
    granted.add_argument("--yes", action="store_true", help="do not ask")

    listed = command("list", _list, "list the consents that were granted and not revoked")
    listed.add_argument("--json", action="store_true", help="one JSON object on standard output")

    told = command("record", _record, "print a consent's record in plain words, in Japanese and English")
    told.add_argument("--language", choices=_LANGUAGES, help="one of the two")

    sent = command("contribute", _contribute, "write what the city needs into a new file",
                   "It replaces what was sent before.")  # fmt: skip
    ended = command("revoke", _revoke, "end a consent, and write what tells the city so into a new file",
                    "What was answered already stays answered.")  # fmt: skip
    paper = command("paper", _paper, "print a consent as one text for a QR code, of error correction level M")
    for parser in (told, sent, ended, paper):
        parser.add_argument("id", metavar="ID", help="the consent's, as `list` shows it")
    sent.add_argument("file", type=place, metavar="FILE", help="a path where nothing is yet, or an address")
    ended.add_argument(
        "file", type=place, metavar="FILE", nargs="?",
        help="a path where nothing is yet, or an address; only under central trust the city has to be told",
    )  # fmt: skip
    answering.add(command, _open)


def _vault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vault", type=Path, metavar="VAULT", help="the vault's folder")
    secret.add_options(parser)


def _open(options: argparse.Namespace) -> Resident:
    if not (options.vault / "VAULT").is_file():
        raise StoreError(f"no vault is at {options.vault}: check the path, or make one with `datasov vault create`")
    return Resident.open(options.vault, **secret.opening(options, f"Passphrase of {options.vault}"))


def _grant(options: argparse.Namespace) -> int:
    city = CityId.parse(options.city)
    trust = trusts.chosen(options, city, options.loss)
    with _open(options) as resident:
        schema = resident.tables().get(options.table)
        if schema is None:
            raise InvalidDataError(f"the vault has no table {options.table!r}: see `datasov vault show`")
        approvals.say([f"{name}: {text}" for name, text in trusts.lines(trust)])
        if not options.yes:
            columns = "all ordinary columns" if options.column is None else ", ".join(options.column)
            special = f", and of the special class {', '.join(options.special)}" if options.special else ""
            _agreed(
                f"You are about to let {city.name} ask about {schema.name} ({columns}{special}) for "
                f"{options.purpose!r} until {options.until}, at {options.loss} at most. Trust: {trusts.label(trust)}."
            )
        consent = resident.grant(
            city, schema, purpose=options.purpose, loss=options.loss, until=options.until, columns=options.column,
            special=options.special, jurisdiction=options.jurisdiction, processing=options.processing,
            trust=trust,
        )  # fmt: skip
    then = "contribute" if trust.name == "central" else "answer"
    _say(f"{_name(consent)} is granted and kept in the vault. Nothing has left it: see `datasov consent {then}`.")
    return 0


def _agreed(what: str) -> None:
    if not sys.stdin.isatty():
        raise secret.NoTerminalError("nobody to ask whether to sign: give --yes if you are sure")
    secret.interruptible()
    print(f"{what} Sign it? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConsentError("not signed: nothing was granted")


def _list(options: argparse.Namespace) -> int:
    with _open(options) as resident:
        found = [_told(consent) for consent in resident.consents]
    if options.json:
        _say(json.dumps({"consents": found}, ensure_ascii=False))
    elif found:
        heads = ["id", "city", "table", "purpose", "loss", "until", "trust"]
        _say(show.table(heads, [[row["id"][:_SHOWN], *(row[head] for head in heads[1:])] for row in found]))
    else:
        _say("No consent yet: grant one with `datasov consent grant`.")
    return 0


def _told(consent: Consent) -> dict[str, Any]:
    claims = consent.claims
    return {
        "id": consent.digest.hex(), "city": CityId.parse(claims.audience).name, "table": claims.coverage[0].table,
        "columns": [f"{c.table}.{name}" for c in claims.coverage for name in c.columns], "purpose": claims.purpose,
        "loss": str(claims.loss), "until": _date(claims.expires),
        "trust": trusts.label(claims.trust), "commits_to": claims.trust.text, "delegated": bool(claims.parent),
    }  # fmt: skip


def _record(options: argparse.Namespace) -> int:
    with _open(options) as resident:
        record = resident.record(_find(resident, options.id))
    for language in _LANGUAGES:
        if options.language in (None, language):
            approvals.say(record.text(language).splitlines())
    return 0


def _contribute(options: argparse.Namespace) -> int:
    outgoing.free(options.file)
    with _open(options) as resident:
        consent = _find(resident, options.id)
        if isinstance(options.file, str):
            return _send(options.file, resident.letter(consent))
        data = parcel.parcel(consent, resident.contribute(consent))
    outgoing.write(options.file, data)
    city = CityId.parse(consent.claims.audience).name
    _say(f"{options.file} holds the consent and {len(data):,} bytes that only {city} can open: hand it over.")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    outgoing.free(options.file)
    with _open(options) as resident:
        consent = _find(resident, options.id, resident.revoked)
        if consent.claims.trust.name != "central":
            resident.revoke(consent)
            _say(f"{_name(consent)} is revoked in the vault: from now on it answers for nothing. Nobody is to be told.")
            return 0
        if options.file is None:
            raise InvalidDataError("the city holds rows under this consent: name the FILE that is to end it there")
        if isinstance(options.file, str):
            return _send(options.file, resident.revocation_letter(consent))
        outgoing.write(options.file, resident.revoke(consent))
    _say(f"{_name(consent)} is revoked in the vault. {options.file} tells the city: hand it over.")
    return 0


def _paper(options: argparse.Namespace) -> int:
    with _open(options) as resident:
        text = qr.consent_to_text(_find(resident, options.id))
    _say(text)
    if sys.stdout.isatty():
        print(f"{len(text)} characters, QR version {qr.qr_version(text)}", file=sys.stderr)
    return 0


def _find(resident: Resident, text: str, more: Sequence[Consent] = ()) -> Consent:
    found = [c for c in (*resident.consents, *more) if text and c.digest.hex().startswith(text.lower())]
    if len(found) != 1:
        raise ConsentError(
            "more than one consent begins so: give more of the id" if found
            else "no such consent, or it was revoked: see `datasov consent list`"
        )  # fmt: skip
    return found[0]


def _name(consent: Consent) -> str:
    return consent.digest.hex()[:_SHOWN]


def _date(time: int) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _send(address: str, letter: bytes) -> int:
    with Remote(address) as remote:
        remote.send(letter)
    _say(f"Sent to {address}. When two ticks of the city are over, its log tells: datasov receipts VAULT --sent.")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
